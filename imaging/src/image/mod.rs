//! The image: one plain gzip file of independent members, each a chunk of the disk, and an index.
//!
//! `docs/image-format.md` has the layout byte by byte. Any other gzip, xz, zstd and raw images can
//! be restored and converted too.

mod capture;
mod chunk_lookup;
mod chunk_size;
mod chunk_stream;
mod codec;
mod convert;
mod delta;
mod encode;
mod error;
mod feed;
mod foreign;
mod format;
mod future_disk;
mod grow;
mod image_bytes;
mod image_table;
mod index;
mod inspect;
mod kind;
mod larger_disk;
mod loaded_index;
mod member_header;
mod member_reader;
mod meta;
mod minimum_disk;
mod new_ids;
mod old_signatures;
mod opened_image;
mod options;
mod origin;
mod partial_restore;
mod prepare;
mod proof;
mod readback;
mod reader;
mod reading_on;
mod reread_table;
mod restore;
mod restore_task;
mod restored;
mod restoring;
mod salvage;
mod source;
mod target_writes;
#[cfg(test)]
mod tests;
mod verify;
mod whole_restore;
mod workers;

use crate::source::ReadAt;
use std::io;

pub use capture::capture;
pub use convert::{to_indexed, to_zstd};
pub use error::{Cause, ImageError};
pub use feed::{Fed, Feed, Hand, Known};
pub use grow::{Growth, growth};
pub use index::Chunk;
pub use inspect::{Cell, Indexed, Inspection, inspect};
pub use kind::Kind;
pub use meta::{ByteRange, ImageMeta};
pub use minimum_disk::MinimumDisk;
pub use opened_image::OpenedImage;
pub use options::{CaptureOptions, Delta, Level, Part, ReadErrors, RestoreOptions};
pub use origin::{MachineIdentity, Origin};
pub use prepare::{PreparedRestore, foresee, restore};
pub use proof::Verified;
pub use reader::ImageReader;
pub use reading_on::ReadingOn;
pub use restored::Restored;
pub use source::FileSource;
pub use verify::verify;

/// What images of disks and of trees share: members, their place at the end of the file, the threads that make them.
pub mod members {
    pub use super::codec::{Deflater, Inflater, MemberError, member_bound};
    pub use super::foreign::{Decoder, kind, read_full};
    pub use super::format::{
        FOOTER, Footer, FormatError, INDEX_MOST, TREE_MAGIC, parse_footer, seal, unseal,
    };
    pub use super::member_header::{begins_like_indexed, u32_at, u64_at};
    pub use super::workers::{Meter, Sequencer, WorkerPool, lock};
}

/// A stored image, wherever it is. Implemented for files, HTTP URLs and share entries. Reading a file that changed
/// meanwhile (other `ETag`, other size) is an error.
pub trait ImageSource: ReadAt + Send + Sync {
    /// For messages: the path or URL without credentials.
    fn name(&self) -> &str;

    /// A sequential reader of the bytes from `offset` to the end: one streaming GET over HTTP.
    /// The reader fails if the bytes end before [`size`](ReadAt::size).
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn io::Read + Send>>;
}

impl<T: ImageSource + ?Sized> ImageSource for &T {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        (**self).stream_from(offset)
    }
}
