//! Directory entries (6, 7): 32 bytes each; a file or a folder is a set of several.

use super::upcase::checksum;

/// Bytes of an entry.
pub const ENTRY: usize = 32;

/// Characters (UTF-16) in one entry of a name.
const NAME_PART: usize = 15;

const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;

const FOLDER_BIT: u16 = 0x10;
const ARCHIVE_BIT: u16 = 0x20;

/// There are clusters, and they lie in a row, so that no chain of the FAT tells them (6.3.4).
const IN_A_ROW: u8 = 0b11;
const EMPTY: u8 = 0b01;

/// A time as it is stored (7.4.8): two seconds a step, from 1980 on, here of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(u32);

/// The offset from UTC is valid, and it is none (7.4.10).
const UTC: u8 = 0x80;

impl Time {
    /// Of a time in Unix seconds. What is before 1980 or after 2107 is the nearest that can be said.
    pub fn of(seconds: i64) -> Self {
        const FIRST: i64 = 315_532_800;
        const LAST: i64 = 4_354_819_198;
        let seconds = seconds.clamp(FIRST, LAST);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let part = |value: i64, shift: u32| u32::try_from(value).unwrap_or_default() << shift;
        Self(
            part(year - 1980, 25)
                | part(month, 21)
                | part(day, 16)
                | part(rest / 3600, 11)
                | part(rest / 60 % 60, 5)
                | part(rest % 60 / 2, 0),
        )
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: counted in spans of 400 years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    const SPAN: i64 = 146_097;
    let since = days + 719_468;
    let (span, day) = (since.div_euclid(SPAN), since.rem_euclid(SPAN));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (span * 400 + year + i64::from(is_next_year), month, in_month)
}

fn put(entry: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = entry.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// The volume's label, of at most 11 characters.
pub fn label(text: &str) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let units: Vec<u16> = text.encode_utf16().take(11).collect();
    entry[0] = LABEL;
    entry[1] = u8::try_from(units.len()).unwrap_or_default();
    for (index, unit) in units.iter().enumerate() {
        put(&mut entry, 2 + 2 * index, &unit.to_le_bytes());
    }
    entry
}

/// Where the allocation bitmap is: its first cluster and its bytes.
pub fn bitmap(first: u32, size: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0] = BITMAP;
    put(&mut entry, 20, &first.to_le_bytes());
    put(&mut entry, 24, &size.to_le_bytes());
    entry
}

/// Where the up-case table is, and what is in it.
pub fn upcase(first: u32, stored: &[u8]) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0] = UPCASE;
    put(
        &mut entry,
        4,
        &checksum(stored.iter().copied()).to_le_bytes(),
    );
    put(&mut entry, 20, &first.to_le_bytes());
    put(&mut entry, 24, &(stored.len() as u64).to_le_bytes());
    entry
}

/// What the set of one file or folder says.
pub struct Described<'a> {
    /// UTF-16, at most 255.
    pub name: &'a [u16],
    pub is_folder: bool,
    pub time: Time,
    /// 0 of an empty file.
    pub first: u32,
    /// Bytes.
    pub size: u64,
}

/// How many bytes the set of a name takes.
pub fn set_size(name: &[u16]) -> usize {
    (2 + name.len().div_ceil(NAME_PART)) * ENTRY
}

/// The set of a file or a folder.
pub fn set(described: &Described, capitals: &[u16]) -> Vec<u8> {
    let mut set = vec![0; set_size(described.name)];
    let secondary = set.len() / ENTRY - 1;
    let attributes = if described.is_folder {
        FOLDER_BIT
    } else {
        ARCHIVE_BIT
    };
    set[0] = FILE;
    set[1] = u8::try_from(secondary).unwrap_or_default();
    put(&mut set, 4, &attributes.to_le_bytes());
    for at in [8, 12, 16] {
        put(&mut set, at, &described.time.0.to_le_bytes());
    }
    put(&mut set, 22, &[UTC; 3]);
    let stream = &mut set[ENTRY..];
    stream[0] = STREAM;
    stream[1] = if described.size == 0 { EMPTY } else { IN_A_ROW };
    stream[3] = u8::try_from(described.name.len()).unwrap_or_default();
    put(
        stream,
        4,
        &name_hash(described.name, capitals).to_le_bytes(),
    );
    put(stream, 8, &described.size.to_le_bytes());
    put(stream, 20, &described.first.to_le_bytes());
    put(stream, 24, &described.size.to_le_bytes());
    for (index, part) in described.name.chunks(NAME_PART).enumerate() {
        let entry = &mut set[(2 + index) * ENTRY..];
        entry[0] = NAME;
        for (index, unit) in part.iter().enumerate() {
            put(entry, 2 + 2 * index, &unit.to_le_bytes());
        }
    }
    let sum = set_checksum(&set);
    put(&mut set, 2, &sum.to_le_bytes());
    set
}

fn add(sum: u16, byte: u8) -> u16 {
    sum.rotate_right(1).wrapping_add(u16::from(byte))
}

/// Of all bytes but its own two (6.3.3).
fn set_checksum(set: &[u8]) -> u16 {
    let counted = set
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 2 | 3));
    counted.fold(0, |sum, (_, byte)| add(sum, *byte))
}

/// Of the name in capitals (7.6.4).
fn name_hash(name: &[u16], capitals: &[u16]) -> u16 {
    let capital = |unit: &u16| capitals.get(usize::from(*unit)).copied().unwrap_or(*unit);
    let bytes = name.iter().flat_map(|unit| capital(unit).to_le_bytes());
    bytes.fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, date, time) in [
            // 2023-11-14 22:13:20
            (1_700_000_000, (43, 11, 14), (22, 13, 10)),
            // 2024-02-29 23:59:58
            (1_709_251_198, (44, 2, 29), (23, 59, 29)),
            (0, (0, 1, 1), (0, 0, 0)),
            (i64::MAX, (127, 12, 31), (23, 59, 29)),
        ] {
            let Time(stored) = Time::of(seconds);
            let field = |shift: u32, bits: u32| stored >> shift & ((1 << bits) - 1);
            assert_eq!(
                (field(25, 7), field(21, 4), field(16, 5)),
                date,
                "{seconds}"
            );
            assert_eq!((field(11, 5), field(5, 6), field(0, 5)), time, "{seconds}");
        }
    }

    #[test]
    fn a_long_name_takes_several_entries() {
        let name: Vec<u16> = "x".repeat(31).encode_utf16().collect();
        let described = Described {
            name: &name,
            is_folder: true,
            time: Time::of(0),
            first: 9,
            size: 4096,
        };
        let set = set(&described, &super::super::upcase::table());
        let kinds: Vec<u8> = set.chunks(ENTRY).map(|entry| entry[0]).collect();
        assert_eq!(kinds, [FILE, STREAM, NAME, NAME, NAME]);
    }
}
