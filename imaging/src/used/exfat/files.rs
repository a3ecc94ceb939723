//! What the files of a volume say is theirs: every directory from the root down, and every chain that an entry of
//! one names.

use super::super::bitmap::{Bitmap, Claims};
use super::super::bytes::Fields;
use super::entries::{Chain, Entries};
use super::{Geometry, Untrusted};
use crate::source::ReadAt;
use std::ops::Range;

/// Bytes of a directory, and of the FAT, in memory at once.
const PIECE: u64 = 64 << 10;
/// Section 7.4: no directory is larger.
const DIRECTORY_MAX: u64 = 256 << 20;

/// Proves that `bitmap` has every cluster that a file owns.
pub(super) fn check(
    volume: &dyn ReadAt,
    geometry: &Geometry,
    bitmap: &mut Bitmap,
) -> Result<(), Untrusted> {
    let mut walk = Walk {
        volume,
        geometry,
        fat: Vec::new(),
        fat_first: 0,
        // Each of them has clusters of its own, so `claims` bounds how many there are.
        directories: Vec::new(),
        claims: Claims::new(bitmap, "the file that begins at cluster"),
    };
    let root = Chain {
        first: geometry.root,
        contiguous: false,
        length: None,
        directory: true,
    };
    walk.follow(&root)?;
    while let Some(runs) = walk.directories.pop() {
        walk.read_directory(&runs)?;
    }
    let Walk { volume, claims, .. } = walk;
    claims.finish(volume)
}

struct Walk<'a> {
    volume: &'a dyn ReadAt,
    geometry: &'a Geometry,
    /// Bytes of the FAT from the entry of `fat_first` on.
    fat: Vec<u8>,
    fat_first: u64,
    /// Where directories are that were not looked into so far.
    directories: Vec<Vec<Range<u64>>>,
    claims: Claims<'a>,
}

impl Walk<'_> {
    fn read_directory(&mut self, runs: &[Range<u64>]) -> Result<(), Untrusted> {
        let mut entries = Entries::default();
        for run in runs {
            let mut at = run.start;
            while at < run.end {
                let length = (run.end - at).min(PIECE);
                let bytes = usize::try_from(length).map_err(|_| Untrusted::new("too large"))?;
                let piece = self.volume.bytes_at(at, bytes)?;
                for entry in piece.chunks_exact(32) {
                    for chain in entries.next(entry)? {
                        self.follow(&chain)?;
                    }
                    if entries.ended() {
                        return Ok(());
                    }
                }
                at += length;
            }
        }
        entries.finish()
    }

    /// Claims the clusters of a chain; one of a directory is to be looked into.
    fn follow(&mut self, chain: &Chain) -> Result<(), Untrusted> {
        let cluster = self.geometry.cluster;
        let count = chain.length.map(|length| length.div_ceil(cluster));
        if chain.directory && chain.length.is_some_and(|length| length > DIRECTORY_MAX) {
            return Err(Untrusted::new("a directory is too large"));
        }
        let mut runs = Vec::new();
        let mut total = 0;
        let mut next = Some(chain.first);
        while let Some(first) = next {
            let length = if chain.contiguous {
                next = None;
                count.unwrap_or(1).max(1)
            } else {
                let (length, behind) = self.stretch(first)?;
                next = behind;
                length
            };
            let start = self.geometry.byte_of(first)?;
            let index = first - 2;
            let end = index.saturating_add(length);
            self.claims.add(self.volume, index..end, chain.first)?;
            total += length;
            if chain.directory {
                if total.saturating_mul(cluster) > DIRECTORY_MAX {
                    return Err(Untrusted::new("a directory is too large"));
                }
                runs.push(start..start + length * cluster);
            }
        }
        if count.is_some_and(|count| total < count) {
            return Err(Untrusted::new(format!(
                "the chain from cluster {} is shorter than its file",
                chain.first
            )));
        }
        if chain.directory {
            self.directories.push(runs);
        }
        Ok(())
    }

    /// How many clusters follow one another from `first` on in its chain, and what comes behind them.
    fn stretch(&mut self, first: u64) -> Result<(u64, Option<u64>), Untrusted> {
        let mut length = 1;
        loop {
            let next = self.entry(first + length - 1)?;
            match next {
                Some(next) if next == first + length => length += 1,
                next => return Ok((length, next)),
            }
        }
    }

    /// The entry of `cluster` in the FAT.
    fn entry(&mut self, cluster: u64) -> Result<Option<u64>, Untrusted> {
        self.geometry.byte_of(cluster)?;
        let per_piece = PIECE / 4;
        let first = cluster - cluster % per_piece;
        if self.fat.is_empty() || self.fat_first != first {
            let count = per_piece.min(self.geometry.clusters + 2 - first);
            let length = usize::try_from(count * 4).map_err(|_| Untrusted::new("too large"))?;
            self.fat = self
                .volume
                .bytes_at(self.geometry.fat + first * 4, length)?;
            self.fat_first = first;
        }
        let at = usize::try_from((cluster - first) * 4).map_err(|_| Untrusted::new("too large"))?;
        let next = Fields(&self.fat).u32(at)?;
        Ok((next != u32::MAX).then_some(u64::from(next)))
    }
}
