//! What the fuzz targets share: disks that are mostly holes, checksums put right again, and which panics are no fault.

mod bytes;
mod panics;
mod sparse;
mod sums;

pub use bytes::Bytes;
pub use panics::contain_panics;
pub use sparse::Sparse;
