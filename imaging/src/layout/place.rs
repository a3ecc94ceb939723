//! Where the partitions of a layout go on a disk of a certain size. Pure.

use super::{Entry, Layout, Size, flags, kinds};
use crate::random;
use crate::table::{NEW_GPT_ENTRIES, NewPartition, NewTable, Partition, PartitionKind, TableKind};
use crate::units;
use anyhow::{Context, bail};
use std::io;
use std::ops::Range;

/// A partition with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the kernel numbers it.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    pub kind: PartitionKind,
    /// GPT attribute bits; of an MBR, bit 0 is the active flag.
    pub flags: u64,
    /// Of a logical partition, the byte at which its boot record is.
    pub record: Option<u64>,
    /// What was asked for.
    pub entry: Entry,
}

impl Place {
    /// The partition's bytes on the disk.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }
}

/// A layout on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub table: TableKind,
    pub id: Option<String>,
    pub sector: u64,
    /// Bytes.
    pub disk: u64,
    /// An extended partition is among them.
    pub places: Vec<Place>,
}

impl Placed {
    /// The table to be made, with identifiers made up where none are asked for.
    ///
    /// # Errors
    /// When the kernel has no random bytes for them.
    pub fn new_table(&self) -> io::Result<NewTable> {
        let id = match (&self.id, self.table) {
            (Some(id), _) => id.clone(),
            (None, TableKind::Gpt) => random_guid()?,
            (None, _) => format!("0x{:08x}", random::signature()?),
        };
        let partitions = self.places.iter().map(|place| self.partition(place));
        Ok(NewTable {
            kind: self.table,
            id,
            sector: self.sector,
            partitions: partitions.collect::<io::Result<_>>()?,
        })
    }

    fn partition(&self, place: &Place) -> io::Result<NewPartition> {
        let gpt = self.table == TableKind::Gpt;
        let id = match &place.entry.id {
            Some(id) => id.clone(),
            None => random_guid()?,
        };
        Ok(NewPartition {
            partition: Partition {
                number: place.number,
                start: place.start,
                size: place.size,
                kind: place.kind.clone(),
                name: place.entry.name.clone(),
                id,
                attributes: if gpt { place.flags } else { 0 },
            },
            active: !gpt && place.flags & 1 == 1,
            record: place.record,
        })
    }
}

fn random_guid() -> io::Result<String> {
    Ok(random::guid()?.hyphenated().to_string())
}

impl Layout {
    /// Finds the place of every partition on a disk of `disk` bytes in sectors of `sector` bytes.
    ///
    /// # Errors
    /// When they do not fit, with the numbers; when two overlap.
    pub fn place(&self, disk: u64, sector: u32) -> anyhow::Result<Placed> {
        let sector = u64::from(sector);
        let align = self.alignment()?.max(sector);
        let room = room(self.table, disk, sector, align);
        if room.is_empty() {
            bail!(
                "the disk of {} has no room for partitions",
                units::bytes(disk)
            );
        }
        let numbered = self.numbered()?;
        let outer: Vec<&Entry> = numbered.iter().map(|(_, entry)| *entry).collect();
        let inner: Vec<&Entry> = self.partitions.iter().filter(|e| e.logical).collect();
        let mut places = Vec::new();
        let ranges = lay_out(&outer, &room, &room, align, 0).context("placing the partitions")?;
        for ((number, entry), range) in numbered.into_iter().zip(ranges) {
            places.push(self.place_of(number, entry, range, None)?);
        }
        let extended: Vec<Range<u64>> = places
            .iter()
            .filter(|place| place.kind.is_extended())
            .map(Place::range)
            .collect();
        match (extended.as_slice(), inner.is_empty()) {
            ([], true) | ([_], _) => {}
            ([], false) => bail!("logical partitions need one of type extended"),
            _ => bail!("an MBR has one extended partition at most"),
        }
        if let [extended] = extended.as_slice() {
            let ranges = lay_out(&inner, extended, &room, align, align)
                .context("placing the logical ones")?;
            let records = records(&ranges, extended, align, sector)?;
            let logicals = inner.iter().zip(ranges).zip(records);
            for (number, ((entry, range), record)) in (5..).zip(logicals) {
                places.push(self.place_of(number, entry, range, Some(record))?);
            }
        }
        check_apart(&places)?;
        Ok(Placed {
            table: self.table,
            id: self.id.clone(),
            sector,
            disk,
            places,
        })
    }

