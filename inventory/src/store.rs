//! The files: `inventory/MACHINE/TIME.json` whenever something changed, and `latest.json`, the newest word of the machine.

use crate::diff::diff;
use crate::identity::{Likeness, macs, telling, usable_uuid};
use crate::{diff::disk_line, diff::same_disk, owner};
use jiff::Timestamp;
use pitstop_api::inventory::{Facts, InventoryChange};
use pitstop_protocol::facts::LARGEST;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Below the root.
pub const FOLDER: &str = "inventory";
const LATEST: &str = "latest.json";
const SUFFIX: &str = ".json";
/// Of a copy: `20261129T013000Z.json`. Files of other names are nobody's.
const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// Whoever makes machines up fills no disk.
const MOST_MACHINES: usize = 20_000;
/// Copies that are kept of a machine. One that changes at each boot loses its oldest.
const MOST_COPIES: usize = 1000;
/// Bytes of a folder's name.
const LONGEST_NAME: usize = 64;
/// How long what was read is taken for what is there.
const FRESH: Duration = Duration::from_secs(2);
/// A clock that is further ahead than this, in seconds, is wrong.
const AHEAD: i64 = 300;

/// A machine's newest facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its folder's name.
    pub folder: String,
    pub facts: Facts,
    /// Changes with the file.
    pub stamp: String,
}

/// What became of facts that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    pub folder: String,
    /// The machine was not known.
    pub is_new: bool,
    /// Against what was known.
    pub changes: Vec<InventoryChange>,
    /// What is known is as new: nothing was done.
    pub is_old: bool,
}

/// The inventory below a root.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    known: Mutex<Looked>,
}

/// What is known, and when the files were last looked at.
#[derive(Debug, Default)]
struct Looked {
    known: BTreeMap<String, Known>,
    at: Option<Instant>,
}

