//! What an image is cut into: a disk's, or a tree's.

use blake3::Hash;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::Pieces as OfDisk;
use pitstop_imaging::image::members::FormatError;
use pitstop_trees::Pieces as OfTree;
use std::ops::Range;

/// All that is in front of an image's index, in pieces that are proven one by one.
pub enum Pieces {
    Disk(Box<OfDisk>),
    Tree(OfTree),
}

impl Pieces {
    /// Reads the index of `image`, which tells of what kind it is.
    ///
    /// # Errors
    /// It cannot be read, or is none that this server knows.
    pub fn load(image: &dyn ImageSource) -> anyhow::Result<Self> {
        match OfDisk::load(image) {
            Err(error) if error.downcast_ref() == Some(&FormatError::Tree) => {
                OfTree::load(image).map(Self::Tree)
            }
            loaded => loaded.map(|pieces| Self::Disk(Box::new(pieces))),
        }
    }

    /// BLAKE3 of the index, which stands for all of the image.
    pub fn digest(&self) -> Hash {
        match self {
            Self::Disk(pieces) => pieces.digest(),
            Self::Tree(pieces) => pieces.digest(),
        }
    }

    /// Where the index begins, and the pieces end.
    pub fn end(&self) -> u64 {
        match self {
            Self::Disk(pieces) => pieces.end(),
            Self::Tree(pieces) => pieces.end(),
        }
    }

    pub fn count(&self) -> usize {
        match self {
            Self::Disk(pieces) => pieces.count(),
            Self::Tree(pieces) => pieces.count(),
        }
    }

    /// The bytes of the file that piece `number` is.
    pub fn bytes(&self, number: usize) -> Range<u64> {
        match self {
            Self::Disk(pieces) => pieces.bytes(number),
            Self::Tree(pieces) => pieces.bytes(number),
        }
    }

    /// The piece that has the byte `at`, which lies before the index.
    pub fn at(&self, at: u64) -> usize {
        match self {
            Self::Disk(pieces) => pieces.at(at),
            Self::Tree(pieces) => pieces.at(at),
        }
    }

    /// Proves that `bytes` are piece `number`.
    ///
    /// # Errors
    /// What of it is not as the index says.
    pub fn prove(&self, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Disk(pieces) => pieces.prove(number, bytes),
            Self::Tree(pieces) => pieces.prove(number, bytes),
        }
    }
}
