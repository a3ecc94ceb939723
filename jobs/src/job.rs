//! A job's file, as written: strict TOML, version 1.

use crate::order::Order;
use crate::state::State;
use crate::turns::{Claim, Place};
use jiff::Timestamp;
use pitstop_protocol::host_name::{HostName, SUFFIX};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::beside::Unsigned;
use pitstop_protocol::job::hostfile::{HostFile, Secret};
use pitstop_protocol::job::{ActionName, Distribute, Word};
use pitstop_protocol::tree::TreeName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The only version there is.
pub const VERSION: u32 = 1;

/// No file of a job is larger.
pub const MOST_BYTES: u64 = 1 << 20;

/// How the last try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    Failed,
    /// Nothing was heard of it any more.
    Lost,
    /// Its time passed, and it was not set.
    Missed,
}

/// How a machine is brought to the network boot that begins its job, when that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Off, and on again.
    Cycle,
    On,
}

/// One job of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    pub version: u32,
    pub id: Id,
    /// By what the host file is named: an address, a MAC, a UUID.
    pub machine: String,
    /// Its name in the fleet file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(serialize_with = "name_of", deserialize_with = "by_name")]
    pub action: ActionName,
    /// The host file's name in `hosts/`.
    pub host_file: String,
    /// The other names that a host file of this machine could have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_files: Vec<String>,
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why it is where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub set: Timestamp,
    /// `user@host`
    pub set_by: String,
    pub changed: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// When it is due; of `every` the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// A cron expression: a job like this one is set each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Up to when `every` was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The job with `every` that set this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Id>,
    /// The backup whose image it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Id>,
    /// Its machine has written a part of that image, in this try or an earlier one: its disk does not boot before the job is done.
    #[serde(default, skip_serializing_if = "is_false")]
    pub written: bool,
    /// The jobs that were set together.
    pub batch: Id,
    /// How many of them are at work at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Its place among them.
    #[serde(default)]
    pub place: u32,
    #[serde(default)]
    pub order: Order,
    /// Where somebody moved it to in the queue: those with a lower number come first, those without one last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<i64>,
    /// The machine's groups in the fleet file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The machine's folder on the share, where it can be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The URL of the server that keeps track of it; without one the files alone tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default)]
    pub attempts: u32,
    /// The last tries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Id>,
    /// What is switched when it is due; left out where nothing is, or where that was done when it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The host file, without what the server adds to it.
    pub text: String,
    /// minisign's signature of the text, which then goes out as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What goes into `hosts/` for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFiles {
    pub text: String,
    /// Beside it, of a signed job.
    pub signature: Option<String>,
    /// Beside it, of a signed job: where the machine checks in and reports.
    pub unsigned: Option<String>,
}

/// Whether a host file's name is an address, which goes from machine to machine.
fn is_address(file: &str) -> bool {
    let stem = file.strip_suffix(SUFFIX).and_then(HostName::from_stem);
    matches!(stem, Some(HostName::Ip(_)))
}

/// A file that is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job file {file}: {what}")]
pub struct BadJob {
    pub file: String,
    pub what: String,
}

impl Job {
    /// Reads the text of the file named `file`.
    ///
    /// # Errors
    /// What is wrong with it, with line and column where TOML tells.
    pub fn parse(text: &str, file: &str) -> Result<Self, BadJob> {
        let bad = |what: String| BadJob {
            file: file.to_owned(),
            what: what.trim_end().to_owned(),
        };
        let job: Self = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        if job.version != VERSION {
            let version = job.version;
            return Err(bad(format!(
                "version = {version}: this Pitstop reads version {VERSION}"
            )));
        }
        let plain = |name: &str| {
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            name.ends_with(SUFFIX) && !name.starts_with('.') && name.bytes().all(safe)
        };
        if let Some(file) = job.files().find(|file| !plain(file)) {
            return Err(bad(format!("{file:?} is no host file's name")));
        }
        Ok(job)
    }

