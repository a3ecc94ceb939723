use super::{ImageMeta, ImageSource};
use crate::event::Reporter;

/// What sort of image a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With an index: `docs/image-format.md`.
    Pitstop,
    Gzip,
    Xz,
    Zstd,
    Raw,
}

/// What a cheap look at an image tells.
#[derive(Debug, Clone)]
pub struct Probe {
    pub kind: Kind,
    /// Raw bytes, where the format tells.
    pub raw_size: Option<u64>,
    /// Only of an image with an index.
    pub meta: Option<ImageMeta>,
}

/// Proof that every chunk of an image was read and found right. Only a whole pass makes one.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Raw bytes.
    bytes: u64,
}

impl Verified {
    /// Raw bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Looks at the beginning and the end of `image`.
pub fn probe(_image: &dyn ImageSource) -> anyhow::Result<Probe> {
    anyhow::bail!("this build cannot probe")
}

/// Checks every chunk of `image`.
pub fn verify(
    _image: &dyn ImageSource,
    _threads: usize,
    _reporter: &dyn Reporter,
) -> anyhow::Result<Verified> {
    anyhow::bail!("this build cannot verify")
}
