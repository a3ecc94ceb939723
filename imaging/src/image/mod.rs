//! The image: one plain gzip file of independent members, each a chunk of the disk, and an index.
//!
//! `docs/image-format.md` has the layout byte by byte. Any other gzip, xz, zstd and raw images can
//! be restored and converted too.

mod capture;
mod chunk_size;
mod codec;
mod convert;
mod delta;
mod encode;
#[cfg(test)]
mod fault_injection;
#[cfg(test)]
mod fault_injection_anywhere;
#[cfg(test)]
mod faulty_disk;
mod foreign;
mod format;
mod future_disk;
mod grow;
#[cfg(test)]
mod huge_disks;
mod index;
mod inspect;
mod larger_disk;
mod member_header;
mod member_reader;
mod meta;
mod new_ids;
mod old_signatures;
mod options;
mod origin;
mod partial_restore;
mod prepare;
mod readback;
mod reader;
mod reread_table;
mod restore;
mod salvage;
mod source;
mod verify;
mod workers;

use std::io;

pub use capture::capture;
pub use convert::{to_indexed, to_zstd};
pub use grow::{Growth, growth};
pub use inspect::{Cell, Indexed, Inspection, inspect};
pub use larger_disk::MinimumDisk;
pub use meta::{ByteRange, ImageMeta};
pub use options::{CaptureOptions, Delta, Level, Part, ReadErrors, RestoreOptions};
pub use origin::{MachineIdentity, Origin};
pub use partial_restore::foresee;
pub use prepare::{PreparedRestore, restore};
pub use reader::ImageReader;
pub use restore::Restored;
pub use source::FileSource;
pub use verify::{Kind, Probe, Verified, probe, verify};

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
