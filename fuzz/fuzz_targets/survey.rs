//! Any disk is surveyed: no panic, and nothing is kept beyond its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_payload::used::survey;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the sector size, so that both kinds of disk are reached.
    let Some((choice, disk)) = bytes.split_first() else { return };
    let sector = if choice & 1 == 0 { 512 } else { 4096 };
    let size = disk.len() as u64 / u64::from(sector) * u64::from(sector);
    if let Ok(found) = survey(&mut Cursor::new(disk), size, sector) {
        assert!(found.kept.end() <= size);
    }
});
