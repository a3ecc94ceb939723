//! What the fuzz targets share: disks that are mostly holes, and checksums put right again.

mod bytes;
mod sparse;
mod sums;

pub use bytes::Bytes;
pub use sparse::Sparse;
