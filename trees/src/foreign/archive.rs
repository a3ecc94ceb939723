//! Tars, entry by entry: v7, ustar, pax and GNU, as `tar-core` parses them; what that leaves out is read from the raw
//! records: fractions and signs of times, ACLs, flags.

use super::attributes;
use super::build::{Builder, Content, Given, Shape};
use crate::entry::{Extent, is_device};
use crate::header::padded;
use crate::path::{TreePath, shown};
use anyhow::{Context, anyhow, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, Header};

/// How much is read at once; a header with its records is looked for in it.
const WINDOW: usize = 64 << 10;
/// The most that one header has with its records: 64 KiB of each extended attribute, and long maps of holes.
const HEADER_MOST: usize = 16 << 20;
/// The most that all global headers have: each entry gets what they say.
const GLOBAL_MOST: usize = 1 << 20;
/// `PATH_MAX` without its zero byte: longer symlinks cannot be made.
const TARGET_MOST: usize = 4095;
/// Linux has 255 bytes a name; whoever needs more path is hostile.
const PATH_MOST: u32 = 64 << 10;

/// Kinds of entries that GNU tar has besides: a folder of an incremental archive, with a list of what was in it; the label of
/// the archive; the rest of a file whose beginning is in the volume before.
const DUMPED_FOLDER: u8 = b'D';
const VOLUME_LABEL: u8 = b'V';
const CONTINUED: u8 = b'M';

/// A layer of an OCI image, whose whiteouts count.
pub type Layer = Option<usize>;

/// How a tar ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In zeros.
    Whole,
    /// Between two entries.
    Open,
    /// In zeros, and something follows them: another tar, most likely.
    Followed,
}

/// Adds the entries of the tar in `file` to `builder`, up to its end.
///
/// # Errors
/// When it is no tar, is cut short, or leads out of itself.
pub fn read(file: File, layer: Layer, builder: &mut Builder) -> anyhow::Result<End> {
    let size = file.metadata().context("looking at the tar")?.len();
    let mut reading = Reading {
        file: Arc::new(file),
        size,
        at: 0,
        wanted: WINDOW,
        global: Vec::new(),
    };
    let mut parser = Parser::new(Limits {
        max_metadata_size: 8 << 20,
        max_path_len: Some(PATH_MOST),
        max_sparse_entries: 1 << 20,
        ..Limits::default()
    });
    parser.set_allow_empty_path(true);
    // Times before 1970 are no error: they are read below.
    parser.set_ignore_pax_errors(true);
    let mut window = Vec::new();
    loop {
        reading.fill(&mut window)?;
        if window.is_empty() && reading.at > 0 {
            // Some writers leave out the two blocks of zeros, and so does one that dies between two files.
            return Ok(End::Open);
        }
        let at = reading.at;
        let event = parser.parse(&window).map_err(|error| match at {
            0 => anyhow!("it is no tar, or packed by something that is not known here ({error})"),
            _ => anyhow!("at {at} of the tar: {error}"),
        })?;
        if !reading.take(event, layer, builder)? {
            return reading.end();
        }
    }
}

/// How far a tar is read.
struct Reading {
    file: Arc<File>,
    size: u64,
    at: u64,
    /// How much the parser is shown.
    wanted: usize,
    /// The records of all global headers so far.
    global: Vec<u8>,
}