    pub fn to_toml(&self) -> String {
        // Every field has a form in TOML, so this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// Whether it is about the machine that `other` is about. Cards and UUIDs tell. Where one of the two jobs names none, an
    /// address of both tells, or one name in the fleet file. Where both do, an address says nothing by itself: it was first the
    /// one's and then the other's.
    pub fn is_of_machine(&self, other: &Self) -> bool {
        self.is_of(&other.files(), other.name.as_deref())
    }

    /// The same of a machine by its names: `files` are those of its host files, `name` is that in the fleet file.
    pub fn is_of<'a>(
        &self,
        files: &(impl Iterator<Item = &'a String> + Clone),
        name: Option<&str>,
    ) -> bool {
        let theirs = |file: &&String| files.clone().any(|theirs| theirs == *file);
        let mut shared = self.files().filter(theirs).peekable();
        let tells = |file: &String| !is_address(file);
        let both_tell = || self.files().any(tells) && files.clone().any(tells);
        let has_name = name.is_some() && self.name.as_deref() == name;
        if shared.peek().is_none() {
            return has_name && !both_tell();
        }
        has_name || shared.any(tells) || !both_tell()
    }

    /// Every name that a host file of its machine can have.
    pub fn files(&self) -> impl Iterator<Item = &String> + Clone {
        std::iter::once(&self.host_file).chain(&self.other_files)
    }

    /// From when on its machine can be at work for it: when it was set, or was due after that. Of one that ended before it was
    /// due that is its end: it is not the last that its machine had until a day that never came for it.
    pub fn since(&self) -> Timestamp {
        // A job that comes again and again is a plan for others.
        let at = self.at.filter(|_| self.every.is_none());
        let since = at.map_or(self.set, |at| at.max(self.set));
        self.ended.map_or(since, |ended| since.min(ended))
    }

    /// What of it matters for its turn.
    pub fn claim(&self) -> Claim {
        let file = HostFile::parse(self.text.as_bytes(), &self.host_file).ok();
        Claim {
            job: self.id.clone(),
            batch: self.batch.clone(),
            turn: self.turn,
            place: self.place,
            slots: self.slots,
            groups: self.groups.clone(),
            chain: file.as_ref().and_then(|file| self.chain(file)),
            writes: file.as_ref().and_then(|file| self.writes(file)),
        }
    }

    /// What it gets, if it has that from other machines for certain: without an index, say, an image that may come from others
    /// comes from the server all the same.
    fn chain(&self, file: &HostFile) -> Option<String> {
        let is_swarm = file.distribute.as_deref() == Some(Distribute::Swarm.word());
        self.gets(file).filter(|_| is_swarm)
    }

    /// What its machine gets all of: a folder of images, or a tree by its place on the share.
    pub fn gets(&self, file: &HostFile) -> Option<String> {
        match self.action {
            ActionName::Restore => file.image.clone(),
            ActionName::Deploy | ActionName::Run => {
                let tree: TreeName = file.tree.as_ref()?.parse().ok()?;
                tree.place()
            }
            _ => None,
        }
    }

    /// Where its images go, as far as that can be known before the machine has come.
    fn writes(&self, file: &HostFile) -> Option<Place> {
        if !matches!(self.action, ActionName::Backup | ActionName::BackupAgain) {
            return None;
        }
        let folder = match (&file.image, &self.folder) {
            (Some(image), Some(own)) => image.replace("{ip}", own),
            (image, own) => image.clone().or_else(|| own.clone())?,
        };
        let folder = folder.trim_matches('/').to_owned();
        let share = file.share.clone().unwrap_or_default();
        (!folder.contains('{')).then_some(Place { share, folder })
    }

    /// The job that this one, with `every`, sets for the time `due`. Those of one command and one time share their slots.
    #[must_use]
    pub fn occurrence(&self, id: Id, due: Timestamp, now: Timestamp) -> Self {
        let tail = self.batch.as_str().rsplit('-').next();
        let tail = tail.and_then(|tail| u32::from_str_radix(tail, 16).ok());
        Self {
            id,
            batch: Id::new(due, tail.unwrap_or_default()),
            series: Some(self.id.clone()),
            state: State::Waiting,
            set: now,
            changed: now,
            at: None,
            every: None,
            last: None,
            turn: None,
            reason: None,
            ..self.clone()
        }
    }

    /// The same job, set again together with those of `batch`.
    #[must_use]
    pub fn again(&self, id: Id, batch: Id, set_by: &str, now: Timestamp) -> Self {
        Self {
            id,
            batch,
            state: State::Waiting,
            // Who repeats it sees to the machine.
            power: None,
            verdict: None,
            reason: None,
            set: now,
            set_by: set_by.to_owned(),
            changed: now,
            ended: None,
            at: None,
            every: None,
            last: None,
            turn: None,
            attempts: 0,
            runs: Vec::new(),
            superseded_by: None,
            ..self.clone()
        }
    }

    /// The name of its file in `jobs/`.
    pub fn file(&self) -> String {
        file(&self.id)
    }

    /// As people know the machine.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.machine)
    }

