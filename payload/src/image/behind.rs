//! What an earlier life of a larger disk left behind the image's end: signatures there must not come back to life.

use super::fit::Written;
use super::restore::{flush, writing};
use crate::disk::{Buffer, Output, leftovers};
use crate::event::Reporter;
use crate::extents::Extents;
use crate::table;
use crate::units;
use anyhow::Context;
use std::ops::Range;

const PIECE: u64 = 1 << 20;
/// Old partitions beyond so many are not looked after: a damaged table may have thousands.
const PARTITIONS: usize = 256;

/// Where the partitions that `output` has now keep their signatures. A table that cannot be read has none: what
/// it described is found by nobody either.
pub fn remember(output: &dyn Output) -> Extents {
    let Some(limit) = output.limit() else {
        return Extents::new();
    };
    let mut places = Extents::new();
    for partition in partitions(output, limit).iter().take(PARTITIONS) {
        places.union(&leftovers::places(partition));
    }
    places
}

fn partitions(output: &dyn Output, limit: u64) -> Vec<Range<u64>> {
    let read = |sector| table::read(&mut Written { output, limit }, sector).ok();
    let tables = [512, 4096].into_iter().filter_map(read);
    let partitions = tables.flat_map(|table| table.partitions);
    partitions.map(|partition| partition.range()).collect()
}

/// What the table that was just written has as partitions, as the beginning of a disk does that was saved alone.
fn claimed(output: &dyn Output, limit: u64) -> Extents {
    let mut claimed = Extents::new();
    for partition in partitions(output, limit) {
        claimed.insert(partition);
    }
    claimed
}

/// Zeroes, behind the image's `size`, what tools look at for RAID, LVM, ZFS, bcache, filesystems and tables: for a
/// disk, for what may be made behind the image, and at the `old` places. Nothing in `protected` is touched,
/// nor in partitions that the new table has there.
///
/// # Errors
/// When the disk cannot be read or written. What the image has is whole then.
pub fn clear(
    output: &dyn Output,
    size: u64,
    old: &Extents,
    protected: &Extents,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(limit) = output.limit().filter(|limit| *limit > size) else {
        return Ok(());
    };
    let mut places = leftovers::behind(size, limit);
    places.union(&old.clipped(size..limit));
    let mut protected = protected.clone();
    protected.union(&claimed(output, limit));
    let mut cleared = 0;
    let mut raw = Buffer::new(usize::try_from(PIECE)?);
    for place in places.without(&protected).iter() {
        let mut at = place.start;
        while at < place.end {
            let end = place.end.min(at + PIECE);
            cleared += clear_piece(output, at..end, &mut raw)?;
            at = end;
        }
    }
    if cleared > 0 {
        flush(output)?;
        reporter.info(format!(
            "{}: {} of old data where signatures are looked for, behind the image's end at {size}, are zeros now",
            output.name(),
            units::bytes(cleared)
        ));
    }
    Ok(())
}

/// The bytes that were not zeros before, counted by whole pieces.
fn clear_piece(output: &dyn Output, range: Range<u64>, raw: &mut Buffer) -> anyhow::Result<u64> {
    let length = range.end - range.start;
    let raw = &mut raw[..usize::try_from(length)?];
    output
        .read_at(raw, range.start)
        .with_context(|| format!("reading {} at {}", output.name(), range.start))?;
    if raw.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    raw.fill(0);
    output
        .write_at(raw, range.start)
        .with_context(|| writing(output, range.start))?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Target;
    use crate::event::Silent;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn disk(size: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; usize::try_from(size).unwrap()]).unwrap();
        (folder, path)
    }

    #[test]
    fn an_image_that_fills_its_disk_leaves_nothing_to_clear() {
        let (_folder, path) = disk(MIB);
        let target = Target::open(&path).unwrap();
        clear(&target, MIB, &Extents::new(), &Extents::new(), &Silent).unwrap();
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn neither_the_image_nor_what_is_protected_is_touched(
            size in 0..20 * MIB,
            kept in 0..20 * MIB,
            length in 0..3 * MIB,
            old in 0..20 * MIB,
        ) {
            let (_folder, path) = disk(20 * MIB);
            let target = Target::open(&path).unwrap();
            let protected = Extents::single(kept..kept + length);
            let old = Extents::single(old..old + 4096);
            clear(&target, size, &old, &protected, &Silent).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            prop_assert_eq!(bytes.len() as u64, 20 * MIB);
            let mut wanted = leftovers::behind(size, 20 * MIB);
            wanted.union(&old.clipped(size..20 * MIB));
            let wanted = wanted.without(&protected);
            for (at, byte) in (0u64..).zip(bytes).step_by(512) {
                prop_assert_eq!(byte == 0, wanted.touches(at..at + 1), "at {}", at);
            }
        }
    }
}
