//! Allocation bitmaps that lie in clusters themselves, and the proof that they lack nothing that a file owns.

use super::Untrusted;
use super::bytes::set_runs;
use crate::source::ReadAt;
use std::ops::Range;

/// Bytes of a bitmap in memory at once.
const PIECE: u64 = 64 << 10;
/// Runs that are gathered before they are compared with the bitmap in one pass: 12 MiB of them.
const CLAIMS_MAX: usize = 1 << 19;

/// A bitmap with a bit for each cluster, the lowest bit of a byte first; clusters count from 0 here.
pub(super) struct Bitmap {
    /// Where the bytes of it are on the volume, and how many lie before each run.
    runs: Vec<(u64, Range<u64>)>,
    clusters: u64,
    piece: Vec<u8>,
    /// The cluster that `piece` begins with: a multiple of 8.
    first: u64,
}

impl Bitmap {
    /// A bitmap of `clusters` clusters whose bytes are in `runs`, which must hold enough of them.
    pub(super) fn new(runs: Vec<Range<u64>>, clusters: u64) -> Result<Self, Untrusted> {
        let mut before = 0;
        let mut placed = Vec::with_capacity(runs.len());
        for run in runs {
            let length = run.end.saturating_sub(run.start);
            placed.push((before, run));
            before += length;
        }
        if before < clusters.div_ceil(8) {
            return Err(Untrusted::new("its bitmap is too short"));
        }
        Ok(Self {
            runs: placed,
            clusters,
            piece: Vec::new(),
            first: 0,
        })
    }

