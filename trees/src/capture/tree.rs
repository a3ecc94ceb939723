//! A tree on disks as the source of an image: each entry read when its turn comes, and told when it changed meanwhile.

use super::again::{self, matters};
use super::lvm::Snapshots;
use super::mounts::Mount;
use super::walk::{Node, Tree};
use super::{CaptureOptions, holes, look};
use crate::entry::{Attributes, Entry, Extent, Kind};
use crate::inode::{Stamp, attributes, flags, stamp, stat, xattrs};
use crate::meta::{LeftOut, Meta};
use crate::pack::{Contents, Data, Found, GROUP, Source};
use crate::path::TreePath;
use anyhow::{Context, bail};
use pitstop_imaging::image::members::lock;
use rustix::fs::{FileType, OFlags, Statx};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// A file that changes while it is read is read so often.
const TRIES: usize = 3;

/// What changed while it was read.
pub type Changes = Arc<Mutex<Vec<(TreePath, String)>>>;

pub struct LiveTree<'a> {
    mounts: Vec<Mount>,
    tree: Tree,
    changes: Changes,
    options: &'a CaptureOptions,
    /// That some of it is read from.
    volumes: &'a Snapshots<'a>,
}

impl<'a> LiveTree<'a> {
    pub fn new(
        mounts: Vec<Mount>,
        tree: Tree,
        options: &'a CaptureOptions,
        volumes: &'a Snapshots,
    ) -> Self {
        let gone = tree.gone.iter();
        let gone = gone.map(|path| (path.clone(), "it was gone before it was read".to_owned()));
        Self {
            changes: Arc::new(Mutex::new(gone.collect())),
            mounts,
            tree,
            options,
            volumes,
        }
    }

    fn open(&self, node: &Node, flags: OFlags) -> rustix::io::Result<File> {
        self.mounts[node.mount]
            .open(&node.path, flags)
            .map(File::from)
    }

    fn changed(&self, path: &TreePath, how: &str) {
        lock(&self.changes).push((path.clone(), how.to_owned()));
    }

