//! Where a file has data, by `SEEK_DATA` and `SEEK_HOLE` (lseek(2)).

use crate::entry::Extent;
use crate::index::EXTENTS_MOST;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Holes are worth a map from this many bytes on.
const WORTH: u64 = 64 << 10;

/// The stretches of data of a file of `size` bytes that takes `blocks` of 512 bytes; `None` where it has no holes to speak
/// of.
///
/// # Errors
/// As the kernel has them.
pub fn extents(fd: impl AsFd, size: u64, blocks: u64) -> io::Result<Option<Arc<[Extent]>>> {
    if blocks.saturating_mul(512).saturating_add(WORTH) > size {
        return Ok(None);
    }
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(&fd, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = match seek(&fd, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if end <= start {
            break;
        }
        extents.push(Extent {
            start,
            length: end - start,
        });
        at = end;
    }
    close_smallest(&mut extents);
    let data: u64 = extents.iter().map(|extent| extent.length).sum();
    Ok((data + WORTH <= size).then(|| extents.into()))
}

/// A map has so much room; of more holes the smallest are stored as zeros, and no more of them than need be.
fn close_smallest(extents: &mut Vec<Extent>) {
    let Some(surplus) = extents.len().checked_sub(EXTENTS_MOST).filter(|it| *it > 0) else {
        return;
    };
    let end = |extent: &Extent| extent.start + extent.length;
    let holes = extents.windows(2).map(|pair| pair[1].start - end(&pair[0]));
    let mut sizes: Vec<u64> = holes.collect();
    let (smaller, largest, _) = sizes.select_nth_unstable(surplus - 1);
    let largest = *largest;
    // Of those that are as large as the largest one that is closed, not all need be.
    let mut left = 1 + smaller.iter().filter(|size| **size == largest).count();
    let mut joined: Vec<Extent> = Vec::with_capacity(EXTENTS_MOST);
    for extent in extents.iter() {
        let last = joined.last_mut();
        let hole = last.as_ref().map(|last| extent.start - end(last));
        let closes = hole.is_some_and(|hole| hole < largest || (hole == largest && left > 0));
        match last {
            Some(last) if closes => {
                left -= usize::from(hole == Some(largest));
                last.length = end(extent) - last.start;
            }
            _ => joined.push(*extent),
        }
    }
    *extents = joined;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_giant_of_holes_has_little_data() {
        let file = tempfile::tempfile_in(".").unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"x", 1 << 30).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        let found = extents(&file, 1 << 40, blocks).unwrap().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].start <= 1 << 30 && found[0].length <= 1 << 20);
        file.set_len(0).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(extents(&file, 1 << 20, 0).unwrap().unwrap().len(), 0);
        assert_eq!(extents(&file, 4096, 8).unwrap(), None);
    }

    #[test]
    fn the_map_stays_small() {
        let mut many: Vec<Extent> = (0..40_000)
            .map(|number| Extent {
                start: number * 8192,
                length: 4096,
            })
            .collect();
        // Two that are larger than the others, and one smaller.
        for (at, gap) in [(9, 100_000), (20_000, 200_000), (30_000, -2048)] {
            for extent in &mut many[at..] {
                extent.start = extent.start.checked_add_signed(gap).unwrap();
            }
        }
        let ends = |extents: &[Extent]| {
            let last = extents.last().unwrap();
            (extents[0].start, last.start + last.length)
        };
        let before = ends(&many);
        close_smallest(&mut many);
        assert_eq!((many.len(), ends(&many)), (EXTENTS_MOST, before));
        let holes = many
            .windows(2)
            .map(|pair| pair[1].start - pair[0].start - pair[0].length);
        let holes: Vec<u64> = holes.collect();
        assert!(holes.contains(&104_096) && holes.contains(&204_096) && !holes.contains(&2048));
    }
}
