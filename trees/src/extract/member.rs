//! The entries of one proven member, or the part of a file that it is.

use super::attributes::{self, Losses};
use super::folder::{Folder, Places, Target};
use crate::entry::{Entry, Extent, Kind};
use crate::image::TreeImage;
use crate::pack::PART;
use anyhow::{Context, bail};
use pitstop_imaging::image::members::lock;
use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, fallocate, makedev, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, Weak};

/// Files of which parts are missing, by the numbers of their entries.
pub type LargeFiles = Mutex<HashMap<usize, Arc<Mutex<LargeFile>>>>;

/// A file that several threads write. It is open while one of them does: of many files parts may be missing at a time, and a program
/// has few handles.
#[derive(Default)]
pub struct LargeFile {
    is_made: bool,
    open: Weak<File>,
    written: u64,
}

/// Writes members. One a thread.
pub struct Writer<'a, P> {
    image: &'a TreeImage<'a>,
    target: &'a Target,
    large: &'a LargeFiles,
    losses: &'a Losses,
    places: P,
}

impl<'a, P: Places> Writer<'a, P> {
    pub fn new(
        image: &'a TreeImage<'a>,
        target: &'a Target,
        large: &'a LargeFiles,
        losses: &'a Losses,
        places: P,
    ) -> Self {
        Self {
            image,
            target,
            large,
            losses,
            places,
        }
    }

    /// Makes what begins in member `number`, and writes the data in it.
    pub fn write(&mut self, number: usize, raw: &[u8]) -> anyhow::Result<()> {
        let index = &self.image.index;
        let range = index.raw_range(number);
        let within =
            |part: &Range<u64>| -> anyhow::Result<Range<usize>> {
                Ok(usize::try_from(part.start - range.start)?
                    ..usize::try_from(part.end - range.start)?)
            };
        for number in index.entries_in(&range) {
            if !self.places.wants(number) {
                continue;
            }
            let entry = &index.placed()[number].entry;
            let data = index.data_range(number);
            let begins = range.contains(&index.header_range(number).start);
            match &entry.kind {
                Kind::Folder | Kind::HardLink(_) => {}
                Kind::File { .. } if begins && data.end <= range.end => {
                    self.file(number, entry, &raw[within(&data)?])?;
                }
                Kind::File { .. } => {
                    let part = data.start.max(range.start)..data.end.min(range.end);
                    if part.start < part.end {
                        let at = part.start - data.start;
                        self.part(number, entry, &raw[within(&part)?], at)?;
                    }
                }
                _ if begins => self.special(number, entry)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn create(&mut self, number: usize, entry: &Entry) -> anyhow::Result<(File, bool)> {
        let name = self.target.shown(&entry.path);
        let (folder, own) = self.places.of(number, entry)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.attributes.mode & 0o777);
        let file =
            openat(&folder.fd, own, flags, mode).with_context(|| format!("making {name}"))?;
        attributes::set_early(&file, &entry.attributes, &name, self.losses)?;
        Ok((File::from(file), folder.is_fat))
    }

    fn finish(&self, entry: &Entry, file: &OwnedFd, is_fat: bool) -> anyhow::Result<()> {
        let name = self.target.shown(&entry.path);
        attributes::set_open(file, &entry.attributes, is_fat, &name, self.losses)
    }

    fn file(&mut self, number: usize, entry: &Entry, data: &[u8]) -> anyhow::Result<()> {
        let (file, is_fat) = self.create(number, entry)?;
        let written = reserve(&file, entry).and_then(|()| write_data(&file, entry, data, 0));
        written.with_context(|| format!("writing {}", self.target.shown(&entry.path)))?;
        let file = file.into();
        self.finish(entry, &file, is_fat)?;
        begin_flushing(&file, entry, 0, data.len());
        Ok(())
    }

    fn open(
        &mut self,
        number: usize,
        entry: &Entry,
        large: &mut LargeFile,
    ) -> anyhow::Result<Arc<File>> {
        if let Some(file) = large.open.upgrade() {
            return Ok(file);
        }
        let name = self.target.shown(&entry.path);
        let file = if large.is_made {
            let (folder, own) = self.places.of(number, entry)?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&folder.fd, own, flags, Mode::empty());
            opened.with_context(|| format!("opening {name}"))?.into()
        } else {
            let (file, _) = self.create(number, entry)?;
            reserve(&file, entry).with_context(|| format!("making {name}"))?;
            large.is_made = true;
            file
        };
        let file = Arc::new(file);
        large.open = Arc::downgrade(&file);
        Ok(file)
    }

    fn part(&mut self, number: usize, entry: &Entry, data: &[u8], at: u64) -> anyhow::Result<()> {
        let shared = Arc::clone(lock(self.large).entry(number).or_default());
        let file = self.open(number, entry, &mut lock(&shared))?;
        write_data(&file, entry, data, at)
            .with_context(|| format!("writing {}", self.target.shown(&entry.path)))?;
        begin_flushing(&*file, entry, at, data.len());
        let mut large = lock(&shared);
        large.written += data.len() as u64;
        if large.written < entry.kind.stored() {
            return Ok(());
        }
        drop(large);
        lock(self.large).remove(&number);
        let is_fat = self.places.of(number, entry)?.0.is_fat;
        let file = file.try_clone().context("keeping a file open")?;
        self.finish(entry, &file.into(), is_fat)
    }

    fn special(&mut self, number: usize, entry: &Entry) -> anyhow::Result<()> {
        let shown = self.target.shown(&entry.path);
        let (folder, own) = self.places.of(number, entry)?;
        if folder.is_fat {
            bail!("{shown}: FAT has no place for a {}", entry.kind.word());
        }
        make_special(folder, own, entry).with_context(|| format!("making {shown}"))?;
        attributes::set_named(
            folder,
            own,
            &entry.kind,
            &entry.attributes,
            self.target,
            &shown,
            self.losses,
        )
    }
}

/// From so many bytes on it is worth a call.
const FLUSHED: usize = 64 << 10;

/// Has so many bytes from `at` on go to the disk now: else Linux would keep them until everything is written, and the disk would stand
/// still until then. No more than a hint: what goes wrong is told to who flushes the filesystem.
fn begin_flushing(file: &impl AsRawFd, entry: &Entry, at: u64, length: usize) {
    let has_holes = !matches!(entry.kind, Kind::File { extents: None, .. });
    let (Ok(at), Ok(size)) = (i64::try_from(at), i64::try_from(length)) else {
        return;
    };
    if length < FLUSHED || has_holes {
        return;
    }
    // SAFETY: a plain call to the kernel about a file that is open.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), at, size, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Gives a file its size: room for all of it, or holes.
fn reserve(file: &File, entry: &Entry) -> std::io::Result<()> {
    let Kind::File { size, extents, .. } = &entry.kind else {
        return Ok(());
    };
    if extents.is_some() {
        return file.set_len(*size);
    }
    if *size <= PART {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, *size) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(*size),
        Err(error) => Err(error.into()),
    }
}

fn make_special(folder: &Folder, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(entry.attributes.mode & 0o777);
    let node = |kind, device| mknodat(&folder.fd, name, kind, mode, device);
    match &entry.kind {
        Kind::Symlink(target) => symlinkat(&target[..], &folder.fd, name),
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::Character { major, minor } => {
            node(FileType::CharacterDevice, makedev(*major, *minor))
        }
        Kind::Block { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor)),
        Kind::Folder | Kind::File { .. } | Kind::HardLink(_) => Ok(()),
    }
}

