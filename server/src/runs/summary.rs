//! What is known of a run, made of its events: `run.toml`.

pub use pitstop_api::RunState as State;
use pitstop_imaging::event::{Act, Progress, Subject};
use pitstop_protocol::event::{About, Line, Moved, Planned, Verdict, What};
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

const VERSION: u32 = 1;

/// As written. Times are RFC 3339, UTC, by the machine's clock; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    pub version: u32,
    pub run: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Id>,
    /// The host name; empty where the network gives none.
    #[serde(default)]
    pub machine: String,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub mac: String,
    /// Where its reports came from; empty for a run that is known from its logs.
    #[serde(default)]
    pub peer: String,
    /// The version of Pitstop that ran.
    #[serde(default)]
    pub pitstop: String,
    /// The public half of the machine's SSH host key of this boot; empty where nobody can log in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_key: String,
    /// `unknown` until the machine knows.
    pub action: String,
    #[serde(default)]
    pub began: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Places of disks that could not be read.
    #[serde(default)]
    pub read_errors: u64,
    /// What was planned.
    #[serde(default)]
    pub disks: Vec<Planned>,
}

impl Summary {
    /// Of a run of which nothing is known yet.
    pub fn new(run: Id, job: Option<Id>, peer: Option<IpAddr>) -> Self {
        Self {
            version: VERSION,
            run,
            job,
            machine: String::new(),
            address: String::new(),
            mac: String::new(),
            peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
            pitstop: String::new(),
            host_key: String::new(),
            action: "unknown".into(),
            began: String::new(),
            ended: None,
            verdict: None,
            reason: String::new(),
            bytes: 0,
            elapsed_ms: 0,
            read_errors: 0,
            disks: Vec::new(),
        }
    }

    /// Reads `run.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What `run.toml` is to hold.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Whether it is of the machine with this name, address or MAC.
    pub fn is_of(&self, machine: &str) -> bool {
        let names = [&self.machine, &self.address, &self.mac];
        names
            .into_iter()
            .any(|name| name.eq_ignore_ascii_case(machine))
    }

    /// What tells its machine from others.
    pub fn identity(&self) -> &str {
        let names = [&self.mac, &self.address, &self.peer];
        names
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("", |name| name)
    }

    /// Where its machine is on the network: what its folder on the share is called.
    pub fn place(&self) -> &str {
        if self.address.is_empty() {
            self.identity()
        } else {
            &self.address
        }
    }

    /// For people: `lab3-01`, or the address.
    pub fn name(&self) -> &str {
        let names = [&self.machine, &self.address, &self.peer];
        names
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("", |name| name)
    }

    /// Takes in what a line says. Returns whether the summary says something else now.
    pub fn take(&mut self, line: &Line) -> bool {
        let time = line.time().map(seconds).unwrap_or_default();
        let is_first = self.began.is_empty() && !time.is_empty();
        if is_first {
            self.began.clone_from(&time);
        }
        let Line::Known(record) = line else {
            return is_first;
        };
        match &record.what {
            What::Begin {
                machine,
                address,
                mac,
                pitstop,
                host_key,
            } => {
                self.machine.clone_from(machine);
                self.address.clone_from(address);
                self.mac.clone_from(mac);
                self.pitstop.clone_from(pitstop);
                // Who tells of a crash does not know it any more.
                if !host_key.is_empty() {
                    self.host_key.clone_from(host_key);
                }
            }
            What::Job { action } => self.action.clone_from(action),
            What::Plan { action, disks } => {
                self.action.clone_from(action);
                self.disks.clone_from(disks);
                for disk in &mut self.disks {
                    disk.size = for_toml(disk.size);
                }
            }
            What::ReadErrors { places, .. } => {
                self.read_errors = for_toml(self.read_errors.saturating_add(*places));
            }
            What::Result(outcome) => {
                self.ended = Some(time);
                self.verdict = Some(outcome.verdict);
                self.action.clone_from(&outcome.action);
                self.reason.clone_from(&outcome.reason);
                self.bytes = for_toml(outcome.bytes);
                self.elapsed_ms = for_toml(outcome.elapsed_ms);
                self.read_errors = for_toml(outcome.read_errors);
            }
            What::Step { .. }
            | What::Progress(_)
            | What::Log { .. }
            | What::Inventory { .. }
            | What::Dropped { .. } => return is_first,
        }
        true
    }
}

/// TOML's numbers are signed.
fn for_toml(number: u64) -> u64 {
    number.min(i64::MAX.unsigned_abs())
}

pub(super) fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Where a transfer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    pub about: About,
    pub moved: Moved,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// Bytes of the disk a second.
    pub rate: u64,
    pub seconds_left: Option<u64>,
}

impl Live {
    pub(super) fn new(about: About, moved: Moved) -> Self {
        let progress = Progress {
            act: moved.act,
            subject: Subject::default(),
            done: moved.done,
            total: moved.total,
            transferred: moved.transferred,
            elapsed: Duration::from_millis(moved.elapsed_ms),
        };
        Self {
            about,
            moved,
            percent: progress.percent(),
            rate: progress.rate(),
            seconds_left: progress.left().map(|left| left.as_secs()),
        }
    }

    pub fn act(&self) -> Act {
        self.moved.act
    }
}

/// A run as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub state: State,
    pub summary: Summary,
    /// Of a run that goes on.
    pub progress: Option<Live>,
}

impl Run {
    pub(super) fn ended(summary: Summary) -> Self {
        let state = match summary.verdict {
            Some(Verdict::Ok) => State::Ok,
            Some(Verdict::Cancelled) => State::Cancelled,
            Some(Verdict::Failed) | None => State::Failed,
        };
        Self {
            state,
            summary,
            progress: None,
        }
    }

    pub(super) fn at_work(summary: Summary, progress: Option<Live>, silent: bool) -> Self {
        Self {
            state: if silent {
                State::Silent
            } else {
                State::Running
            },
            summary,
            progress,
        }
    }
}
