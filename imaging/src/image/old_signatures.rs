//! Old signatures past the end of the image, on a larger disk: RAID, LVM, ZFS, filesystems, tables. They are zeroed,
//! or tools would find them and bring back what the disk held before.

use super::target_writes::{flush, writing};
use crate::disk::{Buffer, Output, signature_places};
use crate::event::Reporter;
use crate::extents::Extents;
use crate::source::Window;
use crate::table;
use crate::units;
use crate::used::claims;
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
        places.union(&signature_places::of_volume(partition));
    }
    places
}

fn partitions(output: &dyn Output, limit: u64) -> Vec<Range<u64>> {
    let read = |sector| table::read(&Window::new(output, 0, limit), sector).ok();
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

/// Zeroes old signatures past the image's `size`: where a disk has them, where a partition made right after the image
/// would have them, and at the `old` places. Bytes that nobody recognises stay, as does all in `protected` and in
/// partitions that the new table has there.
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
    let mut places = signature_places::past_image(size, limit);
    places.union(&old.clipped(size..limit));
    let mut protected = protected.clone();
    protected.union(&claimed(output, limit));
    let mut raw = Buffer::new(usize::try_from(PIECE)?);
    for place in places.without(&protected).iter() {
        let Some(found) = recognised(output, &place, &mut raw)? else {
            continue;
        };
        zero(output, &place, &mut raw)?;
        flush(output)?;
        reporter.info(format!(
            "{}: old signatures past the end of the image ({found}): {} from byte {} on are zeroed",
            output.name(),
            units::bytes(place.end - place.start),
            place.start
        ));
    }
    Ok(())
}

/// What is recognised in `place`, if anything is.
fn recognised(
    output: &dyn Output,
    place: &Range<u64>,
    raw: &mut Buffer,
) -> anyhow::Result<Option<&'static str>> {
    for piece in pieces(place) {
        let raw = &mut raw[..usize::try_from(piece.end - piece.start)?];
        output
            .read_exact_at(raw, piece.start)
            .with_context(|| format!("reading {} at {}", output.name(), piece.start))?;
        let found = claims::find_old_signature(raw);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn zero(output: &dyn Output, place: &Range<u64>, raw: &mut Buffer) -> anyhow::Result<()> {
    raw.fill(0);
    for piece in pieces(place) {
        let zeros = &raw[..usize::try_from(piece.end - piece.start)?];
        output
            .write_at(zeros, piece.start)
            .with_context(|| writing(output, piece.start))?;
    }
    Ok(())
}

fn pieces(place: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = place.end;
    let starts = (place.start..end).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
    starts.map(move |at| at..end.min(at + PIECE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Target;
    use crate::event::Silent;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    const MIB: u64 = 1 << 20;

    fn sectors(bytes: u64) -> impl Strategy<Value = u64> {
        (0..bytes / 512).prop_map(|sector| sector * 512)
    }

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
        fn only_what_is_recognised_behind_the_image_and_not_protected_is_touched(
            size in sectors(20 * MIB),
            kept in sectors(20 * MIB),
            length in sectors(3 * MIB),
            old in sectors(20 * MIB - 4096),
            label in sectors(20 * MIB - 4096),
        ) {
            let (_folder, path) = disk(20 * MIB);
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"LABELONE", label).unwrap();
            let target = Target::open(&path).unwrap();
            let protected = Extents::single(kept..kept + length);
            let old = Extents::single(old..old + 4096);
            clear(&target, size, &old, &protected, &Silent).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            prop_assert_eq!(bytes.len() as u64, 20 * MIB);
            let mut wanted = signature_places::past_image(size, 20 * MIB);
            wanted.union(&old.clipped(size..20 * MIB));
            let wanted = wanted.without(&protected);
            let cleared = wanted.iter().find(|place| place.contains(&label)).unwrap_or(0..0);
            for (at, byte) in (0u64..).zip(bytes).step_by(512) {
                prop_assert_eq!(byte == 0, cleared.contains(&at), "at {}", at);
            }
        }
    }
}
