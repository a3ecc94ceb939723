use super::super::create::{NewPartition, NewTable};
use super::super::{PartitionKind, Table, TableKind, move_backup_gpt, read};
use super::*;
use crate::source::ReadAt;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// A disk of any size, of which only sectors of 512 bytes that were written are held.
#[derive(Clone)]
struct Sparse {
    size: u64,
    /// Bytes of a logical sector.
    sector: u32,
    sectors: BTreeMap<u64, Vec<u8>>,
}

impl Sparse {
    fn write(&mut self, pieces: &[(u64, Vec<u8>)]) {
        for (at, bytes) in pieces {
            for (index, sector) in (at / 512..).zip(bytes.chunks(512)) {
                let mut whole = sector.to_vec();
                whole.resize(512, 0);
                self.sectors.insert(index, whole);
            }
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if at + buffer.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, byte) in (at..).zip(buffer) {
            let sector = self.sectors.get(&(index / 512));
            *byte = sector.map_or(0, |sector| sector[usize::try_from(index % 512).unwrap()]);
        }
        Ok(())
    }
}

/// Partitions in MiB: number, first, behind the last.
type Place = (u32, u64, u64);

fn partition((number, start, end): Place, kind: PartitionKind) -> NewPartition {
    NewPartition {
        partition: Partition {
            number,
            start: start * MIB,
            size: (end - start) * MIB,
            kind,
            name: String::new(),
            id: format!("00000000-0000-4000-8000-{number:012}"),
            attributes: 0,
        },
        active: false,
        record: (number > 4).then_some((start - 1) * MIB),
    }
}

/// A disk of `size` bytes on which a table was made when it had `made` bytes. Number 4 of an MBR is extended.
fn disk(kind: TableKind, sector: u64, places: &[Place], [made, size]: [u64; 2]) -> Sparse {
    let is_gpt = kind == TableKind::Gpt;
    let linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    let of = |number: u32| match number {
        _ if is_gpt => PartitionKind::Guid(linux.into()),
        4 => PartitionKind::Code(0x0f),
        _ => PartitionKind::Code(0x83),
    };
    let table = NewTable {
        kind,
        id: if is_gpt {
            "11111111-2222-4333-8444-555555555555"
        } else {
            "0x12345678"
        }
        .into(),
        sector,
        partitions: places
            .iter()
            .map(|place| partition(*place, of(place.0)))
            .collect(),
    };
    let pieces = table.writes(made).unwrap();
    let sectors = BTreeMap::new();
    let sector = u32::try_from(sector).unwrap();
    let mut disk = Sparse {
        size,
        sector,
        sectors,
    };
    disk.write(&pieces.backup);
    disk.write(&pieces.primary);
    if let Some(moved) = move_backup_gpt(&disk, made).unwrap() {
        disk.write(&moved.backup);
        disk.write(&moved.primary);
        disk.write(moved.stale.as_slice());
    }
    disk
}

fn parsed(disk: &mut Sparse) -> ParsedTable {
    let sector = disk.sector;
    ParsedTable::read(disk, sector).unwrap().unwrap()
}

/// Has the disk changed as `resized` says; the table afterwards.
fn resize(disk: &mut Sparse, parsed: &ParsedTable, resized: &Resized) -> Result<Table, TableError> {
    let mut parsed = parsed.clone();
    parsed.resize(resized)?;
    let pieces = parsed.raw.writes(disk.size)?;
    if let Some(MovedSwap { whole, to, .. }) = &resized.moved {
        let moves = whole.start / 512..whole.end / 512;
        let held: Vec<(u64, Vec<u8>)> = disk
            .sectors
            .range(moves)
            .map(|(index, bytes)| ((index * 512 - whole.start + to), bytes.clone()))
            .collect();
        disk.write(&held);
    }
    disk.write(&pieces.backup);
    disk.write(&pieces.primary);
    let sector = disk.sector;
    Ok(read(disk, sector).unwrap())
}

/// What grows, and the table afterwards.
fn grow(disk: &mut Sparse, swaps: &[u32]) -> Result<Option<(Resized, Table)>, TableError> {
    let parsed = parsed(disk);
    let Some(growth) = growth(&parsed, disk.size, swaps)? else {
        return Ok(None);
    };
    let table = resize(disk, &parsed, &growth)?;
    Ok(Some((growth, table)))
}

