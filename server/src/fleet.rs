//! The fleet file while the server runs: read anew when it changes, the last good one kept while it is wrong.

use crate::journal::Journal;
use pitstop_fleet::{Fleet, LARGEST, Unknown};
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file's name, below the root.
pub const NAME: &str = "fleet.toml";

/// How often the file is looked at when nobody asks: what is wrong with it is told without a machine that boots.
const EVERY: Duration = Duration::from_secs(1);
/// A file that is being replaced may be gone for so long before anybody is told.
const REPLACED: Duration = Duration::from_secs(5);
/// A file that changed so lately may change again without a new time: clocks of filesystems are coarse.
const SETTLED: Duration = Duration::from_secs(2);
/// Of the problems so many are lines of the journal; the page has them all.
const NOTED: usize = 10;

/// The bytes of the file at `path`, no more than shows that it is too large; `None` where there is no file.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    // A pipe would be waited for, for ever.
    let file = match File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = file.metadata()?.file_type();
    // Of a folder the kernel says it itself.
    if !kind.is_file() && !kind.is_dir() {
        return Err(Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(4 * LARGEST as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The fleet file of a root.
pub struct Watched {
    path: PathBuf,
    journal: Arc<Journal>,
    known: RwLock<Known>,
    /// Who holds it reads the file; others take what is known meanwhile.
    seen: Mutex<Seen>,
}

/// What is used, and why it is not what the file says.
#[derive(Default)]
struct Known {
    fleet: Arc<Fleet>,
    /// The file was right once.
    was_right: bool,
    wrong: Option<String>,
}

impl Known {
    /// What holds while the file is wrong.
    fn meanwhile(&self) -> &'static str {
        if self.was_right {
            "what it said when it was last right goes on"
        } else {
            "until it is right no machine is known, and strangers get no job"
        }
    }
}

/// A file that is not used as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// A line a problem.
    pub why: String,
    /// What holds meanwhile.
    pub meanwhile: &'static str,
}

/// Which file was read last.
#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// Of its bytes.
    digest: Option<blake3::Hash>,
    /// When the file was first missed.
    gone: Option<Instant>,
    /// It could not be read: whatever its times say, it has to be read anew.
    failed: bool,
}

/// What changes with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds of the last write, and of the last change of anything.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether what is written next is sure to have another stamp.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.unwrap_or_default().as_secs();
        u64::try_from(self.changed.0)
            .is_ok_and(|changed| seconds.abs_diff(changed) > SETTLED.as_secs())
    }
}

impl Watched {
    /// Reads the fleet file of `root` for the first time; none is a lab without machines.
    pub fn new(root: &Path, journal: Arc<Journal>) -> Self {
        let watched = Self {
            path: root.join(NAME),
            journal,
            known: RwLock::default(),
            seen: Mutex::default(),
        };
        watched.current();
        watched
    }

    /// What holds now: the file as it is, or the last good one.
    pub fn current(&self) -> Arc<Fleet> {
        if let Some(mut seen) = self.turn() {
            self.look(&mut seen);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.fleet)
    }

