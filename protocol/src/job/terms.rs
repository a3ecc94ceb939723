//! The terms of a job: whom it is for, until when, of which images, and that it is done once. A signed job has all of
//! them; on a machine that asks for no signature those that are given hold too.

use crate::digest::Digest;
use crate::host_name::{Mac, Uuid};
use crate::job::hostfile::{HostFile, WrittenFor, WrittenTime};
use crate::job::{Action, ActionName, DiskSelector, ImageProof, Job, check_folder};
use jiff::Timestamp;
use pitstop_imaging::image::MachineIdentity;
use std::collections::BTreeMap;
use std::fmt;

/// The folder on the share that remembers which ids are done.
pub const NOTES: &str = "signed-jobs";

/// Where on the share it is noted that the job `id` is begun, and done.
pub fn note(id: &str) -> String {
    format!("{NOTES}/{id}.toml")
}

/// The folder on the share that remembers which machines have done their part of a round.
pub const ROUNDS: &str = "rounds";

/// Where on the share it is noted that the machine with this name is in a round, and through.
pub fn note_of_round(round: &str, machine: &str) -> String {
    format!("{ROUNDS}/{round}/{machine}.toml")
}

/// The longest `id`: it becomes the name of a file on the share.
const LONGEST_ID: usize = 64;

/// A machine by what only it has. All that is given must be its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeantFor {
    pub mac: Option<Mac>,
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
}

/// What holds of a job beside the work. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    pub meant_for: Option<MeantFor>,
    /// By file name in the image folder.
    pub digests: BTreeMap<String, Digest>,
    pub not_after: Option<Timestamp>,
    /// Safe as a file's name.
    pub id: Option<String>,
    pub images: ImageProof,
    /// The job is every machine's, and each does it once. Safe as a file's name.
    pub round: Option<String>,
}

/// How far this machine's clock can be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// It was not before the making of the initramfs, or a time server has set it.
    #[default]
    Plausible,
    /// It was before that when the machine started, and nobody has told the time since.
    Behind,
}

impl fmt::Display for MeantFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = [
            self.mac.map(|mac| format!("MAC {mac}")),
            self.uuid.map(|uuid| format!("UUID {uuid}")),
            self.serial
                .as_ref()
                .map(|serial| format!("serial {serial}")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        f.write_str(&facts.join(", "))
    }
}

impl MeantFor {
    /// Whether `this` is the machine: by all that is given.
    ///
    /// # Errors
    /// Names what differs, and what this machine has instead.
    pub fn check(&self, this: &MachineIdentity) -> Result<(), String> {
        let has = |known: &str| match known {
            "" => "this machine tells none".to_owned(),
            known => format!("this machine has {known}"),
        };
        let differs = |what: &str, wanted: String, known: &str| {
            format!(
                "it is for another machine, with {what} {wanted}; {}",
                has(known)
            )
        };
        if let Some(mac) = self.mac
            && !this.macs.contains(&mac.to_string())
        {
            return Err(differs(
                "MAC address",
                mac.to_string(),
                &this.macs.join(", "),
            ));
        }
        if let Some(uuid) = self.uuid
            && !Uuid::parse(&this.uuid).is_some_and(|own| own.spellings().contains(&uuid))
        {
            return Err(differs("UUID", uuid.to_string(), &this.uuid));
        }
        if let Some(serial) = &self.serial
            && *serial != this.serial
        {
            return Err(differs("serial number", serial.clone(), &this.serial));
        }
        Ok(())
    }
}

