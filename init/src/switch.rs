//! PID 1 leaves the initramfs for another root and becomes that one's first program, as `switch_root`(8) does.

use crate::console::Consoles;
use crate::shutdown;
use crate::supervise::Watchdog;
use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::SigSet;
use nix::sys::statfs::{FsType, statfs};
use pitstop_imaging::event::Reporter;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the kernel looks for, in its order; `/sbin/init` is what a tree is asked to have.
const PROGRAMS: [&str; 3] = ["/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd"];

/// What moves along: the first program of a system takes them as it finds them.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Where everything of this boot lies that the new system has no use for.
const OURS: &str = "/run/pitstop";

/// The filesystems that an initramfs is unpacked to (linux/magic.h). Nothing else is ever emptied.
const RAMFS: FsType = FsType(0x8584_58f6);
const TMPFS: FsType = FsType(0x0102_1994);

/// Becomes the first program of the system at `root`. Does not return if it can: from the moment that the initramfs is
/// emptied there is no way back.
///
/// # Errors
/// What stood in the way, before anything was removed or moved.
pub fn into(
    root: &Path,
    consoles: &Consoles,
    watchdog: &mut Watchdog,
) -> anyhow::Result<Infallible> {
    let program = PROGRAMS
        .iter()
        .find(|program| fs::symlink_metadata(root.join(&program[1..])).is_ok());
    let program = program.with_context(|| format!("{} has no /sbin/init", root.display()))?;
    check(root)?;
    consoles.info(format!("going on in the tree: {program}"));
    consoles.drain();
    shutdown::end_processes();
    watchdog.disarm();
    move_mounts(root);
    // What is open of the old root stays open; its names go.
    empty(Path::new("/"), fs::metadata("/")?.dev(), root);
    std::env::set_current_dir(root).context("entering the tree")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("making the tree the root")?;
    nix::unistd::chroot(".").context("making the tree the root")?;
    std::env::set_current_dir("/").context("entering the tree")?;
    start(program)
}

/// Whether the old root is an initramfs, and the new one is another filesystem.
fn check(root: &Path) -> anyhow::Result<()> {
    let kind = statfs("/")
        .context("looking at the root")?
        .filesystem_type();
    if kind != RAMFS && kind != TMPFS {
        bail!("this root is no initramfs: it is left as it is");
    }
    let of = |path: &Path| {
        let found = fs::metadata(path);
        found.with_context(|| format!("looking at {}", path.display()))
    };
    if of(Path::new("/"))?.dev() == of(root)?.dev() {
        bail!("nothing is mounted at {}", root.display());
    }
    Ok(())
}

/// What cannot move, the tree mounts for itself.
fn move_mounts(root: &Path) {
    drop_ours();
    for from in MOVED {
        let to = root.join(&from[1..]);
        let _ = fs::create_dir(&to);
        let moved = mount(
            Some(from),
            &to,
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        );
        if moved.is_err() {
            let _ = umount2(from, MntFlags::MNT_DETACH);
        }
    }
    // It is this boot's own, and the tree has one.
    let _ = umount2("/tmp", MntFlags::MNT_DETACH);
}

/// Shares and parts of the tree below: who uses them holds them.
fn drop_ours() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let ours = points.filter(|point| Path::new(point).starts_with(OURS));
    for point in ours.collect::<Vec<_>>().into_iter().rev() {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    // Never into what is mounted there still: it is somebody's share.
    if let Ok(found) = fs::symlink_metadata(OURS) {
        empty(Path::new(OURS), found.dev(), Path::new(""));
        let _ = fs::remove_dir(OURS);
    }
}

/// Removes what is on the filesystem `device` in `folder`, and goes into no other. What cannot be removed takes memory and
/// nothing else.
fn empty(folder: &Path, device: u64, spared: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if found.dev() != device || path == spared {
            continue;
        }
        if found.is_dir() {
            empty(&path, device, spared);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

/// As the kernel starts the first program: with a console, and nothing blocked.
fn start(program: &str) -> anyhow::Result<Infallible> {
    if let Ok(console) = File::options().read(true).write(true).open("/dev/console") {
        let _ = nix::unistd::dup2_stdin(&console);
        let _ = nix::unistd::dup2_stdout(&console);
        let _ = nix::unistd::dup2_stderr(&console);
    }
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    SigSet::empty()
        .thread_set_mask()
        .context("letting signals through")?;
    let name = CString::new(program)?;
    let arguments = std::env::args().skip(1).map(CString::new);
    let arguments: Vec<CString> = std::iter::once(Ok(name.clone()))
        .chain(arguments)
        .collect::<Result<_, _>>()?;
    let environment = [c"HOME=/", c"TERM=linux"];
    nix::unistd::execve(&name, &arguments, &environment)
        .with_context(|| format!("starting {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_one_filesystem_goes_and_the_new_root_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["etc/deep/er", "new/etc"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["init", "etc/deep/er/x", "new/etc/os-release"] {
            fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("new"), at("link")).unwrap();
        let device = fs::metadata(root.path()).unwrap().dev();
        // Of another filesystem nothing goes.
        empty(root.path(), device + 1, &at("new"));
        assert!(at("init").exists());
        empty(root.path(), device, &at("new"));
        assert!(at("new/etc/os-release").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_root_that_is_no_initramfs_is_never_emptied() {
        let root = tempfile::tempdir().unwrap();
        let error = check(root.path()).unwrap_err().to_string();
        let in_memory = error.starts_with("nothing is mounted at");
        assert!(
            in_memory || error.starts_with("this root is no initramfs"),
            "{error}"
        );
    }
}
