//! Whatever is on a disk: no byte is dropped that a second claimant covers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::{Sparse, contain_panics};
use pitstop_imaging::source::{Disk, Window};
use pitstop_imaging::table::{self, TableKind};
use pitstop_imaging::used::claims::{Claims, Level, Owner, beside, owned};
use pitstop_imaging::used::survey;
use std::ops::Range;

fuzz_target!(|bytes: &[u8]| {
    contain_panics();
    let Some(mut sparse) = Sparse::parse(bytes) else { return };
    let (size, sector) = (sparse.size, sparse.logical_sector);
    let Ok(found) = survey(&mut sparse, size, sector) else { return };
    let mut disk = Disk::new(&mut sparse, size);
    let table = table::read(&mut disk, sector).unwrap_or_default();
    let whole = |range: Range<u64>| {
        let end = range.end.min(size);
        found.kept.gaps(range.start.min(end)..end).is_empty()
    };
    if table.kind != TableKind::None {
        let others = beside(&mut disk, &table);
        match others.theirs {
            Some(theirs) => assert!(theirs.iter().all(whole), "{:?}", others.claims),
            None => assert!(whole(0..size), "{:?}", others.claims),
        }
    }
    for partition in &found.partitions {
        let range = partition.start..partition.start + partition.size;
        let mut window = Window::new(&mut disk, partition.start, partition.size);
        let claims = Claims::of(&mut window, Level::Within);
        if claims.only().is_none() || !partition.claims.is_empty() {
            assert!(whole(range.clone()), "{claims:?}");
        }
        // What its filesystems say they have of others.
        for claim in &claims.list {
            let Owner::Filesystem(filesystem) = claim.owner else { continue };
            let Ok(owned) = owned(filesystem, &mut window) else { continue };
            let beyond = range.end..partition.start.saturating_add(owned.end());
            if table.kind != TableKind::None && beyond.start < beyond.end {
                assert!(whole(beyond.clone()), "{claim:?} goes on to {}", beyond.end);
                let met = |other: &&_| meets(other, partition.number, &beyond);
                for other in found.partitions.iter().filter(met) {
                    assert!(whole(other.start..other.start + other.size), "{other:?}");
                }
            }
        }
    }
});

fn meets(
    other: &pitstop_imaging::used::PartitionSummary,
    number: u32,
    beyond: &Range<u64>,
) -> bool {
    let range = other.start..other.start + other.size;
    other.number != number && range.start < beyond.end && beyond.start < range.end
}