impl Terms {
    /// Reads the keys of a host file.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub(super) fn read(file: &HostFile) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            meant_for: file
                .meant_for
                .as_ref()
                .map(meant_for)
                .transpose()
                .map_err(|what| ("for", what))?,
            digests: digests(file).map_err(|what| ("digests", what))?,
            not_after: file
                .not_after
                .as_ref()
                .map(time)
                .transpose()
                .map_err(|what| ("not-after", what))?,
            id: file
                .id
                .as_deref()
                .map(id)
                .transpose()
                .map_err(|what| ("id", what))?,
            images: ImageProof::of_job(file.signed),
            round: round(file).map_err(|what| ("round", what))?,
        })
    }

    /// Whether a job with these terms may still be done at `now`.
    ///
    /// # Errors
    /// It has expired; or the clock is wrong, so that nobody can tell.
    pub fn check_time(&self, now: Timestamp, clock: Clock) -> Result<(), String> {
        let Some(last) = self.not_after else {
            return Ok(());
        };
        if now > last {
            return Err(format!(
                "the job has expired: it was to be done by {last}, and now it is {now:.0}"
            ));
        }
        match clock {
            Clock::Plausible => Ok(()),
            Clock::Behind => Err(format!(
                "this machine's clock is wrong (it was set to a time before its initramfs was made), so that nobody can \
                 tell whether the job, to be done by {last}, has expired: set the clock, or name a time server in \
                 DHCP option 42 or pitstop.ntp"
            )),
        }
    }

    /// [`check_digest`](Self::check_digest) for a tree, by the name that the job has for it. One that has to be signed needs no
    /// digest beside those of hooks and layouts.
    ///
    /// # Errors
    /// As there.
    pub fn check_tree(&self, name: &str, found: Option<Digest>) -> Result<(), String> {
        if self.images != ImageProof::None && !self.digests.contains_key(name) {
            return Ok(());
        }
        self.check_digest(name, found)
    }

    /// Whether `found` is the digest of the file that the job means by `name`. A job without digests means any file.
    ///
    /// # Errors
    /// The file is not named, or is another.
    pub fn check_digest(&self, name: &str, found: Option<Digest>) -> Result<(), String> {
        if self.digests.is_empty() {
            return Ok(());
        }
        let Some(wanted) = self.digests.get(name) else {
            return Err(format!(
                "the job's digests do not name {name}, which this job would write"
            ));
        };
        match found {
            Some(found) if found == *wanted => Ok(()),
            Some(found) => Err(format!(
                "{name} is not what the job was made for: its digest is {found}, the job says {wanted}"
            )),
            None => Err(format!(
                "{name} has no index, so that nothing tells its digest: make an image of it that has (pitstop convert)"
            )),
        }
    }
}

/// Where the image has to be signed: nothing else comes onto the machine beside it that nobody vouches for.
///
/// # Errors
/// The key, and what to write.
pub fn check_vouched(job: &Job) -> Result<(), (&'static str, String)> {
    let terms = &job.terms;
    let Some(parts) = job.action.tree_parts() else {
        return Ok(());
    };
    if terms.images == ImageProof::None {
        return Ok(());
    }
    if !parts.overrides.is_empty() {
        return Err((
            "overrides",
            unsigned_folders("where a tree has to be signed,"),
        ));
    }
    let files = parts.hooks.iter().map(String::as_str);
    let files = files
        .chain(parts.secrets)
        .chain(parts.layout)
        .chain(parts.luks_key);
    let mut unknown = files.filter(|file| !terms.digests.contains_key(*file));
    match unknown.next() {
        None => Ok(()),
        Some(file) => Err((
            "digests",
            format!(
                "a signed tree is wanted, and nobody has signed {file}: name it with its digest, digests = {{ {file:?} = \
                 \"blake3:…\" }}"
            ),
        )),
    }
}

fn unsigned_folders(whose: &str) -> String {
    format!(
        "{whose} folders are not taken, which no digest tells the content of: put the files into a version of the tree \
         (pitstop tree shell)"
    )
}

/// What of `job` a signed one needs and does not have, or what it must not have.
///
/// # Errors
/// The key, and what to write.
pub fn check_signable(job: &Job) -> Result<(), (&'static str, String)> {
    let missing = |key, what: &str| Err((key, format!("a signed job needs it: {what}")));
    let terms = &job.terms;
    if terms.meant_for.is_none() {
        return missing(
            "for",
            "for = { uuid = \"…\" }, or mac or serial, says which machine it is for",
        );
    }
    if terms.not_after.is_none() {
        return missing(
            "not-after",
            "not-after = \"2026-12-31T22:00:00Z\" says until when it may be done",
        );
    }
    if terms.id.is_none() {
        return missing(
            "id",
            "id = \"…\", a word of your own, is done once and never again",
        );
    }
    let touches = touches(job.action.name());
    if touches.disks {
        check_disks(&job.disks).map_err(|what| ("disks", what))?;
    }
    if let Some(parts) = job.action.tree_parts()
        && !parts.overrides.is_empty()
    {
        return Err(("overrides", unsigned_folders("for a signed job")));
    }
    // What else a tree comes with was looked at when the job was made.
    let is_layout = matches!(job.action, Action::Partition { .. });
    let is_vouched_for = terms.images != ImageProof::None && !is_layout;
    if touches.writes_from_share && terms.digests.is_empty() && !is_vouched_for {
        return missing(
            "digests",
            "digests = { \"sda.raw.gz\" = \"blake3:…\" } says of each file what is in it (of images and trees signed = \
             true does, where they are signed)",
        );
    }
    Ok(())
}

