//! Tars, entry by entry: v7, ustar, pax and GNU, as `tar-core` parses them; what that leaves out is read from the raw
//! records: fractions and signs of times, ACLs, flags.

use super::build::{Builder, Content, Given, Shape};
use crate::acl;
use crate::entry::{Attributes, Extent, Time, Xattrs};
use crate::flags::Flags;
use crate::header::padded;
use crate::path::{TreePath, shown};
use crate::pax::unescaped;
use anyhow::{Context, anyhow, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, PaxExtensions};

/// How much is read at once; a header with its records is looked for in it.
const WINDOW: usize = 64 << 10;
/// The most that one header has with its records: 64 KiB of each extended attribute, and long maps of holes.
const HEADER_MOST: usize = 16 << 20;
/// Linux has 255 bytes a name; whoever needs more path is hostile.
const PATH_MOST: u32 = 64 << 10;

/// A layer of an OCI image, whose whiteouts count.
pub type Layer = Option<usize>;

/// Adds the entries of the tar in `file` to `builder`.
///
/// # Errors
/// When it is no tar, is cut short, or leads out of itself.
pub fn read(file: File, layer: Layer, builder: &mut Builder) -> anyhow::Result<()> {
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
            // Some writers leave out the two blocks of zeros.
            return Ok(());
        }
        let at = reading.at;
        let event = parser
            .parse(&window)
            .map_err(|error| anyhow!("at {at} of the tar: {error}"))?;
        if !reading.take(event, layer, builder)? {
            return Ok(());
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
    /// The records of the last global header.
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

    /// Takes what the parser found; whether more follows.
    fn take(
        &mut self,
        event: ParseEvent,
        layer: Layer,
        builder: &mut Builder,
    ) -> anyhow::Result<bool> {
        self.wanted = WINDOW;
        match event {
            ParseEvent::NeedData { min_bytes } => {
                let (at, size) = (self.at, self.size);
                if min_bytes > self.left() {
                    bail!(
                        "the tar ends at {size}, in the middle of an entry: it is cut short, or none"
                    );
                }
                if min_bytes > HEADER_MOST {
                    bail!("at {at} of the tar: a header of {min_bytes} bytes");
                }
                self.wanted = min_bytes.max(WINDOW);
            }
            ParseEvent::End { .. } => return Ok(false),
            ParseEvent::GlobalExtensions { consumed, pax_data } => {
                self.global = pax_data.to_vec();
                self.at += consumed as u64;
            }
            ParseEvent::Entry { consumed, entry } => {
                let data = self.at + consumed as u64;
                self.at = next(data, entry.size, self.size)?;
                let content = Content::new(&self.file, data, entry.size, None);
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
    let attributes = attributes(entry, global).with_context(|| format!("the entry {name}"))?;
    let link = || -> anyhow::Result<&[u8]> {
        let target = entry
            .link_target
            .as_deref()
            .filter(|target| !target.is_empty());
        target.with_context(|| format!("the entry {name} is a link to nothing"))
    };
    let device = || {
        let number = |number: Option<u32>| number.unwrap_or_default();
        (number(entry.dev_major), number(entry.dev_minor))
    };
    // v7 tars know folders by their names alone.
    let is_folder = entry.path.ends_with(b"/");
    let shape = match entry.entry_type {
        EntryType::Directory => Shape::Folder,
        EntryType::Regular | EntryType::Continuous if is_folder => Shape::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => Shape::File(content),
        EntryType::Symlink => Shape::Symlink(link()?.to_vec()),
        EntryType::Link => {
            let target = TreePath::parse_loose(link()?);
            Shape::HardLink(target.with_context(|| format!("the target of {name}"))?)
        }
        EntryType::Char => Shape::Character(device().0, device().1),
        EntryType::Block => Shape::Block(device().0, device().1),
        EntryType::Fifo => Shape::Fifo,
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

fn attributes(entry: &ParsedEntry, global: &[u8]) -> anyhow::Result<Attributes> {
    let id = |id: u64| u32::try_from(id).context("an owner that Linux has no number for");
    // GNU tar and bsdtar have times before 1970 as negative numbers.
    let seconds = entry.mtime.cast_signed();
    let mut found = Attributes {
        mode: entry.mode & 0o7777,
        uid: id(entry.uid)?,
        gid: id(entry.gid)?,
        mtime: Time { seconds, nanos: 0 },
        ..Attributes::default()
    };
    let mut xattrs = Vec::new();
    for records in [Some(global), entry.pax].into_iter().flatten() {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|error| anyhow!("its pax records: {error}"))?;
            take(
                record.key_bytes(),
                record.value_bytes(),
                &mut found,
                &mut xattrs,
            )?;
        }
    }
    // The last one of a name counts.
    xattrs.reverse();
    xattrs.sort_by(|a: &(Vec<u8>, Vec<u8>), b| a.0.cmp(&b.0));
    xattrs.dedup_by(|later, first| later.0 == first.0);
    found.xattrs = Arc::new(Xattrs::new(xattrs));
    Ok(found)
}

fn take(
    key: &[u8],
    value: &[u8],
    found: &mut Attributes,
    xattrs: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> anyhow::Result<()> {
    let text = || shown(value);
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        let name = unescaped(name);
        if name.is_empty() || name.contains(&0) {
            bail!("an extended attribute without a name");
        }
        xattrs.push((name, value.to_vec()));
        return Ok(());
    }
    if let Some((name, key)) = acl::NAMES.iter().find(|(_, tar)| tar.as_bytes() == key) {
        // Names of users have numbers only when the whole tree is there: `Builder::finish`.
        let acl = acl::from_text(value, |_, _| None);
        xattrs.push(match acl {
            Some(acl) => (name.to_vec(), acl),
            None => (key.as_bytes().to_vec(), value.to_vec()),
        });
        return Ok(());
    }
    match key {
        b"mtime" => {
            found.mtime = Time::parse(value).with_context(|| format!("the time {}", text()))?;
        }
        // The parser passes over numbers that are none.
        b"size" | b"uid" | b"gid" => {
            let number = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok());
            number.with_context(|| format!("the number {}", text()))?;
        }
        b"SCHILY.fflags" => found.flags = Flags::parse(value),
        b"RHT.security.selinux" => {
            // GNU tar writes it without the zero byte that the kernel has.
            let mut label = value.to_vec();
            if label.last() != Some(&0) {
                label.push(0);
            }
            xattrs.push((b"security.selinux".to_vec(), label));
        }
        _ => {}
    }
    Ok(())
}
