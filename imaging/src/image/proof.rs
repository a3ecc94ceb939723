//! Proof that all of an image was seen and found right.
//!
//! Two passes make it, and nothing else can: [`ChunkPass`] over the chunks of an image with an index, [`StreamPass`] over
//! the stream of any other. Both count what they proved, and give a [`Verified`] only for all of it.

mod chunks;
mod stream;

pub use chunks::{ChunkPass, inflate_chunk};
pub use stream::StreamPass;

/// Proof that every chunk of an image was seen and found right. Only a pass over all of it makes one.
#[derive(Debug, Clone)]
pub struct Verified {
    bytes: u64,
    checksums: bool,
}

impl Verified {
    /// Of an image whose format has checksums, or has none.
    #[must_use]
    pub(super) fn with_checksums(self, checksums: bool) -> Self {
        Self { checksums, ..self }
    }

    /// Raw bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the image has any: without, all that was seen is that its bytes can be read.
    pub fn has_checksums(&self) -> bool {
        self.checksums
    }
}