impl Reading {
    fn left(&self) -> usize {
        usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX)
    }

    fn fill(&self, window: &mut Vec<u8>) -> anyhow::Result<()> {
        window.resize(self.wanted.min(self.left()), 0);
        let read = self.file.read_exact_at(window, self.at);
        read.context("reading the tar")
    }

    /// Whether nothing but zeros is left: some writers end with one block of them.
    fn ends_in_zeros(&self) -> anyhow::Result<bool> {
        let mut rest = vec![0; self.left().min(WINDOW)];
        self.fill(&mut rest)?;
        Ok(self.at > 0 && rest.iter().all(|byte| *byte == 0))
    }

    /// What is behind the first block of the end.
    fn end(&mut self) -> anyhow::Result<End> {
        let mut rest = Vec::new();
        while self.left() > 0 {
            self.fill(&mut rest)?;
            if rest.iter().any(|byte| *byte != 0) {
                return Ok(End::Followed);
            }
            self.at += rest.len() as u64;
        }
        Ok(End::Whole)
    }

    /// Shows the parser more than it has `seen`, if there is more. It may ask for less than that: nothing says how long some
    /// maps of holes are.
    fn show_more(&mut self, seen: usize, min_bytes: usize) -> anyhow::Result<bool> {
        let (at, size, left) = (self.at, self.size, self.left());
        if seen >= left || min_bytes > left {
            if self.ends_in_zeros()? {
                return Ok(false);
            }
            bail!("the tar ends at {size}, in the middle of an entry: it is cut short, or none");
        }
        if seen >= HEADER_MOST || min_bytes > HEADER_MOST {
            bail!("at {at} of the tar: a header of more than {HEADER_MOST} bytes");
        }
        // Twice as much, for it begins anew each time.
        self.wanted = min_bytes.max(seen.saturating_mul(2)).min(HEADER_MOST);
        Ok(true)
    }

    /// How much data an entry has at `data`. Some writers give a size to what has no data, and nothing is behind it; pax may write a
    /// file's data with a further name of it, too. As libarchive has it, a header where the data would be says that there is none.
    fn stored(&self, entry: &ParsedEntry, data: u64) -> anyhow::Result<u64> {
        match entry.entry_type {
            EntryType::Directory
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo => return Ok(0),
            EntryType::Link if entry.size > 0 => {}
            _ => return Ok(entry.size),
        }
        let mut block = [0; HEADER_SIZE];
        if data.saturating_add(entry.size.max(HEADER_SIZE as u64)) > self.size {
            return Ok(0);
        }
        let read = self.file.read_exact_at(&mut block, data);
        read.context("reading the tar")?;
        let is_header = Header::from_bytes(&block).verify_checksum().is_ok();
        Ok(if is_header { 0 } else { entry.size })
    }

    /// Takes what the parser found; whether more follows.
    fn take(
        &mut self,
        event: ParseEvent,
        layer: Layer,
        builder: &mut Builder,
    ) -> anyhow::Result<bool> {
        let seen = std::mem::replace(&mut self.wanted, WINDOW);
        match event {
            ParseEvent::NeedData { min_bytes } => return self.show_more(seen, min_bytes),
            ParseEvent::End { .. } => return Ok(false),
            ParseEvent::GlobalExtensions { consumed, pax_data } => {
                // A later one adds to an earlier one, and the last record of a key counts.
                self.global.extend_from_slice(pax_data);
                if self.global.len() > GLOBAL_MOST {
                    bail!("at {} of the tar: too many global headers", self.at);
                }
                self.at += consumed as u64;
            }
            ParseEvent::Entry { consumed, entry } => {
                let data = self.at + consumed as u64;
                let stored = self.stored(&entry, data)?;
                self.at = next(data, stored, self.size)?;
                let content = Content::new(&self.file, data, stored, None);
                add(builder, &entry, &self.global, content, layer)?;
            }
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => {
                let data = self.at + consumed as u64;
                self.at = next(data, entry.size, self.size)?;
                let map = sparse_map.iter().map(|part| (part.offset, part.length));
                let extents = extents(map, real_size, entry.size)
                    .with_context(|| format!("the holes of {}", shown(&entry.path)))?;
                let content = Content::new(&self.file, data, real_size, Some(extents));
                add(builder, &entry, &self.global, content, layer)?;
            }
        }
        Ok(true)
    }
}

/// Where the next header is.
fn next(data: u64, stored: u64, size: u64) -> anyhow::Result<u64> {
    let end = stored
        .checked_next_multiple_of(512)
        .and_then(|_| data.checked_add(padded(stored)));
    // The filling of the last entry may be missing with the end.
    match end {
        Some(end) if data.saturating_add(stored) <= size => Ok(end.min(size)),
        _ => bail!("the tar ends at {size}, in the middle of a file: it is cut short"),
    }
}

