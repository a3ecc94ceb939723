//! Where filesystems, RAID, LVM, ZFS and bcache keep their signatures: what to zero so that old ones are not found.

use crate::extents::Extents;
use std::ops::Range;

/// Both ends of a partition. Within: LVM2 and LUKS1 headers (first sectors), bcache (4 KiB), md 1.1 and 1.2 (0 and
/// 4 KiB), LUKS2's second header (up to 4 MiB in), two ZFS labels at either end (256 KiB each), md 0.90 (64 to
/// 128 KiB before the end), md 1.0 (8 KiB before it), firmware RAID and DRBD (last sectors), a GPT of its own.
const START: u64 = 1 << 20;
const END: u64 = 1 << 20;

/// The superblocks of a filesystem on the whole of it that lie deep within: Btrfs at 64 MiB and 256 GiB.
const DEEP: [u64; 2] = [64 << 20, 256 << 30];
const SUPERBLOCK: u64 = 4096;
/// At the end of a disk: a last partition that grew ends up to an alignment before its backup GPT, and what sits at
/// that partition's end reaches a further MiB back.
const DISK_END: u64 = 4 << 20;
/// Partitions begin at whole MiB.
const ALIGNMENT: u64 = 1 << 20;

/// What of `volume` must be zeros for nothing old to be recognised in it.
pub fn of_volume(volume: &Range<u64>) -> Extents {
    let mut places = Extents::new();
    let within = |range: Range<u64>| range.start.max(volume.start)..range.end.min(volume.end);
    let ends = [
        volume.start..volume.start.saturating_add(START),
        volume.end.saturating_sub(END)..volume.end,
    ];
    let deep = DEEP.map(|at| {
        let at = volume.start.saturating_add(at);
        at..at.saturating_add(SUPERBLOCK)
    });
    for range in ends.into_iter().chain(deep) {
        let range = within(range);
        if range.start < range.end {
            places.insert(range);
        }
    }
    places
}

/// What of a disk of `limit` bytes must be zeros after `size`, where an image ends: where the disk itself has
/// signatures, and the place of a partition that is made after the image.
pub fn past_image(size: u64, limit: u64) -> Extents {
    let mut places = of_volume(&(0..limit));
    places.insert(limit.saturating_sub(DISK_END)..limit);
    let next = size
        .checked_next_multiple_of(ALIGNMENT)
        .unwrap_or(size)
        .saturating_add(START);
    places.insert(size..next);
    places.clipped(size..limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn behind_an_image_its_neighbourhood_and_the_end_of_the_disk_are_cleared() {
        let found: Vec<_> = past_image(20 * MIB + 512, 100 * MIB).iter().collect();
        assert_eq!(
            found,
            [
                20 * MIB + 512..22 * MIB,
                64 * MIB..64 * MIB + 4096,
                96 * MIB..100 * MIB
            ]
        );
        assert_eq!(past_image(99 * MIB, 100 * MIB).total(), MIB);
        assert_eq!(past_image(MIB, MIB).total(), 0);
        assert_eq!(past_image(u64::MAX - 1, u64::MAX).total(), 1);
    }

    #[test]
    fn both_ends_and_what_lies_deep_are_cleared() {
        let places = of_volume(&(10 * MIB..200 * MIB));
        assert!(places.touches(10 * MIB..10 * MIB + 1));
        assert!(places.touches(74 * MIB..74 * MIB + 4096));
        assert!(places.touches(200 * MIB - 1..200 * MIB));
        assert_eq!(places.total(), 2 * MIB + 4096);
        assert_eq!(super::of_volume(&(5..5)).total(), 0);
        assert_eq!(super::of_volume(&(0..4096)).total(), 4096);
    }
}