    /// What goes into `hosts/`: the job's text, where the machine checks in, and where it reports with `token`. What the
    /// text says of that itself stays. A text that is signed stays as it is.
    pub fn host_files(&self, token: Option<&str>) -> HostFiles {
        let mut text = self.text.clone();
        let added = self.added(token).to_toml();
        let Some(signature) = &self.signature else {
            if !added.is_empty() {
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(&added);
            }
            return HostFiles {
                text,
                signature: None,
                unsigned: None,
            };
        };
        HostFiles {
            text,
            signature: Some(signature.clone()),
            unsigned: (!added.is_empty()).then_some(added),
        }
    }

    fn added(&self, token: Option<&str>) -> Unsigned {
        let Some(server) = &self.server else {
            return Unsigned::default();
        };
        let said: toml::Table = toml::from_str(&self.text).unwrap_or_default();
        let url = |of: &str| Some(format!("{server}/{of}/{}", self.id));
        let reports = token.is_some() && !said.contains_key("report");
        Unsigned {
            // A person who looks at a console sees no use in waiting for a slot, and none is used up; nor by a machine that
            // runs a tree, which comes at every boot.
            check_in: url("check-in").filter(|_| self.is_tracked()),
            report: url("report").filter(|_| reports),
            report_token: token
                .filter(|_| reports)
                .map(|token| Secret(token.to_owned())),
            // Whether the share wants one, its server knows.
            token: None,
        }
    }

    /// Whether its machine finds a host file of it, if nobody removed that: also of one that failed, which is there for another
    /// try, and of one that is for every boot.
    pub fn leaves_host_file(&self) -> bool {
        match self.state {
            State::Waiting | State::Queued | State::Running => self.superseded_by.is_none(),
            State::Failed => self.verdict != Some(Verdict::Missed),
            State::Done => self.action.is_repeated(),
            State::Scheduled | State::Cancelled | State::Superseded => false,
        }
    }

    /// Whether its machine may be reading or writing images now: who was withdrawn from may be at it still.
    pub fn may_be_at_work(&self) -> bool {
        let has_begun = self.verdict.is_none() && !self.runs.is_empty();
        self.state == State::Running || (self.state.is_withdrawn() && has_begun)
    }

    /// Whether the machine tells the server how it goes.
    pub fn is_tracked(&self) -> bool {
        self.server.is_some() && !self.action.is_repeated()
    }
}

/// The name of a job's file.
pub fn file(id: &Id) -> String {
    format!("{id}{SUFFIX}")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// serde gives it the field by reference.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn name_of<S: Serializer>(action: &ActionName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.as_str())
}

fn by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ActionName, D::Error> {
    let word = String::deserialize(deserializer)?;
    word.parse().map_err(serde::de::Error::custom)
}