/// A map of a sparse file, checked. Empty stretches only say where the file ends.
fn extents(
    map: impl Iterator<Item = (u64, u64)>,
    size: u64,
    stored: u64,
) -> anyhow::Result<Arc<[Extent]>> {
    let mut extents = Vec::new();
    let (mut end, mut sum) = (0u64, 0u64);
    for (start, length) in map.filter(|(_, length)| *length > 0) {
        if start < end {
            bail!("its map is not in order");
        }
        end = start.checked_add(length).context("its map leads too far")?;
        sum += length;
        extents.push(Extent { start, length });
    }
    if end > size || sum != stored {
        bail!("its map is not that of its data");
    }
    Ok(extents.into())
}

fn add(
    builder: &mut Builder,
    entry: &ParsedEntry,
    global: &[u8],
    content: Content,
    layer: Layer,
) -> anyhow::Result<()> {
    let name = shown(&entry.path);
    let path = TreePath::parse_loose(&entry.path).with_context(|| format!("the path {name}"))?;
    let attributes = attributes::of(entry, global).with_context(|| format!("the entry {name}"))?;
    let unread = attributes::unread(entry, global, &attributes);
    if !unread.is_empty() {
        let why = format!("records that are not read: {}", unread.join(", "));
        builder.leave_out(format!("some of {name}"), why);
    }
    let link = || -> anyhow::Result<&[u8]> {
        let target = entry
            .link_target
            .as_deref()
            .filter(|target| !target.is_empty());
        target.with_context(|| format!("the entry {name} is a link to nothing"))
    };
    let device = || -> anyhow::Result<(u32, u32)> {
        let (major, minor) = (
            entry.dev_major.unwrap_or_default(),
            entry.dev_minor.unwrap_or_default(),
        );
        if !is_device(major, minor) {
            bail!("the device {name}: Linux has no number {major}:{minor}");
        }
        Ok((major, minor))
    };
    // v7 tars know folders by their names alone.
    let is_folder = entry.path.ends_with(b"/");
    let shape = match entry.entry_type {
        EntryType::Directory => Shape::Folder,
        EntryType::Other(DUMPED_FOLDER) => {
            let missing = absent(&content).with_context(|| format!("the list of {name}"))?;
            if missing > 0 {
                let why = format!("{missing} files, which this part of an incremental tar has not");
                builder.leave_out(format!("some of {name}"), why);
            }
            Shape::Folder
        }
        EntryType::Regular | EntryType::Continuous if is_folder => Shape::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => Shape::File(content),
        EntryType::Symlink => {
            let target = link()?;
            if target.len() > TARGET_MOST {
                bail!("the symlink {name}: its target is too long for Linux");
            }
            if target.contains(&0) {
                bail!("the symlink {name}: its target has a zero byte");
            }
            Shape::Symlink(target.to_vec())
        }
        EntryType::Link => {
            let target = TreePath::parse_loose(link()?);
            Shape::HardLink(target.with_context(|| format!("the target of {name}"))?)
        }
        EntryType::Char => device().map(|(major, minor)| Shape::Character(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Shape::Block(major, minor))?,
        EntryType::Fifo => Shape::Fifo,
        // The name of the archive.
        EntryType::Other(VOLUME_LABEL) => return Ok(()),
        EntryType::Other(CONTINUED) => bail!(
            "the tar is one of several volumes, and begins in the middle of {name}: unpack all of them by `tar -xM`, and import \
             the folder"
        ),
        other => {
            let why = format!("an entry of a kind that is not known: {other:?}");
            builder.leave_out(name, why);
            return Ok(());
        }
    };
    let given = Given {
        path,
        shape,
        attributes,
    };
    builder.add(given, layer)
}

/// How many files were in a folder of an incremental tar, and are not in the tar (GNU tar's manual, "Dumpdir").
fn absent(list: &Content) -> anyhow::Result<usize> {
    let size = usize::try_from(list.size).ok();
    let size = size.filter(|size| *size <= HEADER_MOST);
    let mut names = vec![0; size.context("it is too long")?];
    list.file
        .read_exact_at(&mut names, list.at)
        .context("reading the tar")?;
    let names = names.split(|byte| *byte == 0);
    Ok(names.filter(|name| name.starts_with(b"N")).count())
}