    /// What is not a plain file: a folder, a symlink, a device, a FIFO.
    fn other(&self, node: &Node) -> anyhow::Result<Option<Found>> {
        let reading = || format!("reading {}", node.path);
        let opened = if node.kind == FileType::Directory {
            self.open(node, OFlags::RDONLY | OFlags::DIRECTORY)
        } else {
            self.open(node, OFlags::PATH)
        };
        let Some(opened) = there(opened).with_context(reading)? else {
            self.changed(&node.path, "it was gone when it was read");
            return Ok(None);
        };
        let found = stat(&opened).with_context(reading)?;
        if FileType::from_raw_mode(u32::from(found.stx_mode)) != node.kind {
            self.changed(&node.path, "it became something else");
            return Ok(None);
        }
        let mut attributes = attributes(&found);
        attributes.xattrs = xattrs(&opened).with_context(reading)?;
        if node.kind == FileType::Directory {
            attributes.flags = flags(&opened).with_context(reading)?;
        }
        let (major, minor) = (found.stx_rdev_major, found.stx_rdev_minor);
        let kind = match node.kind {
            FileType::Directory => Kind::Folder,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&opened, c"", Vec::new());
                Kind::Symlink(target.with_context(reading)?.into_bytes())
            }
            FileType::CharacterDevice => Kind::Character { major, minor },
            FileType::BlockDevice => Kind::Block { major, minor },
            FileType::Fifo => Kind::Fifo,
            other => bail!("{}: a tree cannot have a {other:?}", node.path),
        };
        Ok(Some(Found {
            entry: entry(node, kind, attributes),
            data: Data::None,
        }))
    }

    /// A plain file by the name of `node`; `None` when it is gone.
    fn file(&self, node: &Node) -> anyhow::Result<Option<Found>> {
        let reading = || format!("reading {}", node.path);
        for last in (0..TRIES).map(|attempt| attempt + 1 == TRIES) {
            // A FIFO that took its place would be waited for, and a terminal would become ours.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let Some(opened) = there(self.open(node, flags)).with_context(reading)? else {
                return Ok(None);
            };
            let before = stat(&opened).with_context(reading)?;
            if FileType::from_raw_mode(u32::from(before.stx_mode)) != FileType::RegularFile {
                self.changed(&node.path, "it became something else");
                return Ok(None);
            }
            let attributes = file_attributes(&opened, &before).with_context(reading)?;
            if !node.emptied && stamp(&before) != node.stamp() {
                self.changed(&node.path, "it changed after the tree was listed");
            }
            if node.emptied {
                let found = entry(node, file_kind(0, None), attributes);
                return Ok(Some(Found {
                    entry: found,
                    data: Data::None,
                }));
            }
            let size = before.stx_size;
            let extents = holes::extents(&opened, size, before.stx_blocks).with_context(reading)?;
            if size > GROUP as u64 {
                return Ok(Some(
                    self.stream(node, opened, &before, attributes, extents),
                ));
            }
            let bytes = read_all(&opened, size).with_context(reading)?;
            let after = stamp(&stat(&opened).with_context(reading)?);
            let settled = after == stamp(&before) && bytes.len() as u64 == size;
            if settled || last {
                if !settled {
                    self.changed(&node.path, "it changed each time it was read");
                }
                let entry = entry(node, file_kind(bytes.len() as u64, None), attributes);
                let data = Data::Bytes(bytes);
                return Ok(Some(Found { entry, data }));
            }
        }
        Ok(None)
    }

    fn stream(
        &self,
        node: &Node,
        file: File,
        before: &Statx,
        attributes: Attributes,
        extents: Option<Arc<[Extent]>>,
    ) -> Found {
        let size = before.stx_size;
        let contents = OpenFile {
            file,
            path: node.path.clone(),
            size,
            extents: extents.clone(),
            before: stamp(before),
            changes: Arc::clone(&self.changes),
        };
        Found {
            entry: entry(node, file_kind(size, extents), attributes),
            data: Data::Stream(Arc::new(contents)),
        }
    }

    /// A further name of a file, as long as it is one.
    fn further_name(&self, node: &Node, target: usize) -> anyhow::Result<Option<Found>> {
        let reading = || format!("reading {}", node.path);
        let Some(opened) = there(self.open(node, OFlags::PATH)).with_context(reading)? else {
            self.changed(&node.path, "it was gone when it was read");
            return Ok(None);
        };
        let found = stat(&opened).with_context(reading)?;
        if stamp(&found) != node.stamp() {
            self.changed(&node.path, "it changed after the tree was listed");
        }
        let target = self.tree.nodes[target].path.clone();
        Ok(Some(Found {
            entry: entry(node, Kind::HardLink(target), attributes(&node.stat)),
            data: Data::None,
        }))
    }

    /// A file with several names is read by the first one that is still there.
    fn named_file(&self, number: usize) -> anyhow::Result<Option<Found>> {
        let node = &self.tree.nodes[number];
        if let Some(found) = self.file(node)? {
            return Ok(Some(found));
        }
        let Some(names) = self.tree.names.get(&number) else {
            self.changed(&node.path, "it was gone when it was read");
            return Ok(None);
        };
        for other in names {
            let other = &self.tree.nodes[*other];
            if let Some(mut found) = self.file(other)? {
                found.entry.path = node.path.clone();
                self.changed(
                    &node.path,
                    "it was gone when it was read; another name of it was not",
                );
                return Ok(Some(found));
            }
        }
        bail!(
            "{} and all other names of it were gone when they were read: capture the tree again",
            node.path
        )
    }
}

/// Takes away that something is not there any more.
fn there<T>(opened: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match opened {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        other => other.map(Some),
    }
}

fn entry(node: &Node, kind: Kind, attributes: Attributes) -> Entry {
    Entry {
        path: node.path.clone(),
        kind,
        attributes,
    }
}

fn file_kind(size: u64, extents: Option<Arc<[Extent]>>) -> Kind {
    Kind::File {
        size,
        extents,
        hash: [0; 32],
    }
}

