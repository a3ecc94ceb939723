//! How large the chunks of an image are: small, but large enough for the index to have room for all of them.

use super::index::{CHUNK_MOST, DATA_RECORD, ZEROS_RECORD};
use crate::extents::Extents;

/// The most bytes of records that an index may have, so that what is written can be read: the rest of
/// [`INDEX_MOST`](super::format::INDEX_MOST) is for metadata and for what the members add.
pub const RECORDS_MOST: u64 = 240 << 20;
const GIB: u64 = 1 << 30;

/// The chunk size for a disk: larger for huge ones so that the index stays small.
pub fn chunk_size_for(raw_size: u64) -> u32 {
    match raw_size / GIB {
        0..=1024 => 1 << 20,
        1025..=2048 => 2 << 20,
        _ => 4 << 20,
    }
}

/// The chunk size for a disk of which `kept` is captured: [`chunk_size_for`], or larger where more is kept than an
/// index of so small chunks has room for. `None` when no chunks are large enough.
pub fn chunk_size_of(raw_size: u64, kept: &Extents) -> Option<u32> {
    let mut size = chunk_size_for(raw_size);
    while most_records(kept, u64::from(size)) > RECORDS_MOST {
        size = size.checked_mul(2).filter(|size| *size <= CHUNK_MOST)?;
    }
    Some(size)
}

/// The most bytes of records for `kept`: every chunk that it touches, and zeros before and behind each run of them.
fn most_records(kept: &Extents, chunk: u64) -> u64 {
    let (mut chunks, mut runs, mut next) = (0u64, 1u64, 0u64);
    for range in kept.iter().filter(|range| !range.is_empty()) {
        let first = (range.start / chunk).max(next);
        let end = range.end.div_ceil(chunk).max(first);
        runs += u64::from(first > next);
        chunks += end - first;
        next = end;
    }
    chunks * DATA_RECORD + runs * ZEROS_RECORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_what_is_kept_until_the_index_has_room() {
        const TIB: u64 = 1 << 40;
        let full = |tib: u64| Extents::single(0..tib * TIB);
        for (tib, mib) in [(1, 1), (2, 2), (20, 4), (64, 16), (200, 32), (400, 64)] {
            let size = chunk_size_of(tib * TIB, &full(tib));
            assert_eq!(size, Some(mib << 20), "{tib} TiB");
        }
        // A disk of any size whose filesystems use little.
        assert_eq!(chunk_size_of(1024 * TIB, &full(20)), Some(4 << 20));
        assert_eq!(chunk_size_of(1024 * TIB, &full(1024)), None);
        // A block in every chunk is a record for every chunk, however little that is.
        let mut scattered = Extents::new();
        for at in 0..8_000_000u64 {
            scattered.insert(at * (4 << 20)..at * (4 << 20) + 4096);
        }
        assert_eq!(chunk_size_of(32 * TIB, &scattered), Some(8 << 20));
    }
}