    /// Why the file is not used as it is.
    pub fn wrong(&self) -> Option<Wrong> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.wrong.clone().map(|why| Wrong {
            why,
            meanwhile: known.meanwhile(),
        })
    }

    fn turn(&self) -> Option<MutexGuard<'_, Seen>> {
        match self.seen.try_lock() {
            Ok(seen) => Some(seen),
            Err(TryLockError::Poisoned(seen)) => Some(seen.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Reads the file if it is another than the one that was read last. One look at its times is all it costs as a rule.
    fn look(&self, seen: &mut Seen) {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.gone(seen),
            Err(error) => return self.unreadable(seen, &error),
        };
        let stamp = Stamp::of(&metadata);
        let sure = seen.gone.is_none() && !seen.failed && stamp.is_settled();
        if seen.stamp == Some(stamp) && sure {
            return;
        }
        match read(&self.path) {
            Ok(Some(bytes)) => {
                let digest = Some(blake3::hash(&bytes));
                let anew = seen.digest != digest || seen.gone.is_some() || seen.failed;
                *seen = Seen {
                    stamp: Some(stamp),
                    digest,
                    gone: None,
                    failed: false,
                };
                if anew {
                    self.take(&bytes);
                }
            }
            Ok(None) => self.gone(seen),
            Err(error) => self.unreadable(seen, &error),
        }
    }

    fn unreadable(&self, seen: &mut Seen, error: &Error) {
        seen.failed = true;
        self.keep(format!("reading {}: {error}", self.path.display()));
    }

    /// Between removing an old file and putting a new one in its place there is none: that alone empties no lab.
    fn gone(&self, seen: &mut Seen) {
        if seen.stamp.is_none() {
            return;
        }
        let since = *seen.gone.get_or_insert_with(Instant::now);
        if since.elapsed() > REPLACED {
            self.keep(format!(
                "{} is gone: put it back, or restart the server to go on without it",
                self.path.display()
            ));
        }
    }

    fn take(&self, bytes: &[u8]) {
        match Fleet::parse(bytes, &self.path.display().to_string()) {
            Ok(fleet) => {
                self.journal.note(&format!(
                    "{} is read: {} machines",
                    fleet.file,
                    fleet.machines.len()
                ));
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known {
                    fleet: Arc::new(fleet),
                    was_right: true,
                    wrong: None,
                };
            }
            Err(bad) => self.keep(bad.to_string()),
        }
    }

    /// What holds for a file of which nothing is known but that it is there. It may say that strangers are to be ignored: a
    /// machine that nobody named must not be given the job that is for all others.
    fn nobody(&self) -> Fleet {
        let mut fleet = Fleet::default();
        fleet.file = self.path.display().to_string();
        fleet.server.unknown = Unknown::Ignore;
        fleet
    }

    /// Goes on with what is known, and tells once why.
    fn keep(&self, why: String) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.wrong.as_ref() == Some(&why) {
            return;
        }
        let lines: Vec<String> = why.lines().map(str::to_owned).collect();
        known.wrong = Some(why);
        if !known.was_right {
            known.fleet = Arc::new(self.nobody());
        }
        let meanwhile = known.meanwhile();
        drop(known);
        for line in lines.iter().take(NOTED) {
            self.journal.note(line);
        }
        let more = match lines.len().saturating_sub(NOTED) {
            0 => String::new(),
            more => format!("and {more} more; "),
        };
        self.journal.note(&format!("{NAME}: {more}{meanwhile}"));
    }
}

