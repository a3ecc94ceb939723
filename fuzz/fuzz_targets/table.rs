//! Any partition table that is read is written again: for disks of other sizes, in other sectors, without some
//! partitions. What comes of it is the table that was asked for, read by the reader of all others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Sparse;
use pitstop_imaging::source::Disk;
use pitstop_imaging::table::{self, ParsedTable, Partition, TableWrites, Table};

const MIB: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some(mut sparse) = Sparse::parse(bytes) else { return };
    let (size, sector) = (sparse.size, sparse.logical_sector);
    let mut disk = Disk::new(&mut sparse, size);
    let Ok(Some(parsed)) = ParsedTable::read(&mut disk, sector) else { return };
    let mut random = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let _ = table::renew(&mut disk, sector, &mut random);
    resectored(&parsed, size, sector);
    let mut written = |pieces: &TableWrites, size| pieces.table(&mut disk, size, sector).ok();
    for size in [size, size + 5 * MIB + 512, size - size / 3] {
        let Ok(pieces) = parsed.raw.writes(size) else { continue };
        if let Some(table) = written(&pieces, size) {
            assert_eq!(places(&table), places(&parsed.table));
        }
        rest(&parsed, size, &mut written);
        grown(&parsed, size, &mut written);
    }
});

/// What the kernel would show.
fn places(table: &Table) -> Vec<(u32, u64, u64)> {
    table.partitions.iter().map(place).collect()
}

fn place(partition: &Partition) -> (u32, u64, u64) {
    (partition.number, partition.start, partition.size)
}

/// In sectors of the other size every partition is where it was, and in those of the first one again.
fn resectored(parsed: &ParsedTable, size: u64, sector: u32) {
    let other = if sector == 512 { 4096 } else { 512 };
    let Ok(converted) = parsed.clone().on_sectors(other) else { return };
    assert_eq!(places(&converted.table), places(&parsed.table));
    let Ok(pieces) = converted.raw.writes(size - size % 4096) else { return };
    let mut nothing = Sparse::parse(&[0; 3]).expect("this is a disk of no bytes");
    let under = &mut Disk::new(&mut nothing, 0);
    if let Ok(table) = pieces.table(under, size - size % 4096, other) {
        assert_eq!(places(&table), places(&parsed.table));
    }
    let back = converted.on_sectors(sector).expect("it was in these sectors");
    assert_eq!(places(&back.table), places(&parsed.table));
}

/// Every other partition alone.
fn rest(parsed: &ParsedTable, size: u64, written: &mut impl FnMut(&TableWrites, u64) -> Option<Table>) {
    let kept: Vec<&Partition> = parsed.table.partitions.iter().step_by(2).collect();
    let numbers: Vec<u32> = kept.iter().map(|partition| partition.number).collect();
    let mut raw = parsed.raw.clone();
    raw.keep_only(&numbers);
    // Logical partitions are numbered anew when one of them goes; who keeps some looks before the first write.
    if numbers.iter().any(|number| *number > 4 && raw.is_logical(*number)) {
        let _ = raw.writes(size);
        return;
    }
    if let Some(table) = raw.writes(size).ok().and_then(|pieces| written(&pieces, size)) {
        let kept: Vec<_> = kept.into_iter().map(place).collect();
        assert_eq!(places(&table), kept);
    }
}

/// The last one larger, all others as they were.
fn grown(parsed: &ParsedTable, size: u64, written: &mut impl FnMut(&TableWrites, u64) -> Option<Table>) {
    let Ok(Some(growth)) = table::growth(parsed, size, &[]) else { return };
    assert!(growth.to > growth.from && growth.start + growth.to <= size);
    let mut larger = parsed.clone();
    larger.resize(&growth).expect("this is the table that was looked at");
    let Ok(pieces) = larger.raw.writes(size) else { return };
    let Some(table) = written(&pieces, size) else { return };
    for (before, after) in parsed.table.partitions.iter().zip(&table.partitions) {
        let mut expected = place(before);
        if before.number == growth.number {
            expected.2 = growth.to;
        }
        assert_eq!(place(after), expected);
    }
}
