//! The jobs of one `host set`: one a machine, set together.

use super::target::Target;
use super::{Many, Wish};
use crate::jobs::Store;
use anyhow::{Context, bail};
use cap_std::fs::Dir;
use jiff::{Timestamp, Zoned};
use pitstop_jobs::{Cron, Job, Power, State, VERSION};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ActionName;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;

/// Jobs that are set under one lock: a second's. Then others get their turn.
const AT_ONCE: usize = 250;

/// A job of a machine, checked.
pub struct Checked<'a> {
    pub target: &'a Target,
    pub text: &'a str,
    pub signature: Option<&'a str>,
}

/// What the jobs have in common.
pub struct Batch<'a> {
    store: Store,
    many: &'a Many,
    id: Id,
    now: Zoned,
    set_by: String,
    /// The URL of the server that keeps track of them.
    server: Option<String>,
    /// The machines' places in the queue, by host file.
    places: HashMap<String, u32>,
    /// When they are due, if not at once.
    at: Option<Timestamp>,
    /// What the server switches then.
    power: Option<Power>,
    /// The backup whose image they wait for.
    follows: Option<Id>,
}

impl<'a> Batch<'a> {
    pub fn new(
        root: &Path,
        wish: &'a Wish,
        server: Option<String>,
        targets: &[&Target],
    ) -> anyhow::Result<Self> {
        let many = &wish.many;
        let store = Store::at(root);
        let now = Zoned::now();
        let at = match &many.every {
            Some(every) => Cron::parse(every, now.time_zone())?.next(now.timestamp()),
            None => many.at,
        };
        Ok(Self {
            places: places(&store, many, targets)?,
            id: store.lock()?.new_id(now.timestamp())?,
            set_by: wish.by.clone(),
            store,
            many,
            now,
            server,
            at,
            power: wish.power,
            follows: wish.follows.as_ref().map(|follows| follows.job.clone()),
        })
    }

    /// Whether the host files are written later, by the server.
    pub fn is_scheduled(&self) -> bool {
        self.at.is_some()
    }

    /// When the jobs are due, as a line for people; nothing if that is now.
    pub fn due(&self) -> String {
        let Some(at) = self.at else {
            return String::new();
        };
        let at = at.to_zoned(self.now.time_zone().clone());
        let again = if self.many.every.is_some() {
            ", and again each time that --every says"
        } else {
            ""
        };
        format!(
            "Due at {}{again}; pitstop serve must run then and sets it. From then on:\n",
            at.strftime("%Y-%m-%d %H:%M %:z")
        )
    }

    /// Sets jobs, each of another machine.
    pub fn set(
        &self,
        hosts: &Dir,
        action: ActionName,
        checked: &[Checked],
    ) -> anyhow::Result<Vec<Job>> {
        let mut set = Vec::new();
        for some in checked.chunks(AT_ONCE) {
            let locked = self.store.lock()?;
            let mut ids = HashSet::new();
            let mut jobs = Vec::new();
            for one in some {
                // Not the batch's: somebody was asked in between, and machines were at work.
                let now = Timestamp::now();
                let mut id = locked.new_id(now)?;
                while !ids.insert(id.clone()) {
                    id = locked.new_id(Timestamp::now())?;
                }
                jobs.push(self.job(id, one, action, now));
            }
            if self.is_scheduled() {
                locked.put_all(&jobs)?;
            } else {
                let texts = locked.set_all(hosts, &jobs)?;
                // Under the lock: the next one who sets a job may be quick.
                for (job, text) in jobs.iter().zip(texts) {
                    check_written(self.store.root(), hosts, &job.host_file, &text)?;
                }
            }
            set.append(&mut jobs);
        }
        Ok(set)
    }

    fn job(&self, id: Id, one: &Checked, action: ActionName, now: Timestamp) -> Job {
        let target = one.target;
        let file = target.machine.file();
        let mut others = target.files();
        others.retain(|other| *other != file);
        Job {
            version: VERSION,
            id,
            machine: target.machine.to_string(),
            name: target.label.clone(),
            action,
            place: self.places.get(&file).copied().unwrap_or_default(),
            host_file: file,
            other_files: others,
            state: if self.is_scheduled() {
                State::Scheduled
            } else {
                State::Waiting
            },
            verdict: None,
            reason: None,
            set: now,
            set_by: self.set_by.clone(),
            changed: now,
            ended: None,
            at: self.at,
            every: self.many.every.clone(),
            last: self.many.every.is_some().then_some(now),
            series: None,
            follows: self.follows.clone(),
            written: false,
            batch: self.id.clone(),
            slots: self.many.slots,
            order: self.many.order,
            turn: None,
            groups: target.groups.clone(),
            folder: target.folder(),
            server: self.server.clone(),
            attempts: 0,
            runs: Vec::new(),
            superseded_by: None,
            power: self.power.filter(|_| self.is_scheduled()),
            text: one.text.to_owned(),
            signature: one.signature.map(str::to_owned),
        }
    }
}

/// Whether the file is where a server of the root will find it: the folder may have been replaced by another one. A machine that
/// is done by now has deleted it.
fn check_written(root: &Path, hosts: &Dir, file: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join("hosts").join(file);
    let found = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !hosts.exists(file) => return Ok(()),
        found => found.with_context(|| format!("reading {} back", path.display()))?,
    };
    if found != text {
        bail!(
            "{} holds something else than was written: somebody else writes there at the same time, or the folder was replaced",
            path.display()
        );
    }
    Ok(())
}

fn places(store: &Store, many: &Many, targets: &[&Target]) -> anyhow::Result<HashMap<String, u32>> {
    let mut ended: HashMap<String, Timestamp> = HashMap::new();
    for entry in store.history()? {
        ended.insert(entry.host_file, entry.ended);
    }
    let named: Vec<(String, Option<Timestamp>)> = targets
        .iter()
        .map(|target| {
            let name = target.label.clone();
            let last = target
                .files()
                .iter()
                .filter_map(|file| ended.get(file))
                .max()
                .copied();
            (name.unwrap_or_else(|| target.machine.to_string()), last)
        })
        .collect();
    let named: Vec<_> = named
        .iter()
        .map(|(name, last)| (name.as_str(), *last))
        .collect();
    let order = many.order.places(&named);
    Ok((0..)
        .zip(order)
        .filter_map(|(place, at)| Some((targets.get(at)?.machine.file(), place)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;

    #[test]
    fn a_host_file_that_its_machine_has_deleted_was_written_and_one_in_another_folder_was_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hosts");
        fs::create_dir(&path).unwrap();
        let hosts = Dir::open_ambient_dir(&path, ambient_authority()).unwrap();
        let check = || check_written(root.path(), &hosts, "h.toml", "a");
        check().unwrap();
        hosts.write("h.toml", "a").unwrap();
        check().unwrap();
        hosts.write("h.toml", "b").unwrap();
        let error = check().unwrap_err().to_string();
        assert!(error.contains("holds something else"), "{error}");
        fs::rename(&path, root.path().join("before")).unwrap();
        fs::create_dir(&path).unwrap();
        let error = check().unwrap_err().to_string();
        assert!(
            error.contains("reading") && error.contains("back"),
            "{error}"
        );
    }
}