fn grown(disk: &mut Sparse, swaps: &[u32]) -> (Resized, Table) {
    grow(disk, swaps).unwrap().unwrap()
}

fn refused(disk: &mut Sparse, swaps: &[u32]) -> String {
    grow(disk, swaps).unwrap_err().to_string()
}

#[test]
fn an_mbr_counts_to_two_tebibytes() {
    let places = [(1, 1, 100), (2, 100, 200)];
    let mut disk = disk(TableKind::Mbr, 512, &places, [200 * MIB, 3 * TIB]);
    let (growth, table) = grown(&mut disk, &[]);
    assert_eq!((growth.number, growth.range().end), (2, 2 * TIB - MIB));
    assert_eq!(table.partitions[1].range(), growth.range());
    assert_eq!(table.partitions[0].range(), MIB..100 * MIB);
}

#[test]
fn sectors_of_4096_bytes_let_an_mbr_count_further() {
    let mut disk = disk(TableKind::Mbr, 4096, &[(1, 1, 100)], [200 * MIB, 17 * TIB]);
    let (growth, table) = grow(&mut disk, &[]).unwrap().unwrap();
    assert_eq!(growth.range().end, 16 * TIB - MIB);
    assert_eq!(table.partitions[0].range(), growth.range());
}

#[test]
fn what_ends_last_grows_not_what_has_the_highest_number() {
    let places = [(1, 50, 90), (2, 1, 20), (3, 20, 50)];
    let mut disk = disk(TableKind::Gpt, 512, &places, [100 * MIB, 200 * MIB + 512]);
    let (growth, table) = grown(&mut disk, &[]);
    // 33 sectors of backup GPT leave the last MiB incomplete.
    assert_eq!((growth.number, growth.range()), (1, 50 * MIB..199 * MIB));
    assert_eq!(table.partitions[0].range(), growth.range());
    assert_eq!(table.note, "");
}

#[test]
fn swap_alone_in_an_extended_partition_moves_with_it() {
    let places = [(1, 1, 50), (4, 52, 79), (5, 53, 77)];
    let mut disk = disk(TableKind::Mbr, 512, &places, [80 * MIB, 200 * MIB]);
    let (growth, table) = grown(&mut disk, &[5]);
    assert_eq!((growth.number, growth.range()), (1, MIB..173 * MIB));
    assert_eq!(table.partitions[1].range(), 174 * MIB..198 * MIB);
}

#[test]
fn what_is_in_the_way_is_told() {
    let gpt = |places: &[Place]| disk(TableKind::Gpt, 512, places, [100 * MIB, 200 * MIB]);
    let mbr = |places: &[Place]| disk(TableKind::Mbr, 512, places, [100 * MIB, 200 * MIB]);
    let two = refused(&mut gpt(&[(1, 1, 20), (2, 20, 30), (3, 30, 40)]), &[2, 3]);
    assert_eq!(two, "partitions 2 and 3, the last ones, are both swap");
    let only = refused(&mut gpt(&[(3, 30, 40)]), &[3]);
    assert_eq!(only, "there is nothing but swap, partition 3");
    let none = refused(&mut gpt(&[]), &[]);
    assert_eq!(none, "there is no partition");
    let behind = refused(&mut mbr(&[(1, 1, 20), (4, 30, 90)]), &[]);
    assert_eq!(behind, "an extended partition lies after partition 1");
    let swap = refused(&mut mbr(&[(1, 1, 20), (2, 20, 30), (4, 31, 90)]), &[2]);
    assert_eq!(swap, behind);
    let others = refused(
        &mut mbr(&[(1, 1, 20), (4, 21, 90), (5, 22, 40), (6, 41, 80)]),
        &[6],
    );
    assert_eq!(
        others,
        "partition 6, the last one, is swap behind other logical partitions"
    );
}

#[test]
fn a_hybrid_mbr_is_refused() {
    let mut disk = disk(TableKind::Gpt, 512, &[(1, 1, 20)], [100 * MIB, 200 * MIB]);
    let first = disk.sectors.get_mut(&0).unwrap();
    first[462..478].copy_from_slice(&[0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x98, 0, 0]);
    assert!(refused(&mut disk, &[]).starts_with("a hybrid MBR"));
}

#[test]
fn a_last_mebibyte_is_no_room() {
    let mut disk = disk(
        TableKind::Mbr,
        512,
        &[(1, 1, 100)],
        [100 * MIB, 101 * MIB - 512],
    );
    assert!(grow(&mut disk, &[]).unwrap().is_none());
}