    /// Where it is itself.
    pub(super) fn places(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(_, run)| run.clone())
    }

    /// Calls `each` with the runs of clusters that are marked used, in ascending order.
    pub(super) fn used(
        &mut self,
        volume: &dyn ReadAt,
        mut each: impl FnMut(Range<u64>),
    ) -> Result<(), Untrusted> {
        let mut at = 0;
        while at < self.clusters {
            let piece = self.load(volume, at)?;
            set_runs(&self.piece, piece.end - piece.start, |used| {
                each(piece.start + used.start..piece.start + used.end);
            });
            at = piece.end;
        }
        Ok(())
    }

    /// Whether every one of `clusters` is marked used.
    fn covers(&mut self, volume: &dyn ReadAt, clusters: Range<u64>) -> Result<bool, Untrusted> {
        let mut at = clusters.start;
        while at < clusters.end {
            let piece = self.load(volume, at)?;
            let end = clusters.end.min(piece.end);
            if !all_set(&self.piece, at - piece.start..end - piece.start) {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// Has the bit of `cluster` in `piece`, and answers which clusters that is about.
    fn load(&mut self, volume: &dyn ReadAt, cluster: u64) -> Result<Range<u64>, Untrusted> {
        let held = u64::try_from(self.piece.len()).map_err(|_| Untrusted::new("too large"))? * 8;
        if !(self.first..self.first + held).contains(&cluster) {
            let byte = cluster / 8;
            let index = self.runs.partition_point(|(before, _)| *before <= byte);
            let (before, run) = index
                .checked_sub(1)
                .and_then(|index| self.runs.get(index))
                .ok_or_else(|| Untrusted::new("its bitmap is too short"))?;
            let start = run.start + (byte - before);
            let wanted = self.clusters.div_ceil(8).saturating_sub(byte).min(PIECE);
            let length = run.end.saturating_sub(start).min(wanted);
            if length == 0 {
                return Err(Untrusted::new("its bitmap is too short"));
            }
            let length = usize::try_from(length).map_err(|_| Untrusted::new("too large"))?;
            self.piece = volume.bytes_at(start, length)?;
            self.first = byte * 8;
            return self.load(volume, cluster);
        }
        Ok(self.first..self.clusters.min(self.first + held))
    }
}

/// Whether every bit of a range is set that lies within `bytes`.
fn all_set(bytes: &[u8], bits: Range<u64>) -> bool {
    if bits.is_empty() {
        return true;
    }
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    (first..=last).all(|index| {
        let mut mask = 0xff;
        if index == first {
            mask &= 0xff << (bits.start % 8);
        }
        if index == last {
            mask &= 0xff >> (7 - (bits.end - 1) % 8);
        }
        let byte = usize::try_from(index).ok().and_then(|at| bytes.get(at));
        byte.is_some_and(|byte| byte & mask == mask)
    })
}

struct Claim {
    clusters: Range<u64>,
    owner: u64,
}

/// What the files of a volume say is theirs, for the bitmap to agree with.
pub(super) struct Claims<'b> {
    bitmap: &'b mut Bitmap,
    /// What an owner is, before its number.
    owners: &'static str,
    held: Vec<Claim>,
    /// A cluster has one owner: how many may still get theirs. This bounds what a damaged volume costs.
    left: u64,
}

impl<'b> Claims<'b> {
    /// `owners` is what a number of an owner is of, for the reason: `the file of MFT record`.
    pub(super) fn new(bitmap: &'b mut Bitmap, owners: &'static str) -> Self {
        Self {
            left: bitmap.clusters,
            bitmap,
            owners,
            held: Vec::new(),
        }
    }

    /// Says that `clusters` belong to `owner`. Whether the bitmap agrees may show only later.
    pub(super) fn add(
        &mut self,
        volume: &dyn ReadAt,
        clusters: Range<u64>,
        owner: u64,
    ) -> Result<(), Untrusted> {
        let length = clusters.end.saturating_sub(clusters.start);
        if clusters.end > self.bitmap.clusters || length == 0 {
            return Err(Untrusted::new(format!(
                "{} {owner} is outside the volume",
                self.owners
            )));
        }
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| Untrusted::new("its files have more clusters than there are"))?;
        if let Some(last) = self.held.last_mut()
            && last.owner == owner
            && last.clusters.end == clusters.start
        {
            last.clusters.end = clusters.end;
            return Ok(());
        }
        self.held.push(Claim { clusters, owner });
        if self.held.len() >= CLAIMS_MAX {
            self.compare(volume)?;
        }
        Ok(())
    }

    /// Proves that the bitmap has all that was added, or says whose it lacks.
    pub(super) fn finish(mut self, volume: &dyn ReadAt) -> Result<(), Untrusted> {
        self.compare(volume)
    }

    fn compare(&mut self, volume: &dyn ReadAt) -> Result<(), Untrusted> {
        // In the order of the bitmap, so that it is read once, and from its start to its end.
        self.held
            .sort_unstable_by_key(|claim| (claim.clusters.start, claim.owner));
        for claim in self.held.drain(..) {
            if !self.bitmap.covers(volume, claim.clusters)? {
                return Err(Untrusted::new(format!(
                    "its bitmap lacks clusters that {} {} uses",
                    self.owners, claim.owner
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    const CLUSTERS: u64 = 200;

    /// A bitmap in two pieces, the second one first on the volume; `at` is where a byte of it lies.
    fn bitmap() -> Bitmap {
        Bitmap::new(vec![40..50, 8..23], CLUSTERS).unwrap()
    }

    fn place(byte: u64) -> usize {
        usize::try_from(if byte < 10 { 40 + byte } else { byte - 2 }).unwrap()
    }

    fn claim(bytes: Vec<u8>, claims: &[(Range<u64>, u64)]) -> Result<(), Untrusted> {
        let size = u64::try_from(bytes.len()).unwrap();
        let mut file = Cursor::new(bytes);
        let volume = Disk::new(&mut file, size);
        let mut bitmap = bitmap();
        let mut held = Claims::new(&mut bitmap, "file");
        for (clusters, owner) in claims {
            held.add(&volume, clusters.clone(), *owner)?;
        }
        held.finish(&volume)
    }

    #[test]
    fn claims_are_within_the_volume_and_do_not_exceed_it() {
        let full = vec![0xff; 64];
        claim(full.clone(), &[(190..200, 1), (0..190, 2)]).unwrap();
        let err = claim(full.clone(), &[(190..201, 7)]).unwrap_err();
        assert_eq!(err.to_string(), "file 7 is outside the volume");
        let err = claim(full, &[(0..150, 1), (100..160, 2)]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "its files have more clusters than there are"
        );
    }

    #[test]
    fn a_bitmap_needs_a_bit_for_each_cluster() {
        Bitmap::new(vec![0..20, 30..35], 200).unwrap();
        let err = Bitmap::new(vec![0..20, 30..34], 200).err().unwrap();
        assert_eq!(err.to_string(), "its bitmap is too short");
    }

    proptest! {
        #[test]
        fn any_cleared_bit_of_a_file_shows_and_no_other_does(
            cuts in prop::collection::btree_set(1u64..CLUSTERS, 0..30),
            cleared in 0u64..CLUSTERS,
        ) {
            let mut bytes = vec![0xff; 64];
            bytes[place(cleared / 8)] &= !(1 << (cleared % 8));
            let ends: Vec<u64> = cuts.into_iter().chain([CLUSTERS]).collect();
            // Every other stretch belongs to a file.
            let mut claims: Vec<_> = std::iter::once(0)
                .chain(ends.clone())
                .zip(ends)
                .map(|(start, end)| start..end)
                .step_by(2)
                .zip(0u64..)
                .collect();
            claims.reverse();
            let owner = claims.iter().find(|(clusters, _)| clusters.contains(&cleared));
            let expected = owner
                .map(|(_, owner)| format!("its bitmap lacks clusters that file {owner} uses"));
            let found = claim(bytes, &claims).err().map(|doubt| doubt.to_string());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn used_clusters_are_the_set_bits(bytes in prop::collection::vec(any::<u8>(), 64)) {
            let mut file = Cursor::new(bytes.clone());
            let volume = Disk::new(&mut file, 64);
            let mut seen = [false; 200];
            bitmap().used(&volume, |run| for at in run {
                seen[usize::try_from(at).unwrap()] = true;
            }).unwrap();
            for at in 0..CLUSTERS {
                let set = bytes[place(at / 8)] >> (at % 8) & 1 == 1;
                prop_assert_eq!(seen[usize::try_from(at).unwrap()], set, "cluster {}", at);
            }
        }
    }
}
