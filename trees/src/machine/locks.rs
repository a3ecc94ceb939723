//! The locks of package managers: nothing is installed while a system is captured or updated, and neither begins in the middle
//! of that.

use super::Machine;
use crate::path::TreePath;
use anyhow::{Context, bail};
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// dpkg's (as apt takes it, then dpkg itself), and rpm's in both places where it keeps its database.
const LOCKS: [&str; 4] = [
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/lib/rpm/.rpm.lock",
    "usr/lib/sysimage/rpm/.rpm.lock",
];

/// Locks, held until it is dropped.
#[derive(Debug)]
pub struct Locks {
    _held: Vec<File>,
}

impl Locks {
    /// Takes the locks of the package managers that the machine has. Where nothing can be written nothing can be installed.
    ///
    /// # Errors
    /// When one of them is at work.
    pub fn take(machine: &Machine) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        let mut taken = BTreeSet::new();
        for lock in LOCKS {
            // What leads in circles is no package manager's.
            let Ok(path) = machine.follow(&TreePath::parse(lock.as_bytes())?) else {
                continue;
            };
            let opened = match machine.open_path(&path, OFlags::RDWR | OFlags::NONBLOCK) {
                Ok(opened) => File::from(opened),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::NotADirectory
                            | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    continue;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("opening {}", machine.shown(&path)));
                }
            };
            // The older of rpm's places may lead to the newer one: a second lock would wait for the first.
            let found = opened.metadata();
            let found = found.with_context(|| format!("looking at {}", machine.shown(&path)))?;
            if !taken.insert((found.dev(), found.ino())) {
                continue;
            }
            match lock_whole(&opened) {
                Ok(()) => held.push(opened),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN)) => {
                    bail!(
                        "{} is held: something is being installed there; try again when that is done",
                        machine.shown(&path)
                    );
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("locking {}", machine.shown(&path)));
                }
            }
        }
        Ok(Self { _held: held })
    }
}

/// Locks of open files, which stand in the way of dpkg's and rpm's own and are not lost when the same file is read and
/// closed elsewhere in this program, as those would be (fcntl(2), "Open file description locks").
fn lock_whole(file: &File) -> io::Result<()> {
    // SAFETY: the structure is plain numbers, for which zeros stand for the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(libc::F_WRLCK).map_err(io::Error::other)?;
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    // SAFETY: the handle is open, and the structure lives through the call, which only reads it.
    let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Access;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_database_behind_symlinks_is_locked_there_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("usr/lib/sysimage/rpm")).unwrap();
        fs::create_dir_all(at("data/lib/dpkg")).unwrap();
        fs::write(at("usr/lib/sysimage/rpm/.rpm.lock"), "").unwrap();
        fs::write(at("data/lib/dpkg/lock"), "").unwrap();
        // As Fedora has it; and what is absolute is the system's own.
        symlink("../../usr/lib/sysimage/rpm", at("data/lib/rpm")).unwrap();
        symlink("/data", at("var")).unwrap();
        let take = || Locks::take(&Machine::open(folder.path(), Access::Write, &[]).unwrap());
        let locks = take().unwrap();
        let held = || take().unwrap_err().to_string();
        assert!(held().contains("/data/lib/dpkg/lock is held"), "{}", held());
        fs::remove_file(at("data/lib/dpkg/lock")).unwrap();
        assert!(
            held().contains("/usr/lib/sysimage/rpm/.rpm.lock is held"),
            "{}",
            held()
        );
        drop(locks);
        // Whoever leads in circles has no lock.
        fs::remove_file(at("data/lib/rpm")).unwrap();
        symlink("rpm", at("data/lib/rpm")).unwrap();
        take().unwrap();
    }
}