/// Partitions one behind the other with gaps, their sizes in MiB; the numbers are shuffled.
fn places() -> impl Strategy<Value = Vec<Place>> {
    let sizes = prop::collection::vec((0u64..40, 1u64..4000), 1..4);
    (sizes, any::<bool>()).prop_map(|(sizes, turned)| {
        let count = u32::try_from(sizes.len()).unwrap();
        let mut at = 1;
        let mut places = Vec::new();
        for (index, (gap, size)) in (1..).zip(sizes) {
            let number = if turned { count + 1 - index } else { index };
            places.push((number, at + gap, at + gap + size));
            at += gap + size;
        }
        places.sort_by_key(|place| place.0);
        places
    })
}

#[test]
fn on_a_smaller_disk_the_last_one_has_what_is_left_and_swap_stays_behind_it() {
    let places = [(1, 1, 100), (2, 110, 120)];
    let mut disk = disk(TableKind::Gpt, 512, &places, [200 * MIB, 200 * MIB]);
    let parsed = parsed(&mut disk);
    let last_partition = last_partition(&parsed, &[2]).unwrap();
    assert_eq!(
        (
            last_partition.number,
            last_partition.size,
            last_partition.swap()
        ),
        (1, 99 * MIB, Some(2))
    );
    for (size, room, swap) in [(80, 68, 69), (31, 19, 20), (21, 9, 10), (5, 0, 0)] {
        let resized = last_partition.on(&parsed, size * MIB).unwrap();
        assert_eq!(resized.to, room * MIB, "{size}");
        assert_eq!(resized.moved.unwrap().to, swap * MIB, "{size}");
    }
    // What is not to be smaller keeps its size, and the gap goes all the same.
    let closed = last_partition.with_size(99 * MIB);
    assert_eq!((closed.to, closed.moved.unwrap().to), (99 * MIB, 100 * MIB));
    disk.size = 80 * MIB;
    let table = resize(
        &mut disk,
        &parsed,
        &last_partition.on(&parsed, 80 * MIB).unwrap(),
    )
    .unwrap();
    assert_eq!(table.partitions[0].range(), MIB..69 * MIB);
    assert_eq!(table.partitions[1].range(), 69 * MIB..79 * MIB);
}