fn file_attributes(opened: &File, found: &Statx) -> io::Result<Attributes> {
    Ok(Attributes {
        xattrs: xattrs(opened)?,
        flags: flags(opened)?,
        ..attributes(found)
    })
}

/// What is in the file up to its end, which may have moved; much more than expected is left for the next try.
fn read_all(file: &File, expected: u64) -> io::Result<Vec<u8>> {
    let room = usize::try_from(expected).map_err(io::Error::other)? + 1;
    let mut bytes = vec![0; room];
    let mut done = 0;
    while done < room {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done.min(room - 1));
    Ok(bytes)
}

/// A large file that is read part by part.
struct OpenFile {
    file: File,
    path: TreePath,
    size: u64,
    extents: Option<Arc<[Extent]>>,
    before: Stamp,
    changes: Changes,
}

impl OpenFile {
    fn fill(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], at + done as u64) {
                // It shrank. Its header is written: the rest is zeros, and the change is told when all is read.
                Ok(0) => {
                    buffer[done..].fill(0);
                    return Ok(());
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Contents for OpenFile {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let whole = [Extent {
            start: 0,
            length: self.size,
        }];
        let extents = self.extents.as_deref().unwrap_or(&whole);
        let mut stored = 0;
        let mut done = 0;
        for extent in extents {
            let end = stored + extent.length;
            while done < buffer.len() && at + done as u64 >= stored && at + (done as u64) < end {
                let within = at + done as u64 - stored;
                let left = usize::try_from(extent.length - within).unwrap_or(usize::MAX);
                let now = left.min(buffer.len() - done);
                self.fill(&mut buffer[done..done + now], extent.start + within)?;
                done += now;
            }
            stored = end;
        }
        if done == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn done(&self) -> anyhow::Result<()> {
        let after = stat(&self.file).with_context(|| format!("looking at {}", self.path))?;
        if stamp(&after) != self.before {
            let how = "it changed while it was read".to_owned();
            lock(&self.changes).push((self.path.clone(), how));
        }
        Ok(())
    }
}

impl Source for LiveTree<'_> {
    fn count(&self) -> usize {
        self.tree.nodes.len()
    }

    fn size(&self, number: usize) -> u64 {
        let node = &self.tree.nodes[number];
        if node.kind == FileType::RegularFile && node.link.is_none() && !node.emptied {
            node.stamp().size
        } else {
            0
        }
    }

    fn is_folder(&self, number: usize) -> bool {
        self.tree.nodes[number].kind == FileType::Directory
    }

    fn read(&self, number: usize) -> anyhow::Result<Option<Found>> {
        let node = &self.tree.nodes[number];
        if let Some(target) = node.link {
            return self.further_name(node, target);
        }
        if node.kind == FileType::RegularFile {
            self.named_file(number)
        } else {
            self.other(node)
        }
    }

    fn finish(&self, meta: &mut Meta) -> anyhow::Result<()> {
        let mut changes = std::mem::take(&mut *lock(&self.changes));
        // What a file looks like when its turn comes says nothing of what came before and went after.
        let is_above = |path: &TreePath| path.is_root() || matters(path);
        let now = look(&self.mounts, self.options, &is_above)?;
        // Now nothing of them is read any more, and the image is none yet.
        self.volumes.check()?;
        changes.extend(again::changes(&self.tree, &now));
        changes.sort();
        changes.dedup_by(|later, first| later.0 == first.0);
        if !self.options.allow_changed
            && let Some((path, how)) = changes.iter().find(|(path, _)| matters(path))
        {
            bail!(
                "{path}: {how}, and what is under /etc, /usr and /boot has to be of one moment: try again when nothing is \
                 installed there, or say --allow-changed"
            );
        }
        meta.changed = changes
            .iter()
            .map(|(path, how)| format!("{path}: {how}"))
            .collect();
        let left_out = self.tree.left_out.iter().map(|(path, why)| LeftOut {
            path: path.to_string(),
            why: why.clone(),
        });
        meta.left_out.extend(left_out);
        meta.identity = self.tree.identity.iter().map(ToString::to_string).collect();
        Ok(())
    }
}
