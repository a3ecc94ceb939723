//! A folder as a layer.

use super::Takes;
use anyhow::Context;
use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::inode;
use pitstop_trees::path::TreePath;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat, readlinkat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Hands all that is in it to `layer`: folders before their contents, names in order. No symlink is followed.
pub fn walk(folder: &Path, layer: &mut dyn Takes) -> anyhow::Result<()> {
    let opened = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    below(&opened.into(), &TreePath::root(), layer)
        .with_context(|| format!("reading {}", folder.display()))
}

fn below(folder: &OwnedFd, path: &TreePath, layer: &mut dyn Takes) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).with_context(|| format!("reading {path}"))? {
        let entry = entry.with_context(|| format!("reading {path}"))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort();
    for name in names {
        let path = path.join(&name)?;
        entry(folder, &name, &path, layer).with_context(|| path.to_string())?;
    }
    Ok(())
}

fn entry(
    folder: &OwnedFd,
    name: &[u8],
    path: &TreePath,
    layer: &mut dyn Takes,
) -> anyhow::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(folder, name, flags, Mode::empty())?;
    let found = inode::stat(&handle)?;
    let device = (found.stx_rdev_major, found.stx_rdev_minor);
    let kind = match FileType::from_raw_mode(found.stx_mode.into()) {
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File {
            size: found.stx_size,
            extents: None,
            hash: [0; 32],
        },
        FileType::Symlink => Kind::Symlink(readlinkat(&handle, "", Vec::new())?.into_bytes()),
        FileType::CharacterDevice => Kind::Character {
            major: device.0,
            minor: device.1,
        },
        FileType::BlockDevice => Kind::Block {
            major: device.0,
            minor: device.1,
        },
        FileType::Fifo => Kind::Fifo,
        _ => {
            layer.pass_over(path, "a socket");
            return Ok(());
        }
    };
    let mut attributes = inode::attributes(&found);
    attributes.xattrs = inode::xattrs(&handle)?;
    let entry = Entry {
        path: path.clone(),
        kind,
        attributes,
    };
    let open = |flags| {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(folder, name, flags, Mode::empty())
    };
    layer.entry(&entry, &|to| {
        let mut from = File::from(open(OFlags::empty())?);
        io::copy(&mut from, &mut &*to).map(|_| ())
    })?;
    if entry.kind == Kind::Folder {
        below(&open(OFlags::DIRECTORY)?, path, layer)?;
    }
    Ok(())
}
