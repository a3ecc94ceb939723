//! Machines that the fleet file does not know: which job they get, and who they were. With `unknown = "enroll"` each of them is
//! sent into the payload once, to say what it is; then it boots its own disk until somebody names it.

use crate::host_files;
use crate::host_search::Asker;
use crate::jobs::{Card, card, owner, remedy};
use crate::machine_access::{MachineAccess, add_token};
use crate::runs::token;
use crate::site::Site;
use crate::write::replace;
use anyhow::Context;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt};
use jiff::Timestamp;
use pitstop_fleet::{Machine, Unknown};
use pitstop_jobs::HostFiles;
use pitstop_protocol::host_name::{HostName, Mac, SUFFIX};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::Action;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Below the root: a file for each machine that was sent to say what it is.
const FOLDER: &str = "enroll";
/// So many wait for a name at most. Whoever makes addresses up fills no disk.
pub const MOST: usize = 1000;
/// Bytes of a file, at most.
const LARGEST: u64 = 4096;

/// PXELINUX asks for `default` last, and says there nothing of who it is: what it said before is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Machines that are remembered at once.
const ASKING: usize = 512;

/// A machine that waits for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    pub mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// When it first came.
    pub seen: Timestamp,
}

/// Machines that ask, and the folder of those that were enrolled.
#[derive(Debug)]
pub struct Strangers {
    folder: PathBuf,
    asking: Mutex<VecDeque<(IpAddr, Asker, Instant)>>,
    /// One at a time counts the folder and adds to it.
    adding: Mutex<()>,
}

impl Strangers {
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
            asking: Mutex::default(),
            adding: Mutex::default(),
        }
    }

    /// What the machine at `peer` has said of itself so far, with what `asker` says now.
    pub fn heard(&self, peer: IpAddr, asker: &Asker) -> Asker {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.retain(|(_, _, when)| when.elapsed() < REMEMBERED);
        let before = asking.iter().position(|(who, ..)| *who == peer);
        let before = before.and_then(|at| asking.remove(at));
        let before = before.map(|(_, before, _)| before).unwrap_or_default();
        let known = Asker {
            ip: asker.ip.or(before.ip),
            mac: asker.mac.or(before.mac),
            uuid: asker.uuid.or(before.uuid),
        };
        if asking.len() == ASKING {
            asking.pop_front();
        }
        asking.push_back((peer, known.clone(), Instant::now()));
        known
    }

    /// Sends a machine to say what it is, unless it was before. Returns its host file.
    fn enroll(&self, site: &Site, asker: &Asker, url: &str) -> anyhow::Result<Option<String>> {
        // Without a card's address nobody could name it afterwards.
        let Some(mac) = asker.mac else {
            return Ok(None);
        };
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = open(&self.folder)?;
        let name = file(mac);
        if folder.exists(&name) {
            return Ok(None);
        }
        let count = folder
            .entries()
            .with_context(|| format!("reading {}", self.folder.display()))?
            .count();
        if count >= MOST {
            anyhow::bail!(
                "{mac} is not enrolled: {count} machines wait for a name already; pitstop fleet adopt names them, and files in \
                 {} that are no machines can be deleted",
                self.folder.display()
            );
        }
        let enrolled = Enrolled {
            mac: mac.to_string(),
            ip: asker.ip,
            uuid: asker.uuid.map(|uuid| uuid.to_string()),
            seen: Timestamp::now(),
        };
        let text = toml::to_string(&enrolled).context("putting a machine into TOML")?;
        let host = HostName::Mac(mac).file();
        let text_of_job = format!(
            "# Written by pitstop serve: {mac} is not in fleet.toml, and says once what it is.\nversion = 1\naction = \"{}\"\n\
             share = \"{url}/share\"\n",
            Action::RefreshInfo.name()
        );
        let mut job = HostFiles {
            text: text_of_job,
            signature: None,
            unsigned: None,
        };
        if site.machine_access == MachineAccess::Token {
            let id = Id::new(Timestamp::now(), fastrand::u32(..));
            let secret = token::issue(site.runs.root(), &id)?;
            add_token(&mut job, url, &id, &secret);
        }
        // The job first: a machine that is noted without one would never say anything.
        host_files::put(&site.hosts, &host, &job)
            .with_context(|| format!("writing hosts/{host}"))?;
        replace(&folder, &name, &text)
            .with_context(|| format!("writing {}", self.folder.join(&name).display()))?;
        site.journal.note(&format!(
            "{mac} is not in fleet.toml: it is sent to say what it is"
        ));
        Ok(Some(host))
    }
}

