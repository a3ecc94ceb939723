//! Any disk is surveyed: no panic, no memory that grows with what a disk claims, and nothing is kept
//! beyond its end. What bootloaders and tables need is kept whatever is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::{Sparse, contain_panics};
use pitstop_imaging::used::survey;

const EDGE: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    contain_panics();
    let Some(mut disk) = Sparse::parse(bytes) else { return };
    let (size, sector) = (disk.size, disk.logical_sector);
    let Ok(found) = survey(&mut disk, size, sector) else { return };
    assert!(found.kept.end() <= size);
    for edge in [0..size.min(EDGE), size.saturating_sub(EDGE)..size] {
        assert!(found.kept.gaps(edge).is_empty());
    }
    for partition in &found.partitions {
        let range = partition.start..partition.start + partition.size;
        let whole = found.kept.gaps(range).is_empty();
        assert!(whole || partition.kept == "used blocks", "{partition:?}");
    }
});
