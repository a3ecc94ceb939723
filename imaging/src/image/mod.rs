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

use std::io;

pub use capture::capture;
pub use convert::{to_indexed, to_zstd};
pub use grow::{Growth, growth};
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
pub use restored::Restored;
pub use source::FileSource;
pub use verify::verify;

/// Random access to a stored image, wherever it is. Implemented for files, HTTP URLs and share entries.
pub trait ImageSource: Send + Sync {
    /// For messages: the path or URL without credentials.
    fn name(&self) -> &str;

    /// Bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` or fails; never short. A changed file (other `ETag`, other size) is an error.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// A sequential reader of the bytes from `offset` to the end: one streaming GET over HTTP.
    /// The reader fails if the bytes end before [`size`](ImageSource::size).
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn io::Read + Send>>;
}

impl<T: ImageSource + ?Sized> ImageSource for &T {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        (**self).stream_from(offset)
    }
}