/// The host file of a machine that asks, where it is to have one. `found` is the one that the folder has for it.
pub fn job(site: &Site, asker: &Asker, found: Option<String>, url: &str) -> Option<String> {
    wanted(site, asker, found, url).filter(|file| is_for(site, asker, file))
}

/// Whether a machine may have the host file: one that waits under the machine's address may be another's, which had that
/// address before, also of a job that failed or is for every boot. The journal is told whose it is.
pub fn is_for(site: &Site, asker: &Asker, file: &str) -> bool {
    let (Some(mac), Ok(found)) = (asker.mac, site.jobs.found()) else {
        return true;
    };
    let Some(job) = owner(&found.jobs, &site.hosts, file) else {
        return true;
    };
    let fleet = site.fleet.current();
    let who = match card(job, &fleet, mac, asker.uuid) {
        Card::Its => return true,
        Card::Of(machine) => format!("{mac} is {}'s", machine.name),
        Card::Unknown => format!("{mac} is not in fleet.toml"),
    };
    let (name, action, id) = (job.shown(), job.action, &job.id);
    site.journal.note(&format!(
        "{who}, and hosts/{file} is the job of {name} ({action}, job {id}): it is not given; {}",
        remedy(job, &fleet)
    ));
    false
}

fn wanted(site: &Site, asker: &Asker, found: Option<String>, url: &str) -> Option<String> {
    let own = found.as_ref().is_some_and(|file| {
        let stem = file.strip_suffix(SUFFIX).unwrap_or(file);
        HostName::from_stem(stem).is_some_and(|name| !name.is_shared())
    });
    let fleet = site.fleet.current();
    if own || fleet.file.is_empty() {
        return found;
    }
    if let Some(machine) = fleet.find(&asker.identity()) {
        return of_machine(site, machine).or(found);
    }
    match fleet.server.unknown {
        Unknown::Boot => found,
        // What is for every machine is for those that are known.
        Unknown::Ignore => None,
        Unknown::Enroll => {
            if found.is_some() {
                return found;
            }
            match site.strangers.enroll(site, asker, url) {
                Ok(job) => job,
                Err(error) => {
                    site.journal.note(&format!("{error:#}"));
                    None
                }
            }
        }
    }
}

/// The host file of a machine under any of the names that the fleet file has for it: it may ask by another card than the job
/// is named after.
fn of_machine(site: &Site, machine: &Machine) -> Option<String> {
    let uuid = machine.uuid.map(HostName::Uuid);
    let macs = machine.macs.iter().map(|mac| HostName::Mac(*mac));
    let names = uuid.into_iter().chain(macs);
    let names = names.chain(machine.ip.map(HostName::Ip));
    names
        .flat_map(|name| name.stems())
        .map(|stem| stem + SUFFIX)
        .find(|file| site.hosts.is_file(file))
}

fn file(mac: Mac) -> String {
    mac.dashed() + SUFFIX
}

fn open(path: &Path) -> anyhow::Result<Dir> {
    let opening = || format!("opening {}", path.display());
    match Dir::open_ambient_dir(path, ambient_authority()) {
        Ok(dir) => Ok(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let root = path.parent().unwrap_or(Path::new("."));
            let root = Dir::open_ambient_dir(root, ambient_authority()).with_context(opening)?;
            let mut private = DirBuilder::new();
            private.mode(0o750);
            root.create_dir_with(FOLDER, &private)
                .with_context(opening)?;
            Dir::open_ambient_dir(path, ambient_authority()).with_context(opening)
        }
        Err(error) => Err(error).with_context(opening),
    }
}

/// The machines of `root` that wait for a name, by when they came.
///
/// # Errors
/// The folder cannot be read. A file in it that makes no sense is left out.
pub fn list(root: &Path) -> anyhow::Result<Vec<Enrolled>> {
    let path = root.join(FOLDER);
    let reading = || format!("reading {}", path.display());
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut found: Vec<Enrolled> = Vec::new();
    for entry in entries {
        let entry = entry.with_context(reading)?;
        let small = entry
            .metadata()
            .is_ok_and(|metadata| metadata.len() <= LARGEST);
        let text = small
            .then(|| std::fs::read_to_string(entry.path()).ok())
            .flatten();
        found.extend(text.and_then(|text| toml::from_str(&text).ok()));
    }
    found.sort_by_key(|machine| machine.seen);
    Ok(found)
}

/// Forgets a machine that has a name now.
///
/// # Errors
/// It cannot be removed.
pub fn forget(root: &Path, mac: Mac) -> anyhow::Result<()> {
    let path = root.join(FOLDER).join(file(mac));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