    fn place_of(
        &self,
        number: u32,
        entry: &Entry,
        range: Range<u64>,
        record: Option<u64>,
    ) -> anyhow::Result<Place> {
        Ok(Place {
            number,
            start: range.start,
            size: range.end - range.start,
            kind: kinds::kind(&entry.kind, self.table).map_err(anyhow::Error::msg)?,
            flags: flags(&entry.flags, self.table).map_err(anyhow::Error::msg)?,
            record,
            entry: entry.clone(),
        })
    }
}

/// What partitions may take: behind the first table and before the second.
fn room(table: TableKind, disk: u64, sector: u64, align: u64) -> Range<u64> {
    let (before, behind) = match table {
        TableKind::Gpt => (2 * sector + NEW_GPT_ENTRIES, sector + NEW_GPT_ENTRIES),
        _ => (sector, 0),
    };
    let end = match table {
        TableKind::Gpt => disk,
        // An MBR counts sectors in 32 bits.
        _ => disk.min(u64::from(u32::MAX) * sector),
    };
    up(before, align)..down(end.saturating_sub(behind), sector)
}

/// The ranges of `entries` in `room`, one behind the other; `lead` bytes are free before each.
fn lay_out(
    entries: &[&Entry],
    room: &Range<u64>,
    whole: &Range<u64>,
    align: u64,
    lead: u64,
) -> anyhow::Result<Vec<Range<u64>>> {
    let sizes: Vec<Size> = entries
        .iter()
        .map(|entry| Size::parse(&entry.size))
        .collect::<Result<_, String>>()
        .map_err(anyhow::Error::msg)?;
    let fixed = |size: Size| match size {
        Size::Bytes(bytes) => up(bytes, 512),
        Size::Percent(percent) => {
            let share = u128::from(whole.end - whole.start) * u128::from(percent) / 100;
            // No more than the whole.
            down(u64::try_from(share).unwrap_or(u64::MAX), align)
        }
        Size::Fill => 0,
    };
    if sizes.iter().filter(|size| **size == Size::Fill).count() > 1 {
        bail!("only one partition can fill what the others leave");
    }
    let mut ranges = Vec::new();
    let mut at = room.start;
    for (index, entry) in entries.iter().enumerate() {
        let start = entry
            .start
            .unwrap_or_else(|| up(at, align).saturating_add(lead));
        let size = match sizes[index] {
            Size::Fill => {
                let behind: u64 = sizes[index + 1..]
                    .iter()
                    .map(|size| up(fixed(*size), align).saturating_add(lead))
                    .fold(0, u64::saturating_add);
                down(room.end, align)
                    .saturating_sub(behind)
                    .saturating_sub(start)
            }
            size => fixed(size),
        };
        let end = start.saturating_add(size);
        let number = index + 1;
        if size == 0 || end > room.end || start < room.start.saturating_add(lead) {
            bail!(
                "number {number} ({}, {}) would be at bytes {start} to {end}, and there is room from {} to {} only",
                entry.kind,
                entry.size,
                room.start,
                room.end
            );
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

/// Where the boot record of each logical partition is. The chain follows their numbers, which need not be the order
/// of the disk: the first record is where the extended partition begins, each other in front of its own partition.
fn records(
    ranges: &[Range<u64>],
    extended: &Range<u64>,
    align: u64,
    sector: u64,
) -> anyhow::Result<Vec<u64>> {
    let place = |(number, range): (u32, &Range<u64>)| {
        let first = number == 5;
        let before = ranges.iter().map(|other| other.end);
        let before = before.filter(|end| *end <= range.start).max();
        // What comes first on the disk is behind the record of number 5.
        let free = match before {
            Some(end) => end,
            None if first => extended.start,
            None => extended.start + sector,
        };
        let aligned = up(free, align);
        let fits = |at: u64| at.checked_add(sector).is_some_and(|end| end <= range.start);
        if first {
            let taken = ranges
                .iter()
                .any(|other| other.start < extended.start + sector);
            return (!taken).then_some(extended.start);
        }
        [aligned, up(free, sector)].into_iter().find(|at| fits(*at))
    };
    let room = |(number, range)| {
        place((number, range)).with_context(|| {
            format!("there is no room for a boot record before logical partition {number}")
        })
    };
    (5..).zip(ranges).map(room).collect()
}

fn check_apart(places: &[Place]) -> anyhow::Result<()> {
    let mut sorted: Vec<&Place> = places
        .iter()
        .filter(|place| !place.kind.is_extended())
        .collect();
    sorted.sort_by_key(|place| place.start);
    for pair in sorted.windows(2) {
        if let [before, after] = pair
            && after.start < before.range().end
        {
            bail!(
                "partitions {} and {} of the layout overlap",
                before.number,
                after.number
            );
        }
    }
    Ok(())
}

fn up(bytes: u64, align: u64) -> u64 {
    bytes.checked_next_multiple_of(align).unwrap_or(u64::MAX)
}

fn down(bytes: u64, align: u64) -> u64 {
    bytes / align * align
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(table: TableKind, entries: &[(&str, &str, bool)]) -> Layout {
        Layout {
            version: 1,
            table,
            id: None,
            alignment: None,
            raid: Vec::new(),
            luks: Vec::new(),
            lvm: Vec::new(),
            partitions: entries
                .iter()
                .map(|(kind, size, logical)| Entry {
                    kind: (*kind).into(),
                    size: (*size).into(),
                    logical: *logical,
                    ..Entry::default()
                })
                .collect(),
        }
    }

    fn spans(placed: &Placed) -> Vec<(u32, u64, u64)> {
        placed
            .places
            .iter()
            .map(|place| (place.number, place.start / MIB, place.size / MIB))
            .collect()
    }

    #[test]
    fn sizes_shares_and_the_rest_are_placed() {
        let layout = layout(
            TableKind::Gpt,
            &[
                ("efi", "100MiB", false),
                ("linux", "fill", false),
                ("swap", "10%", false),
            ],
        );
        for sector in [512, 4096] {
            let placed = layout.place(1001 * MIB, sector).unwrap();
            assert_eq!(spans(&placed), [(1, 1, 100), (2, 101, 800), (3, 901, 99)]);
        }
    }

    #[test]
    fn logical_partitions_leave_room_for_their_records() {
        let layout = layout(
            TableKind::Mbr,
            &[
                ("linux", "10MiB", false),
                ("extended", "fill", false),
                ("linux", "20MiB", true),
                ("swap", "fill", true),
            ],
        );
        let placed = layout.place(100 * MIB, 512).unwrap();
        assert_eq!(
            spans(&placed),
            [(1, 1, 10), (2, 11, 89), (5, 12, 20), (6, 33, 67)]
        );
        assert_eq!(placed.places[3].record, Some(32 * MIB));
    }

    #[test]
    fn what_does_not_fit_is_told_with_numbers() {
        let big = layout(TableKind::Gpt, &[("linux", "2GiB", false)]);
        let error = format!("{:#}", big.place(1 << 30, 512).unwrap_err());
        assert!(
            error.contains("would be at bytes 1048576 to 2148532224"),
            "{error}"
        );
        let logical = layout(TableKind::Mbr, &[("linux", "fill", true)]);
        let error = format!("{:#}", logical.place(1 << 30, 512).unwrap_err());
        assert!(error.contains("need one of type extended"), "{error}");
        let two = layout(
            TableKind::Gpt,
            &[("linux", "fill", false), ("linux", "fill", false)],
        );
        let error = format!("{:#}", two.place(1 << 30, 512).unwrap_err());
        assert!(error.contains("only one partition can fill"), "{error}");
        let tiny = layout(TableKind::Gpt, &[]);
        assert!(tiny.place(1 << 20, 512).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_disk_size_or_start_makes_it_panic(disk: u64, start: u64, size: u64) {
            let mut layout = layout(TableKind::Mbr, &[("linux", "50%", false), ("extended", "fill", false), ("swap", "1MiB", true)]);
            layout.partitions[0].start = Some(start);
            layout.partitions[2].size = size.to_string();
            if let Ok(placed) = layout.place(disk, 512) {
                for place in &placed.places {
                    proptest::prop_assert!(place.range().end <= disk);
                }
            }
        }
    }
}
