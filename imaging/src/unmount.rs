//! Unmounting, also of what somebody is just about to leave.

use crate::patience::patiently;
use std::io;
use std::path::Path;
use std::time::Duration;
use sys_mount::UnmountFlags;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Unmounts what is mounted at `point`, and tries again for five seconds while it is busy, as it can be with nobody
/// at work there; who looks at new filesystems, as udev does, holds them for a moment too.
///
/// # Errors
/// When it stays busy, or what the kernel says.
pub fn unmount(point: &Path) -> io::Result<()> {
    patiently(
        PATIENCE,
        || sys_mount::unmount(point, UnmountFlags::empty()),
        |done| matches!(done, Err(error) if error.kind() == io::ErrorKind::ResourceBusy),
    )
}

#[cfg(test)]
mod tests {
    use super::unmount;
    use pitstop_testing::mounts::Mounted;
    use std::fs::File;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn what_is_busy_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Mounted::new(&["-t", "tmpfs", "none"], folder.path());
        let held = File::create(folder.path().join("file")).unwrap();
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        unmount(folder.path()).unwrap();
        holder.join().unwrap();
        std::mem::forget(mounted);
        let error = unmount(folder.path()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
