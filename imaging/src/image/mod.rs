//! The image: one plain gzip file of independent members, each a chunk of the disk, and an index.
//!
//! `docs/image-format.md` has the layout byte by byte. Any other gzip, xz, zstd and raw images can
//! be restored and converted too.

mod again;
mod ahead;
mod capture;
mod chunk_lookup;
mod chunk_size;
mod chunk_stream;
mod codec;
mod convert;
mod delta;
mod effort;
mod encode;
pub mod encrypted;
mod error;
mod feed;
mod foreign;
mod format;
mod future_disk;
mod grow;
mod growing;
mod image_bytes;
mod image_table;
mod index;
mod inspect;
mod kind;
mod larger_disk;
mod levels;
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
mod pieces;
mod prepare;
mod proof;
mod prover;
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
use crate::units;
use std::io;
use std::ops::Range;

pub use again::{Again, Before, Held, Reused, ZeroRuns};
pub use ahead::{Ahead, WritesAhead};
pub use capture::{capture, capture_again};
pub use convert::{to_indexed, to_zstd};
pub use error::{Cause, ImageError};
pub use feed::{Fed, Feed, Hand, Known};
pub use grow::{Growth, growth};
pub use growing::{BadRound, Growing, ROUND_LEAST, ROUND_MOST, Round};
pub use index::Chunk;
pub use inspect::{Cell, Indexed, Inspection, inspect};
pub use kind::Kind;
pub use levels::Levels;
pub use meta::{ByteRange, ImageMeta};
pub use minimum_disk::MinimumDisk;
pub use opened_image::OpenedImage;
pub use options::{CaptureOptions, Delta, Level, Part, ReadErrors, RestoreOptions};
pub use origin::{MachineIdentity, Origin};
pub use pieces::Pieces;
pub use prepare::{PreparedRestore, foresee, restore};
pub use proof::Verified;
pub use reader::ImageReader;
pub use reading_on::ReadingOn;
pub use restored::Restored;
pub use source::FileSource;
pub use verify::{verify, verify_opened};

/// What images of disks and of trees share: members, their place at the end of the file, the threads that make them.
pub mod members {
    pub use super::codec::{Deflater, Inflater, MemberError, member_bound};
    pub use super::effort::{Doing, Effort, Method};
    pub use super::foreign::{Decoder, kind, read_full};
    pub use super::format::{
        FOOTER, Footer, FormatError, INDEX_MOST, TREE_MAGIC, parse_footer, seal, unseal,
    };
    pub use super::member_header::{begins_like_indexed, u32_at, u64_at};
    pub use super::prover::Prover;
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

    /// What was read of these bytes of the file is wrong. `true` where they come from elsewhere the next time: where there are several
    /// places, whoever gave them gives nothing more.
    fn came_wrong(&self, _bytes: Range<u64>) -> bool {
        false
    }

    /// The places that it comes from, the one that is read now first; none where its name says all.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// One of several places that an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For people, without credentials.
    pub name: String,
    /// What came from there so far, as it is stored.
    pub bytes: u64,
}

/// Who gave how much, as a sentence; `None` where there is but one place.
pub fn shares_of(places: &[Place]) -> Option<String> {
    let gave = places.iter().filter(|place| place.bytes > 0);
    let told: Vec<String> = gave
        .map(|place| format!("{} from {}", units::bytes(place.bytes), place.name))
        .collect();
    (places.len() > 1 && !told.is_empty()).then(|| told.join(", "))
}

impl<T: ImageSource + ?Sized> ImageSource for &T {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        (**self).stream_from(offset)
    }

    fn came_wrong(&self, bytes: Range<u64>) -> bool {
        (**self).came_wrong(bytes)
    }

    fn places(&self) -> Vec<Place> {
        (**self).places()
    }
}
