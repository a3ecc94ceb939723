//! Who takes notices and sees to it that they arrive: one thread that files them, and one a receiver that delivers them.
//! A receiver that is slow or dead keeps nobody waiting but its own notices.

use crate::config::{Config, FILE};
use crate::notice::Notice;
use crate::receiver::{Receiver, Undelivered};
use crate::spool::{self, Spool};
use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{
    Receiver as Inbox, RecvTimeoutError, SyncSender, TrySendError, sync_channel,
};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Where lines for the journal go.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// News that wait to be filed: more come at once only when something is very wrong.
const INBOX: usize = 1024;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Between two tries: doubles from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_secs(5 * 60);
/// Nobody wants to hear of it after so long.
const TOO_OLD: SignedDuration = SignedDuration::from_hours(24);

/// Takes notices. Cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    inbox: SyncSender<Notice>,
    tell: Tell,
}

impl Notifier {
    /// Reads the receivers of `root` and begins to deliver, first what an earlier run left. A file that is wrong is told, and
    /// read again when it changes.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(root: &Path, tell: Tell) -> anyhow::Result<Self> {
        let (inbox, notices) = sync_channel(INBOX);
        let mut desk = Desk {
            root: root.to_owned(),
            tell: Arc::clone(&tell),
            seen: Seen::NotYet,
            config: Arc::default(),
            threads: HashMap::new(),
        };
        thread::Builder::new()
            .name("notices".into())
            .spawn(move || desk.work(&notices))
            .context("starting the thread for notices")?;
        Ok(Self { inbox, tell })
    }

    /// Takes a notice, and never waits.
    pub fn notice(&self, notice: Notice) {
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) =
            self.inbox.try_send(notice)
        {
            let line = format!("notices: too many at once: lost is {}", lost.summary());
            (self.tell)(line);
        }
    }
}

/// What tells one state of the file from another.
type Stamp = (u64, u64, i64, i64);

/// How the file was when it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    NotYet,
    Missing,
    There(Stamp),
}

/// Files notices and looks after the receivers.
struct Desk {
    root: PathBuf,
    tell: Tell,
    seen: Seen,
    config: Arc<Config>,
    threads: HashMap<String, Arc<Bell>>,
}

/// Wakes a receiver's thread, or ends it.
#[derive(Default)]
struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Rung {
    #[default]
    No,
    Work,
    End,
}

impl Bell {
    fn ring(&self, what: Rung) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != Rung::End {
            *state = what;
        }
        self.rung.notify_all();
    }

    fn has_ended(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == Rung::End
    }

    /// Waits so long for an end; with `work`, for work as well.
    fn wait(&self, time: Duration, work: bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |state: &mut Rung| match state {
            Rung::No => true,
            Rung::Work => !work,
            Rung::End => false,
        };
        let waited = self.rung.wait_timeout_while(state, time, quiet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if work && *state == Rung::Work {
            *state = Rung::No;
        }
    }
}

