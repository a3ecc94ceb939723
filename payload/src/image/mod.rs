//! The image: one plain gzip file of independent members, each a chunk of the disk, and an index.

use std::io;

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
