//! Any disk is surveyed: no panic, no memory that grows with what a disk claims, and nothing is kept
//! beyond its end. What bootloaders and tables need is kept whatever is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Sparse;
use pitstop_imaging::used::survey;
use std::panic;
use std::sync::LazyLock;

const EDGE: u64 = 1 << 20;

/// The fuzzer ends at every panic. Those of the `ntfs` crate are met by the map reader, so they may go on to it; one that
/// gets past it ends the fuzzer all the same.
static LET_CONTAINED_PANICS_BE: LazyLock<()> = LazyLock::new(|| {
    let strict = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("/ntfs-")) {
            strict(info);
        }
    }));
});

fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&LET_CONTAINED_PANICS_BE);
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
