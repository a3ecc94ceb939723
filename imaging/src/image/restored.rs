//! What a restore did.

use super::ImageMeta;

/// What a restore did. All counts are raw bytes of the disk unless said.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The size of the image.
    pub size: u64,
    /// Written as data.
    pub written: u64,
    /// Zeroed: discarded, punched or written.
    pub zeroed: u64,
    /// Found on the target already.
    pub unchanged: u64,
    /// Bytes read from the image.
    pub transferred: u64,
    /// Whether the target was read back and found right.
    pub verified: bool,
    /// What the image says of itself; `None` for a foreign one.
    pub meta: Option<ImageMeta>,
}
