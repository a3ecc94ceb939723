//! Single files of the filesystems in an image, without a kernel and without writing: ext2-4, FAT and NTFS. What is read is
//! fetched and proven chunk by chunk, as with [`ImageReader`].

mod ext;
mod fat;
mod ntfs;
pub(crate) mod part;

use crate::image::ImageReader;
use crate::source::{ReadAt, Window};
use crate::{table, used};
use part::Part;
use std::io::{self, Write};
use std::sync::Arc;

/// Names of a folder that are told.
pub const MOST_ENTRIES: usize = 20_000;
/// Bytes of a filesystem that are read beside the file that is wanted.
const READ_MAX: u64 = 512 << 20;
/// A file is written in pieces of so many bytes.
const PIECE: usize = 256 << 10;

/// Where a filesystem may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Of the partition; 0 is the whole disk, where that has no table.
    pub number: u32,
    pub start: u64,
    pub size: u64,
    /// As [`used::recognise`] calls it; empty where nothing was recognised.
    pub filesystem: String,
    pub label: String,
}

impl Volume {
    /// Whether its files can be told and read.
    pub fn is_readable(&self) -> bool {
        Reads::of(&self.filesystem).is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Link,
    /// A device, a socket, a pipe.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Bytes of a file.
    pub size: u64,
    /// Where a link leads.
    pub target: String,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    #[error("{0} is not in it")]
    NotFound(String),
    #[error("{0} is no file")]
    NotAFile(String),
    #[error("{0}: mount it to see its files (pitstop mount)")]
    Unsupported(String),
    #[error("reading the filesystem: {0}")]
    Broken(String),
    /// Whoever takes the file does not take more.
    #[error("passing the file on: {0}")]
    Output(io::Error),
}

/// What is at a path.
pub enum Found {
    Folder(Vec<Entry>),
    /// It was passed on, all of it.
    File,
}

/// Takes a file: its size, then all of it.
pub trait Taker {
    /// Comes before the first byte. An error is the end of it.
    fn begin(&mut self, size: u64) -> io::Result<()>;
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Which code reads a filesystem.
#[derive(Clone, Copy)]
enum Reads {
    Ext,
    Fat,
    Ntfs,
}

impl Reads {
    fn of(filesystem: &str) -> Option<Self> {
        match filesystem {
            "ext2" | "ext3" | "ext4" => Some(Self::Ext),
            "vfat" => Some(Self::Fat),
            "ntfs" => Some(Self::Ntfs),
            _ => None,
        }
    }
}

/// The partitions of the disk in an image, or the whole disk where it has no table, and what is in them.
pub fn volumes(reader: &ImageReader) -> Vec<Volume> {
    let volume = |number, start, size| {
        let found = used::recognise(&Window::new(reader, start, size));
        Volume {
            number,
            start,
            size,
            filesystem: found.filesystem,
            label: found.label,
        }
    };
    let sector = reader.meta().disk.logical_sector_size;
    match table::read(reader, sector) {
        Ok(table) if !table.partitions.is_empty() => {
            let parts = table.partitions.iter();
            parts
                .map(|part| volume(part.number, part.start, part.size))
                .collect()
        }
        _ => vec![volume(0, 0, reader.disk_size())],
    }
}

/// What is at `path` of a volume, whose parts are parted by `/`: the names of a folder; a file goes to `taker`.
///
/// # Errors
/// [`BrowseError`]; where `taker` was begun, what it has is not all of the file.
pub fn look(
    reader: &Arc<ImageReader>,
    volume: &Volume,
    path: &str,
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    let Some(reads) = Reads::of(&volume.filesystem) else {
        let what = match volume.filesystem.as_str() {
            "" => "no filesystem is recognised in it".to_owned(),
            name => format!("{name} is not read here"),
        };
        return Err(BrowseError::Unsupported(what));
    };
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let part = Part::new(
        Shared(Arc::clone(reader)),
        volume.start,
        volume.size,
        READ_MAX,
    );
    match reads {
        Reads::Ext => ext::look(part, &names, taker),
        Reads::Fat => fat::look(part, &names, taker),
        Reads::Ntfs => ntfs::look(&part, &names, taker),
    }
}

/// The disk of an image that several hold.
struct Shared(Arc<ImageReader>);

impl ReadAt for Shared {
    fn size(&self) -> u64 {
        self.0.disk_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        ReadAt::read_exact_at(&*self.0, buffer, at)
    }
}

fn broken(error: impl std::fmt::Display) -> BrowseError {
    BrowseError::Broken(error.to_string())
}

/// Passes a file of `size` bytes on, piece by piece; `next` fills a buffer, and says with how much.
fn pass_on(
    size: u64,
    taker: &mut dyn Taker,
    mut next: impl FnMut(&mut [u8]) -> Result<usize, BrowseError>,
) -> Result<Found, BrowseError> {
    taker.begin(size).map_err(BrowseError::Output)?;
    let mut buffer = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let read = next(&mut buffer[..most])?;
        if read == 0 {
            return Err(BrowseError::Broken(format!(
                "the file ends {left} bytes early"
            )));
        }
        taker.take(&buffer[..read]).map_err(BrowseError::Output)?;
        left -= read as u64;
    }
    Ok(Found::File)
}

/// Sorted by name, folders first, and no more than are told.
fn sorted(mut entries: Vec<Entry>) -> Found {
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| entry.kind != Kind::Folder;
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    entries.truncate(MOST_ENTRIES);
    Found::Folder(entries)
}

/// All of a file, without its size.
impl<W: Write> Taker for W {
    fn begin(&mut self, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}