/// Looks at the file again and again, so that the journal tells of a wrong one at once.
pub async fn watch(watched: Arc<Watched>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let watched = Arc::clone(&watched);
        let look = tokio::task::spawn_blocking(move || watched.current());
        if look.await.is_err() {
            // The runtime ends, or a look panicked, which has been printed: requests look themselves.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "version = 1\n[host.a]\nmac = \"52:54:00:00:00:01\"\n";
    const TWO: &str = "version = 1\n[host.b]\nmac = \"52:54:00:00:00:01\"\n";

    struct Lab(tempfile::TempDir, Watched);

    impl Lab {
        fn new(text: Option<&str>) -> Self {
            let root = tempfile::tempdir().unwrap();
            if let Some(text) = text {
                std::fs::write(root.path().join(NAME), text).unwrap();
            }
            let watched = Watched::new(root.path(), Arc::new(Journal::new(true)));
            Self(root, watched)
        }

        fn write(&self, text: &str) {
            std::fs::write(self.0.path().join(NAME), text).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let fleet = self.1.current();
            fleet.machines.iter().map(|m| m.name.clone()).collect()
        }

        fn noted(&self, what: &str) -> usize {
            let lines = self.1.journal.last();
            lines.iter().filter(|line| line.contains(what)).count()
        }
    }

    #[test]
    fn a_change_of_as_many_bytes_in_the_same_moment_is_seen() {
        let lab = Lab::new(Some(ONE));
        for _ in 0..50 {
            lab.write(TWO);
            assert_eq!(lab.names(), ["b"]);
            lab.write(ONE);
            assert_eq!(lab.names(), ["a"]);
        }
        assert_eq!(lab.names(), ["a"]);
        assert_eq!(lab.noted("is read: 1 machines"), 40);
    }

    #[test]
    fn a_wrong_file_is_told_once_and_the_last_good_one_kept() {
        let lab = Lab::new(Some(ONE));
        lab.write(&format!("{ONE}imgae = \"x\"\n"));
        for _ in 0..3 {
            assert_eq!(lab.names(), ["a"]);
        }
        let wrong = lab.1.wrong().unwrap();
        assert_eq!(
            wrong.meanwhile,
            "what it said when it was last right goes on"
        );
        let wrong = wrong.why;
        assert!(
            wrong.ends_with("fleet.toml, line 4: unknown key \"imgae\": did you mean \"image\"?"),
            "{wrong}"
        );
        assert_eq!(lab.noted("line 4: unknown key \"imgae\""), 1);
        lab.write(TWO);
        assert_eq!(lab.names(), ["b"]);
        assert_eq!(lab.1.wrong(), None);
    }

    #[test]
    fn a_file_that_is_being_replaced_is_still_the_lab() {
        let lab = Lab::new(Some(ONE));
        std::fs::remove_file(lab.0.path().join(NAME)).unwrap();
        assert_eq!((lab.names(), lab.1.wrong()), (vec!["a".into()], None));
        lab.write(ONE);
        assert_eq!(lab.names(), ["a"]);
        std::fs::remove_file(lab.0.path().join(NAME)).unwrap();
        lab.names();
        lab.1.turn().unwrap().gone = Instant::now().checked_sub(REPLACED * 2);
        assert_eq!(lab.names(), ["a"]);
        assert!(lab.1.wrong().unwrap().why.contains("is gone: put it back"));
        lab.write(ONE);
        assert_eq!((lab.names(), lab.1.wrong()), (vec!["a".into()], None));
    }

    #[test]
    fn a_file_that_is_wrong_from_the_start_lets_no_stranger_in() {
        let lab = Lab::new(Some("[server]\nunknown = \"ignore\"\nverion = 1\n"));
        let fleet = lab.1.current();
        assert!(!fleet.file.is_empty(), "it is not as if there were none");
        assert_eq!(fleet.server.unknown, Unknown::Ignore);
        assert!(lab.1.wrong().unwrap().meanwhile.starts_with("until"));
        lab.write(ONE);
        assert_eq!((lab.names(), lab.1.wrong()), (vec!["a".into()], None));
        assert_eq!(lab.1.current().server.unknown, Unknown::Boot);
    }

    #[test]
    fn a_root_without_the_file_gets_one_later() {
        let lab = Lab::new(None);
        assert_eq!((lab.names(), lab.1.wrong()), (Vec::new(), None));
        lab.write("version = 2\n");
        assert_eq!(lab.names(), [""; 0]);
        let wrong = lab.1.wrong().unwrap();
        assert!(
            wrong.why.contains("line 1: version = 2") && wrong.meanwhile.starts_with("until"),
            "{wrong:?}"
        );
        lab.write(ONE);
        assert_eq!(lab.names(), ["a"]);
        // A pipe of that name is not waited for, and a folder is told.
        std::fs::remove_file(lab.0.path().join(NAME)).unwrap();
        nix::unistd::mkfifo(&lab.0.path().join(NAME), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(lab.names(), ["a"]);
        assert!(lab.1.wrong().unwrap().why.contains("it is no file"));
        std::fs::remove_file(lab.0.path().join(NAME)).unwrap();
        std::fs::create_dir(lab.0.path().join(NAME)).unwrap();
        assert_eq!(lab.names(), ["a"]);
        assert!(lab.1.wrong().unwrap().why.contains("s a directory"));
        std::fs::remove_dir(lab.0.path().join(NAME)).unwrap();
        lab.write(ONE);
        assert_eq!((lab.names(), lab.1.wrong()), (vec!["a".into()], None));
    }
}