impl Store {
    /// Nothing need be there.
    pub fn below(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
            known: Mutex::default(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All machines, as their files are now. One whose file cannot be read is left out: others are not lost by it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn machines(&self) -> io::Result<Vec<Known>> {
        let mut looked = self.locked();
        self.refresh(&mut looked)?;
        Ok(looked.known.values().cloned().collect())
    }

    /// Takes in what a machine says of itself at `now`. A copy is kept where something changed.
    ///
    /// # Errors
    /// It cannot be written, or there are too many machines.
    pub fn take(&self, mut facts: Facts, now: Timestamp) -> io::Result<Taken> {
        set_time(&mut facts, now);
        let (taken, copy) = {
            let mut looked = self.locked();
            // Many machines come at once, and nobody else writes these files.
            if looked.at.is_none_or(|at| at.elapsed() > FRESH) {
                self.refresh(&mut looked)?;
            }
            let known = &mut looked.known;
            let taken = resolve(known, &facts)?;
            if taken.is_old {
                return Ok(taken);
            }
            let copy = taken.is_new || !taken.changes.is_empty();
            // Whoever comes next finds it here, before it is on the disk.
            let entry = Known {
                folder: taken.folder.clone(),
                facts: facts.clone(),
                stamp: String::new(),
            };
            known.insert(taken.folder.clone(), entry);
            (taken, copy)
        };
        let written = self.write(&taken.folder, &facts, copy.then_some(now));
        if written.is_err() {
            self.locked().known.remove(&taken.folder);
        }
        written.map(|()| taken)
    }

    /// The copies of a machine and when they were taken, oldest first. What is no copy is passed over.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn history(&self, folder: &str) -> io::Result<Vec<(Timestamp, Facts)>> {
        let path = self.folder.join(folder);
        let copies = copies(&path)?.into_iter();
        Ok(copies
            .filter_map(|(time, name)| Some((time, read(&path.join(name)).ok()?)))
            .collect())
    }

    /// What is odd about a machine, for people: parts of it that another one has or had.
    pub fn notes(&self, folder: &str) -> io::Result<Vec<String>> {
        let machines = self.machines()?;
        let Some(this) = machines.iter().find(|known| known.folder == folder) else {
            return Ok(Vec::new());
        };
        let others = machines.iter().filter(|known| known.folder != folder);
        let mut notes = Vec::new();
        for other in others {
            let name = shown(&other.facts, &other.folder);
            let since = &other.facts.taken;
            let uuid = usable_uuid(&this.facts.uuid);
            if uuid.is_some() && uuid == usable_uuid(&other.facts.uuid) {
                notes.push(format!("{name} has the same UUID"));
            }
            for mac in macs(&this.facts) {
                if macs(&other.facts).contains(&mac) {
                    notes.push(format!("the card {mac} was in {name} on {since}"));
                }
            }
            for disk in telling(&this.facts.disks) {
                if telling(&other.facts.disks)
                    .into_iter()
                    .any(|it| same_disk(it, disk))
                {
                    notes.push(format!(
                        "the disk {} was in {name} on {since}",
                        disk_line(disk)
                    ));
                }
            }
        }
        notes.sort();
        notes.dedup();
        Ok(notes)
    }

    fn locked(&self) -> MutexGuard<'_, Looked> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what has changed since it was read.
    fn refresh(&self, looked: &mut Looked) -> io::Result<()> {
        let known = &mut looked.known;
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                known.clear();
                return Ok(());
            }
            entries => entries?,
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let Ok(folder) = entry?.file_name().into_string() else {
                continue;
            };
            let before = known.remove(&folder);
            if let Some(known) = self.look(&folder, before) {
                found.insert(folder, known);
            }
        }
        // What is being written is not there yet.
        known.retain(|_, known| known.stamp.is_empty());
        found.append(known);
        *known = found;
        looked.at = Some(Instant::now());
        Ok(())
    }

    fn look(&self, folder: &str, before: Option<Known>) -> Option<Known> {
        let path = self.folder.join(folder);
        let mut newest = path.join(LATEST);
        if !newest.exists() {
            // Somebody has removed it: the last copy is the next best.
            let last = copies(&path).ok().and_then(|mut copies| copies.pop());
            match last {
                Some((_, name)) => newest = path.join(name),
                None => return before.filter(|known| known.stamp.is_empty()),
            }
        }
        let file = fs::metadata(&newest).ok()?;
        let stamp = format!(
            "{}-{}.{}-{}",
            file.ino(),
            file.mtime(),
            file.mtime_nsec(),
            file.size()
        );
        match before {
            Some(known) if known.stamp == stamp => Some(known),
            _ => Some(Known {
                folder: folder.to_owned(),
                facts: read(&newest).ok()?,
                stamp,
            }),
        }
    }

    fn write(&self, folder: &str, facts: &Facts, copy: Option<Timestamp>) -> io::Result<()> {
        for path in [self.folder.clone(), self.folder.join(folder)] {
            match fs::create_dir(&path) {
                Ok(()) => owner::as_its_folder(&path)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let path = self.folder.join(folder);
        let text = facts.text().map_err(io::Error::other)?;
        if let Some(now) = copy {
            // The copy first: what changed is compared with the newest word.
            let file = replace(&path, &free_name(&path, now), &text)?;
            file.sync_all()?;
            drop_old(&path)?;
        }
        replace(&path, LATEST, &text).map(drop)
    }
}

/// What the machine is called where only its facts are known.
pub(crate) fn shown(facts: &Facts, folder: &str) -> String {
    let names = [&facts.name, &facts.address];
    let told = names.into_iter().find(|name| !name.is_empty());
    told.map_or(folder, |name| name).to_owned()
}

/// A machine without a clock, or with a wrong one, is taken at the server's.
fn set_time(facts: &mut Facts, now: Timestamp) {
    let told: Option<Timestamp> = facts.taken.parse().ok();
    let time = told.filter(|time| time.as_second() <= now.as_second().saturating_add(AHEAD));
    facts.taken = rfc3339(time.unwrap_or(now));
}

pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whose facts these are, and what is new of them.
fn resolve(known: &BTreeMap<String, Known>, facts: &Facts) -> io::Result<Taken> {
    let alike = known.values().filter_map(|known| {
        let like = Likeness::of(&known.facts, facts);
        like.is_same().then_some((known, like))
    });
    let best = alike.max_by_key(|(known, like)| {
        let newer = &known.facts.taken;
        (like.alike, like.uuid, std::cmp::Reverse(like.other), newer)
    });
    let Some((before, _)) = best else {
        if known.len() >= MOST_MACHINES {
            return Err(io::Error::other(format!(
                "there are {MOST_MACHINES} machines already: remove folders that are none from inventory/"
            )));
        }
        return Ok(Taken {
            folder: new_name(known, facts),
            is_new: true,
            ..Taken::default()
        });
    };
    let folder = before.folder.clone();
    if before.facts.taken >= facts.taken {
        return Ok(Taken {
            folder,
            is_old: true,
            ..Taken::default()
        });
    }
    Ok(Taken {
        folder,
        changes: diff(&before.facts, facts),
        ..Taken::default()
    })
}

/// A folder's name that no machine has yet.
fn new_name(known: &BTreeMap<String, Known>, facts: &Facts) -> String {
    let uuid = usable_uuid(&facts.uuid).unwrap_or_default();
    let mac = macs(facts)
        .first()
        .copied()
        .unwrap_or_default()
        .replace(':', "-");
    let names = [uuid, &mac, &facts.address, "machine"];
    let told = names
        .into_iter()
        .map(file_name)
        .find(|name| !name.is_empty());
    let name = told.unwrap_or_default();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    // There are more numbers than machines.
    candidates
        .find(|name| !known.contains_key(name))
        .unwrap_or(name)
}

/// What a machine says of itself becomes no path.
fn file_name(text: &str) -> String {
    let allowed = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.');
    let name: String = allowed.take(LONGEST_NAME).collect();
    name.trim_start_matches('.').to_owned()
}

/// Times and names of the copies in a folder, oldest first.
fn copies(path: &Path) -> io::Result<Vec<(Timestamp, String)>> {
    let entries = match fs::read_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if let Some(time) = name.strip_suffix(SUFFIX).and_then(time_of) {
            found.push((time, name.into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn time_of(stem: &str) -> Option<Timestamp> {
    let parsed = jiff::civil::DateTime::strptime(STAMP, stem).ok()?;
    parsed
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// The name of a copy of `now`, or of the next second that has none.
fn free_name(path: &Path, now: Timestamp) -> String {
    let name = |second: i64| {
        let time = Timestamp::from_second(now.as_second().saturating_add(second)).unwrap_or(now);
        format!("{}{SUFFIX}", time.strftime(STAMP))
    };
    let free = (0..60).map(name).find(|name| !path.join(name).exists());
    free.unwrap_or_else(|| name(0))
}

fn drop_old(path: &Path) -> io::Result<()> {
    let copies = copies(path)?;
    let many = copies.len().saturating_sub(MOST_COPIES);
    for (_, name) in copies.iter().take(many) {
        fs::remove_file(path.join(name))?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Facts> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST as u64 + 1)
        .read_to_end(&mut bytes)?;
    Facts::parse(&bytes).map_err(io::Error::other)
}

/// Puts a whole file in place at once. Returns it, for whoever wants it on the disk.
fn replace(folder: &Path, name: &str, text: &str) -> io::Result<File> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    owner::as_its_folder(file.path())?;
    file.persist(folder.join(name)).map_err(|error| error.error)
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
