//! Files of a tree that are another machine's, and what they become on one that only runs the tree.

use anyhow::Context;
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

const FSTAB: &str = "# This machine runs a tree, and none of the disks that the tree was made on is here. Files by layer may\n\
                     # bring an fstab of their own; the tree's is fstab.tree.\n";

/// The disks of an fstab are those of the machine that the tree is of: a system would wait for them.
///
/// # Errors
/// It cannot be put aside.
pub fn fstab(root: &Path) -> anyhow::Result<()> {
    let doing = || "putting the tree's fstab aside";
    let Some(etc) = folder(root).with_context(doing)? else {
        return Ok(());
    };
    match renameat(&etc, "fstab", &etc, "fstab.tree") {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error).with_context(doing),
    }
    write(&etc, "fstab", FSTAB.as_bytes()).with_context(doing)
}

/// A tree that says nothing of name servers gets those of this boot.
///
/// # Errors
/// They cannot be written.
pub fn resolver(root: &Path, ours: &Path) -> anyhow::Result<()> {
    const NAME: &str = "resolv.conf";
    let doing = || format!("telling the tree the name servers of {}", ours.display());
    let (Ok(text), Some(etc)) = (fs::read(ours), folder(root).with_context(doing)?) else {
        return Ok(());
    };
    match statat(&etc, NAME, AtFlags::SYMLINK_NOFOLLOW) {
        // A file that says something, or a link to where a program of the tree will write.
        Ok(found) if found.st_size > 0 => return Ok(()),
        Ok(_) => unlinkat(&etc, NAME, AtFlags::empty()).with_context(doing)?,
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(doing),
    }
    write(&etc, NAME, &text).with_context(doing)
}

/// `/etc`, as the tree's own programs find it.
fn folder(root: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let root = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(&root, "etc", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(folder: &OwnedFd, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(File::from(file).write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_fstab_goes_aside_and_name_servers_come_where_there_are_none() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("ours"), "nameserver 10.0.2.3\n").unwrap();
        fs::write(at("etc/fstab"), "UUID=1 / ext4 defaults 0 1\n").unwrap();
        fstab(root.path()).unwrap();
        assert!(
            fs::read_to_string(at("etc/fstab"))
                .unwrap()
                .starts_with('#')
        );
        assert!(
            fs::read_to_string(at("etc/fstab.tree"))
                .unwrap()
                .starts_with("UUID=1")
        );
        resolver(root.path(), &at("ours")).unwrap();
        let told = || fs::read_to_string(at("etc/resolv.conf")).unwrap();
        assert_eq!(told(), "nameserver 10.0.2.3\n");
        fs::write(at("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        resolver(root.path(), &at("ours")).unwrap();
        assert_eq!(told(), "nameserver 192.0.2.1\n");
        // A link stays, wherever it leads.
        fs::remove_file(at("etc/resolv.conf")).unwrap();
        symlink("/run/resolv.conf", at("etc/resolv.conf")).unwrap();
        resolver(root.path(), &at("ours")).unwrap();
        assert!(at("etc/resolv.conf").is_symlink());
    }

    #[test]
    fn nothing_is_written_out_of_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("fstab"), "mine").unwrap();
        symlink(outside.path(), root.path().join("etc")).unwrap();
        fstab(root.path()).unwrap();
        assert_eq!(
            fs::read_to_string(outside.path().join("fstab")).unwrap(),
            "mine"
        );
        assert!(!outside.path().join("fstab.tree").exists());
    }
}