impl Desk {
    /// Until nobody can hand anything over any more.
    fn work(&mut self, notices: &Inbox<Notice>) {
        // What comes meanwhile waits. Nor may it be done by whoever starts this: HTTP clients that block are not made within
        // an async runtime.
        self.look();
        loop {
            match notices.recv_timeout(LOOK) {
                Ok(notice) => {
                    self.look();
                    self.file(&notice);
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for bell in self.threads.values() {
            bell.ring(Rung::End);
        }
    }

    fn file(&self, notice: &Notice) {
        for receiver in self.config.of(notice) {
            let name = &receiver.name;
            match Spool::of(&self.root, name).put(notice) {
                Ok(0) => {}
                Ok(lost) => (self.tell)(format!(
                    "notices: {name} has too many that are not delivered: {lost} of the oldest are lost"
                )),
                Err(error) => (self.tell)(format!(
                    "notices: {name} is not told of {}: {error}",
                    notice.summary()
                )),
            }
            if let Some(bell) = self.threads.get(name) {
                bell.ring(Rung::Work);
            }
        }
    }

    /// Reads the file if it has changed. One that is wrong changes nothing.
    fn look(&mut self) {
        let seen = fs::metadata(self.root.join(FILE)).map_or(Seen::Missing, |it| {
            Seen::There((it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
        });
        if self.seen == seen {
            return;
        }
        self.seen = seen;
        match Config::read(&self.root) {
            Ok(config) => self.take(config),
            Err(error) => (self.tell)(format!(
                "notices: {error:#}; until that is put right {} are told as before",
                match self.config.receivers.len() {
                    0 => "none".into(),
                    some => format!("{some} receivers"),
                }
            )),
        }
    }

    fn take(&mut self, config: Config) {
        for (_, bell) in self.threads.drain() {
            bell.ring(Rung::End);
        }
        self.config = Arc::new(config);
        self.drop_strangers();
        for at in 0..self.config.receivers.len() {
            let name = self.config.receivers[at].name.clone();
            let bell = Arc::new(Bell::default());
            let courier = Courier {
                config: Arc::clone(&self.config),
                at,
                spool: Spool::of(&self.root, &name),
                bell: Arc::clone(&bell),
                tell: Arc::clone(&self.tell),
            };
            let thread = thread::Builder::new().name(format!("notices-{name}"));
            match thread.spawn(move || courier.work()) {
                Ok(_) => {
                    self.threads.insert(name, bell);
                }
                Err(error) => (self.tell)(format!("notices: {name} is told nothing: {error}")),
            }
        }
    }

    /// Drops what lies there for receivers that are in the file no more.
    fn drop_strangers(&self) {
        let Ok(names) = spool::receivers(&self.root) else {
            return;
        };
        for name in names {
            if self.config.receivers.iter().any(|it| it.name == name) {
                continue;
            }
            match Spool::of(&self.root, &name).clear() {
                Ok(0) => {}
                Ok(count) => (self.tell)(format!(
                    "notices: {name} is in {FILE} no more: {count} for it are dropped"
                )),
                Err(error) => (self.tell)(format!("notices: {name}: {error}")),
            }
        }
    }
}

/// Delivers one receiver's notices, one after the other.
struct Courier {
    config: Arc<Config>,
    at: usize,
    spool: Spool,
    bell: Arc<Bell>,
    tell: Tell,
}

impl Courier {
    fn work(&self) {
        let receiver = &self.config.receivers[self.at];
        let mut wait = FIRST_WAIT;
        // Told once when it begins, and when it is over.
        let mut troubled = false;
        while !self.bell.has_ended() {
            let notice = match self.spool.first() {
                Ok(Some(notice)) => notice,
                Ok(None) => {
                    self.bell.wait(LAST_WAIT, true);
                    continue;
                }
                Err(error) => {
                    (self.tell)(format!("notices: {}: {error}", receiver.name));
                    self.bell.wait(FIRST_WAIT, false);
                    continue;
                }
            };
            match self.deliver(receiver, &notice) {
                Ok(()) => {
                    if std::mem::take(&mut troubled) {
                        (self.tell)(format!("notices: {} takes them again", receiver.name));
                    }
                    wait = FIRST_WAIT;
                }
                Err(why) => {
                    if !std::mem::replace(&mut troubled, true) {
                        (self.tell)(format!(
                            "notices: {} cannot be told now, and will be tried again: {why}",
                            receiver.name
                        ));
                    }
                    self.bell.wait(jittered(wait), false);
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
    }

    /// Delivers a notice, or gives it up. An error: it may be tried again.
    fn deliver(&self, receiver: &Receiver, notice: &Notice) -> Result<(), String> {
        let lost = match receiver.deliver(notice) {
            Ok(()) => None,
            Err(Undelivered::Lasting(why)) => Some(why),
            Err(Undelivered::Passing(why)) => {
                let age = Timestamp::now().duration_since(notice.time);
                if age < TOO_OLD {
                    return Err(why);
                }
                Some(format!("for a day: {why}"))
            }
        };
        if let Some(why) = lost {
            (self.tell)(format!(
                "notices: {} was not told that {}: {why}",
                receiver.name,
                notice.summary()
            ));
        }
        self.spool
            .remove(notice.id.as_str())
            .map_err(|error| error.to_string())
    }
}

/// Many servers that lost the same receiver do not all come back at once.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.75 + fastrand::f64() / 2.0)
}
