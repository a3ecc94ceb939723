//! The members of an image, a few together, proven piece by piece: for who keeps an image that comes bit by bit, in any order, and
//! passes on only what is right. Disks have the same in `pitstop_imaging::image::Pieces`.

use crate::image::{TreeImage, prove};
use crate::index::Index;
use anyhow::{Context, bail};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::members::Inflater;
use std::ops::Range;

/// Stored bytes of a piece, unless its first member alone has more.
const PIECE: u64 = 1 << 20;

/// All that is in front of an image's index, in pieces.
pub struct Pieces {
    index: Index,
    digest: blake3::Hash,
    /// The member that each piece begins with.
    firsts: Vec<usize>,
}

impl Pieces {
    /// Reads the index of `image`, which tells what its pieces are.
    ///
    /// # Errors
    /// It cannot be read, or is not that of a tree.
    pub fn load(image: &dyn ImageSource) -> anyhow::Result<Self> {
        let image = TreeImage::open(image)?;
        let digest = blake3::Hash::from_bytes(image.digest());
        let index = image.index;
        let mut firsts: Vec<usize> = Vec::new();
        for number in 0..index.members().len() {
            let end = index.offset(number + 1);
            match firsts.last() {
                Some(first) if end - index.offset(*first) <= PIECE => {}
                _ => firsts.push(number),
            }
        }
        Ok(Self {
            index,
            digest,
            firsts,
        })
    }

    /// BLAKE3 of the index, which stands for all of the image.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }

    /// Where the index begins, and the pieces end.
    pub fn end(&self) -> u64 {
        self.index.data_size()
    }

    pub fn count(&self) -> usize {
        self.firsts.len()
    }

    /// The members that piece `number` has.
    fn members(&self, number: usize) -> Range<usize> {
        let all = self.index.members().len();
        let first = |number: usize| self.firsts.get(number).copied().unwrap_or(all);
        first(number)..first(number.saturating_add(1))
    }

    /// The bytes of the file that piece `number` is.
    pub fn bytes(&self, number: usize) -> Range<u64> {
        let members = self.members(number);
        self.index.offset(members.start)..self.index.offset(members.end)
    }

    /// The piece that has the byte `at`, which lies before the index.
    pub fn at(&self, at: u64) -> usize {
        let starts = |first: &usize| self.index.offset(*first) <= at;
        self.firsts.partition_point(starts).saturating_sub(1)
    }

    /// Proves that `bytes` are piece `number`: each member inflates to what the index says.
    ///
    /// # Errors
    /// The first that does not.
    pub fn prove(&self, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let members = self.members(number);
        let place = self.bytes(number);
        if members.is_empty() || bytes.len() as u64 != place.end - place.start {
            bail!("it has {} bytes", bytes.len());
        }
        let mut inflater = Inflater::new()?;
        let (mut rest, mut raw) = (bytes, Vec::new());
        for member in members {
            let told = &self.index.members()[member];
            let (packed, behind) = rest
                .split_at_checked(usize::try_from(told.size)?)
                .context("a member that is cut off")?;
            rest = behind;
            prove(told, packed, &mut inflater, &mut raw)
                .with_context(|| format!("member {member}"))?;
        }
        Ok(())
    }
}