#[test]
fn the_last_logical_partition_shrinks_with_its_extended_one() {
    let places = [(1, 1, 10), (4, 20, 90), (5, 21, 29), (6, 30, 80)];
    let mut disk = disk(TableKind::Mbr, 512, &places, [100 * MIB, 100 * MIB]);
    let parsed = parsed(&mut disk);
    let last_partition = last_partition(&parsed, &[]).unwrap();
    let resized = last_partition.with_size(20 * MIB + 1);
    assert_eq!(resized.range(), 30 * MIB..51 * MIB);
    let mut small = parsed.clone();
    small.resize(&resized).unwrap();
    assert_eq!(small.raw.minimum_disk(), 51 * MIB);
    disk.size = 51 * MIB;
    let table = resize(&mut disk, &parsed, &resized).unwrap();
    assert_eq!(table.partitions[1].range(), 21 * MIB..29 * MIB);
    assert_eq!(table.partitions[2].range(), 30 * MIB..51 * MIB);
    // What fits already stays; what lies behind it in the extended partition is free.
    assert_eq!(last_partition.with_size(50 * MIB).to, 50 * MIB);
    let mut small = parsed.clone();
    small.resize(&last_partition.with_size(50 * MIB)).unwrap();
    assert_eq!(small.raw.minimum_disk(), 80 * MIB);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_shrunken_table_fits_its_least_disk_and_no_smaller_one(
        places in places(),
        gpt in any::<bool>(),
        large in any::<bool>(),
        size in 0..4000 * MIB,
        swap_last in any::<bool>(),
    ) {
        let kind = if gpt { TableKind::Gpt } else { TableKind::Mbr };
        let sector = if large { 4096 } else { 512 };
        let last = places.iter().copied().max_by_key(|place| place.2).unwrap();
        let swaps: Vec<u32> = swap_last.then_some(last.0).into_iter().collect();
        let made = (last.2 + 1) * MIB;
        let mut disk = disk(kind, sector, &places, [made, made]);
        let parsed = parsed(&mut disk);
        let Ok(last_partition) = last_partition(&parsed, &swaps) else {
            prop_assert!(swap_last && places.len() == 1);
            return Ok(());
        };
        let before = parsed.table.clone();
        let resized = last_partition.with_size(size);
        prop_assert!(resized.to >= size.min(resized.from) && resized.to < size.max(resized.from) + MIB);
        let mut small = parsed.clone();
        small.resize(&resized).unwrap();
        let least = small.raw.minimum_disk();
        prop_assert!(small.raw.writes(least).is_ok());
        prop_assert!(!gpt || small.raw.writes(least - sector).is_err());
        disk.size = least;
        let table = resize(&mut disk, &parsed, &resized).unwrap();
        for (old, new) in before.partitions.iter().zip(&table.partitions) {
            if new.number == resized.number {
                prop_assert_eq!(new.range(), resized.range());
            } else if swaps.contains(&new.number) {
                prop_assert_eq!(new.size, old.size);
                prop_assert!(new.start >= resized.range().end);
            } else {
                prop_assert_eq!(new, old);
            }
        }
        // A disk of whole MiB has room for that, and for no more.
        let room = last_partition.on(&parsed, least.next_multiple_of(MIB)).unwrap();
        prop_assert!(room.to == resized.to || room.to > resized.from, "{:?} {:?}", room, resized);
    }

    #[test]
    fn only_the_last_one_changes_and_it_ends_where_the_disk_allows(
        places in places(),
        gpt in any::<bool>(),
        large in any::<bool>(),
        more in 0..4 * TIB / 4096,
        swap_last in any::<bool>(),
    ) {
        let kind = if gpt { TableKind::Gpt } else { TableKind::Mbr };
        let sector = if large { 4096 } else { 512 };
        let last = places.iter().copied().max_by_key(|place| place.2).unwrap();
        let swaps: Vec<u32> = swap_last.then_some(last.0).into_iter().collect();
        let made = (last.2 + 1) * MIB;
        let size = made + more * 4096;
        let mut disk = disk(kind, sector, &places, [made, size]);
        let before = parsed(&mut disk).table;
        let Ok(found) = grow(&mut disk, &swaps) else {
            prop_assert!(swap_last && places.len() == 1);
            return Ok(());
        };
        let end = if gpt { size - 16384 - sector } else { size.min(u64::from(u32::MAX) * sector) };
        let Some((growth, table)) = found else {
            prop_assert!(end < (last.2 + 1) * MIB);
            return Ok(());
        };
        prop_assert_eq!(table.note, "");
        prop_assert_eq!(growth.range().end % MIB, 0);
        for (old, new) in before.partitions.iter().zip(&table.partitions) {
            if new.number == growth.number {
                prop_assert_eq!(new.range(), growth.range());
                prop_assert_eq!(new.start, old.start);
                prop_assert!(new.size > old.size);
            } else if swaps.contains(&new.number) {
                prop_assert_eq!(new.size, old.size);
                prop_assert_eq!(new.start, growth.range().end);
            } else {
                prop_assert_eq!(new, old);
            }
        }
        let new_end = table.partitions.iter().map(|part| part.range().end).max().unwrap();
        prop_assert!(new_end <= end && new_end + MIB > end, "{} of {}", new_end, end);
        // A second look finds no more room.
        prop_assert!(grow(&mut disk, &swaps).unwrap().is_none());
    }

    #[test]
    fn damaged_chains_never_panic(
        damage in prop::collection::vec((prop_oneof![Just(0u64), Just(20), Just(29)], 440usize..512, any::<u8>()), 1..6),
    ) {
        let places = [(1, 1, 10), (4, 20, 60), (5, 21, 29), (6, 30, 50)];
        let mut disk = disk(TableKind::Mbr, 512, &places, [100 * MIB, 200 * MIB]);
        for (mib, at, byte) in damage {
            disk.sectors.entry(mib * MIB / 512).or_insert_with(|| vec![0; 512])[at] = byte;
        }
        if let Ok(Some(mut parsed)) = ParsedTable::read(&disk, 512)
            && let Ok(Some(growth)) = growth(&parsed, 200 * MIB, &[])
            && parsed.resize(&growth).is_ok()
            && let Ok(pieces) = parsed.raw.writes(disk.size)
        {
            disk.write(&pieces.primary);
            let table = read(&disk, 512).unwrap();
            prop_assert!(table.partitions.iter().any(|part| part.range() == growth.range()));
        }
    }
}
