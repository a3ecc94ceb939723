//! Mounts that go with the value, whatever becomes of the test.

use nix::libc::O_EXCL;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long what is just being left may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Unmounts, and tries again while it is busy: a program that another thread starts has all open files of this one for a
/// moment, and FUSE closes files after their owner did. What stays busy is taken out of the way, and told.
///
/// Then waits until its device is nobody's: a mount namespace that another test has made meanwhile has this mount too, for as long
/// as the namespace lives.
///
/// # Errors
/// What `umount` says.
pub fn unmount(point: &Path) -> Result<(), String> {
    let device = Device::at(point);
    let began = Instant::now();
    loop {
        let output = umount(&[point.as_os_str()])?;
        let Some(error) = output else {
            if let Some(device) = device {
                device.wait_until_free();
            }
            return Ok(());
        };
        if !error.contains("busy") {
            return Err(error);
        }
        if began.elapsed() > PATIENCE {
            umount(&[OsStr::new("-l"), point.as_os_str()])?;
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The device of a filesystem.
struct Device {
    node: PathBuf,
    /// What a loop device shows: its number may be another's soon.
    shows: Option<String>,
}

impl Device {
    /// What is mounted there, if that is on a device.
    fn at(point: &Path) -> Option<Self> {
        let point = fs::canonicalize(point).ok()?;
        // proc(5): the mount point, and behind a dash the kind and the source. No name of a test has what is escaped there.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
        let is_it = |line: &&str| line.split(' ').nth(4).map(Path::new) == Some(&point);
        let (_, behind) = table.lines().rev().find(is_it)?.split_once(" - ")?;
        let node = PathBuf::from(behind.split(' ').nth(1)?);
        let shows = shows(&node);
        node.starts_with("/dev").then_some(Self { node, shows })
    }

    fn wait_until_free(&self) {
        let began = Instant::now();
        while self.is_held() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether somebody has it whom this test does not see.
    fn is_held(&self) -> bool {
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
        let source = self.node.to_str().unwrap_or_default();
        let is_mounted = mounts
            .lines()
            .any(|line| line.split(' ').next() == Some(source));
        if is_mounted || shows(&self.node) != self.shows {
            return false;
        }
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(O_EXCL).open(&self.node);
        opened.is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
    }
}

/// The file that a loop device shows.
fn shows(node: &Path) -> Option<String> {
    let name = node.file_name()?.to_str()?;
    fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
}

/// What it complains of.
fn umount(arguments: &[&OsStr]) -> Result<Option<String>, String> {
    let mut command = Command::new("umount");
    let output = command.args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("umount: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then_some(complaint))
}

/// What is mounted somewhere. Unmounted with the value.
pub struct Mounted {
    point: PathBuf,
}

impl Mounted {
    /// Mounts by `mount` with these arguments in front of the mount point; whoever cannot has a test that fails.
    pub fn new<S: AsRef<OsStr>>(arguments: &[S], point: &Path) -> Self {
        let output = Command::new("mount").args(arguments).arg(point).output();
        let output = output.expect("this test needs mount");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "mounting {} (run the tests as root): {said}",
            point.display()
        );
        Self::at(point)
    }

    /// Something that others mounted there.
    pub fn at(point: &Path) -> Self {
        let point = point.to_path_buf();
        Self { point }
    }

    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Err(error) = unmount(&self.point) else {
            return;
        };
        // A second panic would end the program and hide the first.
        assert!(thread::panicking(), "{error}");
        eprintln!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::Mounted;
    use std::fs::{self, File};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn what_is_busy_for_a_moment_is_unmounted_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Mounted::new(&["-t", "tmpfs", "none"], folder.path());
        let file = File::create(folder.path().join("file")).unwrap();
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(file);
        });
        drop(mounted);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        holder.join().unwrap();
    }
}
