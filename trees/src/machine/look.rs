//! Looking at what is at a path: attributes, the target of a symlink, the hash of what is in a file.

use super::{Machine, Node};
use crate::entry::{Attributes, Extent, Hash, Kind};
use crate::inode::{attributes, flags, proc_path, xattrs};
use rustix::fs::{FileType, OFlags, SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// `STATX_ATTR_COMPRESSED`, `_IMMUTABLE`, `_APPEND` and `_NODUMP` (linux/stat.h), which have the bits of the flags.
const TOLD: u64 = 0x74;
/// Files are read in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// Looks at nodes, best in the order of the tree: the folder that was needed last stays open. One a thread.
pub struct Looker<'a> {
    machine: &'a Machine,
    folder: Option<(usize, Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a> Looker<'a> {
    pub fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            folder: None,
            buffer: Vec::new(),
        }
    }

    /// All attributes; `None` when it is gone meanwhile. Flags that `statx` does not tell are asked for where `sure` says
    /// so.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn attributes(&mut self, node: &Node, sure: bool) -> io::Result<Option<Attributes>> {
        gone(self.all_attributes(node, sure))
    }

    fn all_attributes(&mut self, node: &Node, sure: bool) -> io::Result<Attributes> {
        let mut found = attributes(&node.stat);
        if self.has_xattrs(node)? {
            let flags = if node.kind == FileType::Directory {
                OFlags::RDONLY | OFlags::DIRECTORY
            } else {
                OFlags::PATH
            };
            found.xattrs = xattrs(self.machine.open_path(&node.path, flags)?)?;
        }
        let may_have = matches!(node.kind, FileType::RegularFile | FileType::Directory);
        let told = node.stat.stx_attributes.bits() & TOLD != 0;
        let tells = node.stat.stx_attributes_mask.bits() & TOLD != 0;
        if may_have && (sure || told || !tells) && !self.machine.is_fat(node.mount) {
            let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            found.flags = flags(self.machine.open_path(&node.path, how)?)?;
        }
        Ok(found)
    }

    /// One call for each path: most have none.
    fn has_xattrs(&mut self, node: &Node) -> io::Result<bool> {
        if node.path.is_root() || self.machine.is_point(&node.path) {
            return Ok(true);
        }
        let mut path = proc_path(self.folder(node)?).into_bytes();
        path.push(b'/');
        path.extend_from_slice(node.path.name());
        match rustix::fs::llistxattr_query(&path[..]) {
            Ok(length) => Ok(length > 0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn folder(&mut self, node: &Node) -> io::Result<&OwnedFd> {
        let wanted = node.path.folder();
        let machine = self.machine;
        let kept = self.folder.take();
        let kept = kept.filter(|(mount, path, _)| *mount == node.mount && path == wanted);
        let kept = match kept {
            Some(kept) => kept,
            None => (
                node.mount,
                wanted.to_vec(),
                machine.folder_of(&node.path, OFlags::PATH)?,
            ),
        };
        Ok(&self.folder.insert(kept).2)
    }

    /// Where a symlink leads; `None` when it is gone meanwhile.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn target(&mut self, node: &Node) -> io::Result<Option<Vec<u8>>> {
        let read = self.folder(node).and_then(|folder| {
            let target = rustix::fs::readlinkat(folder, node.path.name(), Vec::new())?;
            Ok(target.into_bytes())
        });
        gone(read)
    }

    /// Whether a file holds what `kind` says, by its BLAKE3.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn holds(&mut self, node: &Node, kind: &Kind) -> io::Result<bool> {
        let Kind::File {
            size,
            extents,
            hash,
        } = kind
        else {
            return Ok(false);
        };
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(opened) = gone(self.machine.open_path(&node.path, how))? else {
            return Ok(false);
        };
        let file = File::from(opened);
        if file.metadata()?.len() != *size {
            return Ok(false);
        }
        let whole = [Extent {
            start: 0,
            length: *size,
        }];
        let extents = extents.as_deref().unwrap_or(&whole);
        if self.hash(&file, extents)? != Some(*hash) {
            return Ok(false);
        }
        self.is_hole_between(&file, extents, *size)
    }

    fn hash(&mut self, file: &File, extents: &[Extent]) -> io::Result<Option<Hash>> {
        self.buffer.resize(PIECE, 0);
        let mut hasher = blake3::Hasher::new();
        for extent in extents {
            let mut at = extent.start;
            let end = extent.start + extent.length;
            while at < end {
                let now = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                match file.read_exact_at(&mut self.buffer[..now], at) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(error) => return Err(error),
                }
                hasher.update(&self.buffer[..now]);
                at += now as u64;
            }
        }
        Ok(Some(*hasher.finalize().as_bytes()))
    }

    /// Whether nothing but zeros is where the extents have holes.
    fn is_hole_between(&mut self, file: &File, extents: &[Extent], size: u64) -> io::Result<bool> {
        let ends = extents.iter().map(|extent| extent.start + extent.length);
        let starts = extents.iter().map(|extent| extent.start);
        for (from, to) in std::iter::once(0).chain(ends).zip(starts.chain([size])) {
            if !self.is_zero(file, from, to)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_zero(&mut self, file: &File, mut at: u64, end: u64) -> io::Result<bool> {
        self.buffer.resize(PIECE, 0);
        while at < end {
            at = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data.min(end),
                Err(Errno::NXIO) => return Ok(true),
                Err(Errno::INVAL) => at,
                Err(error) => return Err(error.into()),
            };
            let now = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            file.read_exact_at(&mut self.buffer[..now], at)?;
            if self.buffer[..now].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += now as u64;
        }
        Ok(true)
    }
}

/// What was renamed or removed meanwhile is nothing.
fn gone<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
            ) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}
