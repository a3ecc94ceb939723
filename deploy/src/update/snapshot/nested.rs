//! Subvolumes within a root, in a snapshot of it.

use pitstop_trees::beneath;
use pitstop_trees::btrfs::{self, Access};
use rustix::fs::{AtFlags, OFlags, unlinkat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A snapshot has no subvolumes within it, but folders that nothing can be made in. All of the root's are empty.
pub fn renew_nested(root: &OwnedFd, snapshot: &OwnedFd) -> io::Result<()> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY;
    for path in btrfs::nested(root)? {
        let (above, name) = btrfs::split(&path);
        let above = beneath::open(snapshot.as_fd(), above, how)?;
        unlinkat(&above, name, AtFlags::REMOVEDIR)?;
        let of = beneath::open(root.as_fd(), &path, how)?;
        btrfs::snapshot(&of, &above, name, Access::Write)?;
    }
    Ok(())
}
