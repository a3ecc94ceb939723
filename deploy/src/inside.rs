//! Files of the new system, opened so that no symlink is followed, and so that nothing leads out (openat2(2)).

use crate::root::Root;
use anyhow::Context;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, chmodat, fchmod, mkdirat, openat2};
use rustix::io::Errno;
use rustix::path::Arg;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Opens what is at `path`, which begins with no `/`.
///
/// # Errors
/// When it is not there, or a symlink stands in the way.
pub fn open(root: &Root, path: &str, flags: OFlags) -> anyhow::Result<OwnedFd> {
    let opened = in_folder(&top(root)?, path, flags);
    opened.with_context(|| format!("opening /{path} of the new system"))
}

/// The root itself.
///
/// # Errors
/// When it cannot be opened.
pub fn top(root: &Root) -> anyhow::Result<OwnedFd> {
    let opened = File::open(root.path());
    Ok(opened
        .with_context(|| format!("opening {}", root.path().display()))?
        .into())
}

/// The same below an open folder; a new file is readable by all, whatever this process's umask is.
///
/// # Errors
/// As the kernel has them.
pub fn in_folder(folder: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let open = |flags: OFlags, mode| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(folder, path, flags | OFlags::CLOEXEC, mode, resolve)
    };
    if !flags.contains(OFlags::CREATE) {
        return open(flags, Mode::empty());
    }
    let mode = Mode::from_raw_mode(0o644);
    match open(flags | OFlags::EXCL, mode) {
        Ok(file) => fchmod(&file, mode).map(|()| file),
        Err(Errno::EXIST) => open(flags - OFlags::CREATE, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// Makes a folder with 0755, whatever this process's umask is: a daemon of the new system has to get through it.
///
/// # Errors
/// As the kernel has them.
pub fn make_folder(folder: impl AsFd, name: impl Arg + Copy) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(&folder, name, mode)?;
    chmodat(&folder, name, mode, AtFlags::empty())
}

/// Makes a folder and those that it is in, where they are not there.
///
/// # Errors
/// As the kernel has them.
pub fn make_folders(folder: &OwnedFd, path: &str) -> rustix::io::Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    for end in ends.chain([path.len()]).filter(|end| *end > 0) {
        match make_folder(folder, &path[..end]) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// All of a file.
///
/// # Errors
/// When it cannot be opened or read.
pub fn read(root: &Root, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(open(root, path, OFlags::RDONLY)?)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading /{path} of the new system"))?;
    Ok(bytes)
}

/// Writes a whole file. One that is there keeps its attributes.
///
/// # Errors
/// When it cannot be written.
pub fn write(root: &Root, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    File::from(open(root, path, flags)?)
        .write_all(bytes)
        .with_context(|| format!("writing /{path} of the new system"))
}