/// Writes data that is at byte `at` of what is stored for a file to where it is in the file.
fn write_data(file: &File, entry: &Entry, data: &[u8], at: u64) -> std::io::Result<()> {
    let Kind::File {
        extents: Some(extents),
        ..
    } = &entry.kind
    else {
        return file.write_all_at(data, at);
    };
    for (part, place) in pieces(extents, at, data.len()) {
        file.write_all_at(&data[part], place)?;
    }
    Ok(())
}

/// Reads back what [`write_data`] has written.
pub fn read_data(file: &File, entry: &Entry, data: &mut [u8], at: u64) -> std::io::Result<()> {
    let Kind::File {
        extents: Some(extents),
        ..
    } = &entry.kind
    else {
        return file.read_exact_at(data, at);
    };
    for (part, place) in pieces(extents, at, data.len()) {
        file.read_exact_at(&mut data[part], place)?;
    }
    Ok(())
}

/// Where the pieces of stored data from byte `at` on are in a file with holes.
pub fn pieces(extents: &[Extent], at: u64, length: usize) -> Vec<(Range<usize>, u64)> {
    let mut pieces = Vec::new();
    let mut stored = 0;
    let end = at + length as u64;
    for extent in extents {
        let from = stored.max(at);
        let to = (stored + extent.length).min(end);
        if from < to
            && let (Ok(start), Ok(stop)) = (usize::try_from(from - at), usize::try_from(to - at))
        {
            pieces.push((start..stop, extent.start + (from - stored)));
        }
        stored += extent.length;
    }
    pieces
}