/// A job that was just set.
#[cfg(test)]
pub fn sample() -> Job {
    let id = Id::new(Timestamp::UNIX_EPOCH, 0x00ab_cdef);
    Job {
        version: VERSION,
        id: id.clone(),
        machine: "10.0.2.15".into(),
        name: Some("lab3-01".into()),
        action: ActionName::Backup,
        host_file: "0A00020F.toml".into(),
        other_files: Vec::new(),
        state: State::Waiting,
        verdict: None,
        reason: None,
        set: Timestamp::UNIX_EPOCH,
        set_by: "root@server".into(),
        changed: Timestamp::UNIX_EPOCH,
        ended: None,
        at: None,
        every: None,
        last: None,
        series: None,
        follows: None,
        written: false,
        batch: id,
        slots: None,
        place: 0,
        order: Order::Given,
        turn: None,
        groups: vec!["lab3".into()],
        folder: Some("10.0.2.15".into()),
        server: Some("http://10.0.2.2:8080".into()),
        attempts: 0,
        runs: Vec::new(),
        superseded_by: None,
        power: None,
        text: "version = 1\naction = \"backup\"\n".into(),
        signature: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_that_is_withdrawn_before_it_was_due_is_not_the_last_until_then() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut job = sample();
        job.at = Some(at(600));
        assert_eq!(job.since(), at(600));
        let what = crate::Happened::Cancelled { by: "root".into() };
        job.apply(&what, at(5));
        assert_eq!(job.since(), at(5));
    }

    #[test]
    fn a_machine_is_known_by_any_of_its_names() {
        let named = |address: &str| Job {
            host_file: format!("{address}.toml"),
            other_files: vec!["01-52-54-00-00-0c-01.toml".into()],
            ..sample()
        };
        assert!(named("7F000101").is_of_machine(&named("7F000103")));
        let of = |name: &str, card: u8| Job {
            name: Some(name.into()),
            other_files: vec![format!("01-52-54-00-00-0c-0{card}.toml")],
            ..named("7F000101")
        };
        assert!(of("a", 1).is_of_machine(&of("a", 2)), "a new card");
        assert!(of("a", 1).is_of_machine(&of("b", 1)), "a new name");
        assert!(
            !of("a", 1).is_of_machine(&of("b", 2)),
            "one address, first a's and then b's"
        );
        let by_address = Job {
            other_files: Vec::new(),
            ..of("b", 2)
        };
        assert!(of("a", 1).is_of_machine(&by_address));
        let moved = |name: &str| Job {
            host_file: "7F000109.toml".into(),
            name: Some(name.into()),
            ..by_address.clone()
        };
        assert!(by_address.is_of_machine(&moved("b")), "a new address");
        assert!(!by_address.is_of_machine(&moved("c")));
    }

    #[test]
    fn who_has_an_image_or_a_tree_from_others_for_certain_is_in_a_chain() {
        let chain = |action: ActionName, keys: &str| {
            let text = format!("version = 1\naction = \"{action}\"\n{keys}\n");
            let job = Job {
                action,
                text,
                ..sample()
            };
            job.claim().chain
        };
        let swarm = "distribute = \"swarm\"";
        for (action, keys, of) in [
            (ActionName::Restore, "image = \"golden\"", Some("golden")),
            (ActionName::Deploy, "tree = \"web\"", Some("trees/web")),
            (
                ActionName::Deploy,
                "tree = \"web@1\"",
                Some("trees/web/1.tar.gz"),
            ),
            (ActionName::Deploy, "tree = \"http://srv/web.tar.gz\"", None),
            (ActionName::Update, "tree = \"web\"", None),
            (ActionName::Backup, "image = \"golden\"", None),
        ] {
            let found = chain(action, &format!("{keys}\n{swarm}"));
            assert_eq!(found.as_deref(), of, "{action} {keys}");
            assert_eq!(chain(action, keys), None);
        }
    }

    #[test]
    fn a_file_reads_back_and_says_what_is_wrong() {
        let job = sample();
        let text = job.to_toml();
        assert_eq!(Job::parse(&text, "x.toml"), Ok(job));
        for (from, to, why) in [
            ("state = \"waiting\"", "state = \"lost\"", "unknown variant"),
            ("version = 1", "version = 2", "reads version 1"),
            ("action = \"backup\"", "action = \"melt\"", "unknown action"),
            ("0A00020F.toml", "../etc/passwd.toml", "no host file's name"),
            ("0A00020F.toml", "passwd", "no host file's name"),
            ("place = 0", "plaice = 0", "unknown field"),
        ] {
            let wrong = text.replacen(from, to, 1);
            let error = Job::parse(&wrong, "x.toml").unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("x.toml"), "{error}");
        }
    }

    #[test]
    fn the_host_file_has_where_to_check_in() {
        let mut job = sample();
        let text_of = |job: &Job, token| job.host_files(token).text;
        let door = "check-in = \"http://10.0.2.2:8080/check-in/19700101-000000-abcdef\"\n";
        assert_eq!(text_of(&job, None), format!("{}{door}", job.text));
        let report = "report = \"http://10.0.2.2:8080/report/19700101-000000-abcdef\"\nreport-token = \"t\"\n";
        assert_eq!(
            text_of(&job, Some("t")),
            format!("{}{door}{report}", job.text)
        );
        let signed = Job {
            signature: Some("s".into()),
            ..job.clone()
        };
        let files = signed.host_files(Some("t"));
        assert_eq!(
            files.text, job.text,
            "not a byte of what is signed is changed"
        );
        assert_eq!(files.signature.as_deref(), Some("s"));
        assert_eq!(files.unsigned, Some(format!("{door}{report}")));
        assert_eq!(Job::parse(&signed.to_toml(), "x.toml"), Ok(signed));
        job.text.push_str("report = \"http://other/\"\n");
        assert_eq!(text_of(&job, Some("t")), format!("{}{door}", job.text));
        job.server = None;
        assert_eq!(text_of(&job, None), job.text);
        assert!(!job.is_tracked());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            prop_assert!(Job::parse(&text, "x.toml").is_err());
        }
    }
}
