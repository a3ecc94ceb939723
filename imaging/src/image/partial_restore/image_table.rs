//! Reading an image's partition table, and single bytes of its disk, before any of it is restored.

use super::super::foreign::{Decoder, read_full};
use super::super::index::{Index, Item, Mark};
use super::super::member_reader::LoadedIndex;
use super::super::reader::{fetch, find, marks};
use super::super::verify::{Kind, OpenedImage};
use super::super::{ImageSource, restore::TABLES};
use crate::extents::Extents;
use crate::source::ReadAt;
use crate::table::{ParsedTable, gpt_sector_size};
use crate::used::claims::owner_of_disk;
use anyhow::{Context, bail};
use std::io;
use std::ops::Range;

/// The table of an image, and what its sectors are.
pub struct ImageTable {
    pub parsed: ParsedTable,
    pub sector: u32,
    /// Bytes of its disk, where they are known.
    pub size: Option<u64>,
}

/// Reads the table of an image; `None` where it has none. `sector` is what the target's sectors are.
pub fn read_table(
    image: &dyn ImageSource,
    opened: &OpenedImage,
    sector: u32,
) -> anyhow::Result<Option<ImageTable>> {
    let what = || format!("the partition table in {}", image.name());
    let mut bytes;
    let mut head;
    let (disk, sector, size): (&mut dyn ReadAt, _, _) = match opened {
        OpenedImage::Indexed(loaded) => {
            let sector = loaded.meta.disk.logical_sector_size;
            bytes = ImageBytes::new(image, loaded);
            (&mut bytes, sector, Some(loaded.index.raw_size()))
        }
        OpenedImage::Foreign { kind, raw_size } => {
            head = ImageHead::read(image, *kind)?;
            let sector = gpt_sector_size(head.bytes()).unwrap_or(sector);
            (&mut head, sector, *raw_size)
        }
    };
    let parsed = ParsedTable::read(disk, sector).with_context(what)?;
    if let Some(parsed) = &parsed {
        check_owner(disk, parsed).with_context(what)?;
    }
    Ok(parsed.map(|parsed| ImageTable {
        parsed,
        sector,
        size,
    }))
}

/// Whether nobody owns the whole disk beside its table, whose partitions are not to be believed then.
///
/// # Errors
/// When somebody does, with the name; when that cannot be read.
pub fn check_owner(disk: &mut dyn ReadAt, parsed: &ParsedTable) -> anyhow::Result<()> {
    let owner =
        owner_of_disk(disk, &parsed.table).context("looking for who owns the whole disk")?;
    match owner {
        None => Ok(()),
        Some(owner) => bail!("{owner}: only the whole disk can be restored, as it is"),
    }
}

/// The disk in an image that has an index.
pub struct ImageBytes<'a> {
    image: &'a dyn ImageSource,
    index: &'a Index,
    marks: Vec<Mark>,
    held: Option<(u64, Vec<u8>)>,
}

impl<'a> ImageBytes<'a> {
    pub fn new(image: &'a dyn ImageSource, loaded: &'a LoadedIndex) -> Self {
        Self {
            image,
            index: &loaded.index,
            marks: marks(&loaded.index),
            held: None,
        }
    }

    /// The first byte of `range` that is not zero, but for those in `except`.
    pub fn first_data(&self, range: Range<u64>, except: &Extents) -> anyhow::Result<Option<u64>> {
        let wanted = except.gaps(range);
        for item in self.index.items() {
            let Item::Chunk(chunk) = item else { continue };
            let start = self.index.position(chunk.number);
            let place = start..start + self.index.length(chunk.number) as u64;
            if !wanted.touches(place.clone()) {
                continue;
            }
            let raw = fetch(self.image, self.index, &chunk)?;
            for part in wanted.within(place) {
                let from = usize::try_from(part.start - start)?;
                let to = usize::try_from(part.end - start)?;
                let data = raw.get(from..to).unwrap_or_default();
                if let Some(at) = data.iter().position(|byte| *byte != 0) {
                    return Ok(Some(part.start + at as u64));
                }
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, number: u64) -> anyhow::Result<&[u8]> {
        if self.held.as_ref().is_none_or(|(held, _)| *held != number) {
            let raw = match find(self.index, &self.marks, number) {
                Some(chunk) => fetch(self.image, self.index, &chunk)?,
                None => vec![0; self.index.length(number)],
            };
            self.held = Some((number, raw));
        }
        Ok(self.held.as_ref().map_or(&[], |(_, raw)| raw))
    }
}

impl ReadAt for ImageBytes<'_> {
    fn size(&self) -> u64 {
        self.index.raw_size()
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let size = u64::from(self.index.chunk_size());
        let mut done = 0;
        while done < buffer.len() {
            let place = at + done as u64;
            let raw = self
                .chunk(place / size)
                .map_err(|error| io::Error::other(format!("{error:#}")))?;
            let within = usize::try_from(place % size).map_err(io::Error::other)?;
            let rest = raw.get(within..).unwrap_or_default();
            let now = rest.len().min(buffer.len() - done);
            if now == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer[done..done + now].copy_from_slice(&rest[..now]);
            done += now;
        }
        Ok(())
    }
}

/// The beginning of a disk of which no more is known: the rest reads as zeros.
pub struct ImageHead {
    bytes: Vec<u8>,
    size: u64,
}

/// More than any disk has, and whole sectors.
const ENDLESS: u64 = 1 << 62;

impl ImageHead {
    pub fn read(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<Self> {
        let mut bytes = vec![0; usize::try_from(TABLES)?];
        let read = read_full(&mut Decoder::open(image, kind)?, &mut bytes);
        let length = read.with_context(|| format!("reading the beginning of {}", image.name()))?;
        bytes.truncate(length);
        Ok(Self {
            bytes,
            size: ENDLESS,
        })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of a disk of so many bytes, where that is known.
    pub fn set_size(&mut self, size: Option<u64>) {
        self.size = size.unwrap_or(ENDLESS);
    }
}

impl ReadAt for ImageHead {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let held = self.bytes.get(from..).unwrap_or_default();
        let now = held.len().min(buffer.len());
        buffer[..now].copy_from_slice(&held[..now]);
        buffer[now..].fill(0);
        Ok(())
    }
}