fn check_disks(disks: &[DiskSelector]) -> Result<(), String> {
    let how = "name each disk by what it says of itself: disks = [{ serial = \"…\" }] or [{ wwn = \"…\" }]";
    if disks.is_empty() {
        return Err(format!(
            "a signed job does not mean every fixed disk: {how}"
        ));
    }
    let by_name = disks.iter().find_map(|disk| match disk {
        DiskSelector::Name(name) => Some(name),
        DiskSelector::Serial(_) | DiskSelector::Wwn(_) => None,
    });
    match by_name {
        Some(name) => Err(format!(
            "{name:?} is a kernel's name, which may be another disk's at the next boot: {how}"
        )),
        None => Ok(()),
    }
}

/// What an action has to do with.
struct Touches {
    disks: bool,
    /// What is on the share says what comes onto them.
    writes_from_share: bool,
}

fn touches(action: ActionName) -> Touches {
    let (disks, writes_from_share) = match action {
        ActionName::Restore | ActionName::Partition | ActionName::Deploy | ActionName::Update => {
            (true, true)
        }
        // A machine that runs a tree may have no disk at all; what is on one it only adds to, by label.
        ActionName::Run => (false, true),
        ActionName::Backup | ActionName::BackupAgain | ActionName::Wipe => (true, false),
        ActionName::Capture | ActionName::RefreshInfo | ActionName::Rescue => (false, false),
    };
    Touches {
        disks,
        writes_from_share,
    }
}

fn meant_for(written: &WrittenFor) -> Result<MeantFor, String> {
    let mac = written.mac.as_deref().map(|text| {
        let mac: Result<Mac, _> = text.trim().parse();
        mac.map_err(|error| format!("mac = {text:?}: {error}"))
    });
    let uuid = written.uuid.as_deref().map(|text| {
        Uuid::parse(&text.trim().to_ascii_lowercase())
            .ok_or_else(|| format!("uuid = {text:?}: it is not a machine's UUID"))
    });
    let serial = written.serial.as_deref().map(|text| match text.trim() {
        "" => Err("serial is empty".to_owned()),
        text => Ok(text.to_owned()),
    });
    let found = MeantFor {
        mac: mac.transpose()?,
        uuid: uuid.transpose()?,
        serial: serial.transpose()?,
    };
    if found == MeantFor::default() {
        return Err("it names no machine: give mac, uuid or serial".into());
    }
    Ok(found)
}

fn digests(file: &HostFile) -> Result<BTreeMap<String, Digest>, String> {
    let Some(written) = &file.digests else {
        return Ok(BTreeMap::new());
    };
    if written.is_empty() {
        return Err("it names no file: write { \"sda.raw.gz\" = \"blake3:…\" }".into());
    }
    let mut digests = BTreeMap::new();
    for (name, text) in written {
        check_folder(name)?;
        let digest = text.parse().map_err(|error| format!("{name:?}: {error}"))?;
        digests.insert(name.clone(), digest);
    }
    Ok(digests)
}

fn time(written: &WrittenTime) -> Result<Timestamp, String> {
    let text = match written {
        WrittenTime::Text(text) => text.trim().to_owned(),
        WrittenTime::Time(time) => time.to_string(),
    };
    text.parse().map_err(|_| {
        format!("{text:?} is not a time with its zone (RFC 3339): write \"2026-12-31T22:00:00Z\"")
    })
}

fn id(text: &str) -> Result<String, String> {
    word("id", text)
}

fn round(file: &HostFile) -> Result<Option<String>, String> {
    let Some(text) = &file.round else {
        return Ok(None);
    };
    if file.id.is_some() {
        return Err("id is done once by one machine, and round once by each: leave one out".into());
    }
    word("name of a round", text).map(Some)
}

/// What becomes the name of a file.
fn word(what: &str, text: &str) -> Result<String, String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_word =
        (1..=LONGEST_ID).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(safe);
    is_word.then(|| text.to_owned()).ok_or_else(|| {
        format!("{text:?} is no {what}: take at most {LONGEST_ID} letters, digits, dashes, dots and underscores")
    })
}

#[cfg(test)]
mod tests;
