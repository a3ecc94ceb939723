//! Disk images that other programs have open: QEMU locks those of its machines, and so does a restore.

use crate::patience::patiently;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_RDLCK, F_WRLCK, SEEK_SET, c_int, c_short, flock, off_t};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// How long who has just left may have a disk still.
pub const MOMENT: Duration = Duration::from_millis(700);

/// Locks all of `file` for as long as it is open. `false` where another program has a lock on any byte of it. A
/// filesystem without locks has nobody who could.
pub fn take(file: &File) -> bool {
    // No length: to the end, wherever that is.
    lock(file, F_WRLCK, 0)
}

/// Keeps everybody who [takes](take) `file` away for as long as it is open, and others who share it not. `false` where
/// somebody has taken it. It is the first byte alone that is locked: QEMU has locks on others.
pub fn share(file: &File) -> bool {
    lock(file, F_RDLCK, 1)
}

/// A disk that nobody else takes or shares for as long as this lives: for work that opens it again and again
/// ([`Target::reopen`](super::Target::reopen)), and has other programs do so.
#[derive(Debug)]
pub struct DiskLock {
    /// Open for the lock alone: what claims a device from who mounts it would be in the way of those programs.
    _file: File,
}

impl DiskLock {
    /// # Errors
    /// When another program has it locked, or when it cannot be opened for writing.
    pub fn take(disk: &Path) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(disk);
        let file = file.with_context(|| format!("opening {} for writing", disk.display()))?;
        take_or_tell(&file, disk)?;
        Ok(Self { _file: file })
    }
}

/// [Takes](take) the open `disk`, also from who is just leaving it.
///
/// # Errors
/// When another program has it locked.
pub(super) fn take_or_tell(file: &File, disk: &Path) -> anyhow::Result<()> {
    if !patiently(MOMENT, || take(file), |taken| !taken) {
        bail!(
            "{} is in use: another program, such as QEMU, a backup, a deploy or another restore, has it locked: stop that \
             first",
            disk.display()
        );
    }
    Ok(())
}

fn lock(file: &File, kind: c_int, length: off_t) -> bool {
    let range = flock {
        l_type: c_short::try_from(kind).unwrap_or_default(),
        l_whence: c_short::try_from(SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: length,
        l_pid: 0,
    };
    // Locks of this kind belong to the open file, not to the process: closing another descriptor keeps them.
    let locked = fcntl(file, FcntlArg::F_OFD_SETLK(&range));
    !matches!(locked, Err(Errno::EAGAIN | Errno::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Target;
    use std::fs::OpenOptions;

    #[test]
    fn a_second_one_finds_it_locked_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, b"x").unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap()
        };
        let first = open();
        assert!(take(&first));
        assert!(!take(&open()));
        drop(first);
        // What another test is just about to start has this file open until then.
        let soon = Duration::from_secs(60);
        assert!(patiently(soon, || take(&open()), |taken| !*taken));
    }

    #[test]
    fn who_only_reads_keeps_writers_away_and_no_other_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, b"x").unwrap();
        let read = || File::open(&path).unwrap();
        let (first, second) = (read(), read());
        assert!(share(&first) && share(&second));
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(!take(&writer));
        drop((first, second));
        let soon = Duration::from_secs(60);
        assert!(patiently(soon, || take(&writer), |taken| !*taken));
        assert!(!share(&read()));
    }

    #[test]
    fn who_works_on_a_disk_opens_it_again_and_nobody_else_gets_it_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, b"x").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("disk", &link).unwrap();
        let held = DiskLock::take(&path).unwrap();
        for _ in 0..2 {
            Target::reopen(&path).unwrap();
            assert!(!share(&File::open(&path).unwrap()));
        }
        let error = DiskLock::take(&link).unwrap_err().to_string();
        assert!(error.contains("a deploy or another restore"), "{error}");
        drop(held);
        let soon = Duration::from_secs(60);
        let again = patiently(soon, || DiskLock::take(&link), Result::is_err);
        again.unwrap();
    }

    #[test]
    fn a_disk_that_is_just_being_left_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, b"x").unwrap();
        let first = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(take(&first));
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        Target::open(&path).unwrap();
        leaving.join().unwrap();
    }
}
