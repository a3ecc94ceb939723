//! FILE records of the MFT as they lie on disk: update sequence, attributes, mapping pairs.

use super::super::bytes::Fields;
use super::Untrusted;
use std::ops::Range;

/// What the update sequence counts in, whatever a sector is.
pub(super) const SECTOR: u64 = 512;
const STRIDE: usize = 512;
const SIGNATURE: &[u8] = b"FILE";
const IN_USE: u16 = 1;
/// The record number within a file reference; above it is a sequence number.
pub(super) const NUMBER: u64 = 0xffff_ffff_ffff;
const END_OF_ATTRIBUTES: u32 = 0xffff_ffff;

/// A record that is in use.
#[derive(Debug)]
pub(super) struct Record<'a> {
    fields: Fields<'a>,
    /// The number of the file's own record, when this is one more of its records.
    pub(super) file: Option<u64>,
}

impl<'a> Record<'a> {
    /// `None` for what is not in use. Puts back what the update sequence covers.
    pub(super) fn parse(bytes: &'a mut [u8]) -> Result<Option<Self>, Untrusted> {
        let header = Fields(bytes);
        if header.slice(0, 4)? != SIGNATURE || header.u16(22)? & IN_USE == 0 {
            return Ok(None);
        }
        put_back(bytes)?;
        let fields = Fields(bytes);
        let file = fields.u64(32)? & NUMBER;
        let used = usize::try_from(fields.u32(24)?).map_err(|_| broken())?;
        Ok(Some(Self {
            fields: Fields(fields.slice(0, used)?),
            file: (file != 0).then_some(file),
        }))
    }

    /// The runs of clusters of all its attributes, but for holes.
    pub(super) fn runs(&self) -> Result<Vec<Range<u64>>, Untrusted> {
        let mut runs = Vec::new();
        let mut at = usize::from(self.fields.u16(20)?);
        while self.fields.u32(at)? != END_OF_ATTRIBUTES {
            let length = usize::try_from(self.fields.u32(at + 4)?).map_err(|_| broken())?;
            let attribute = Fields(self.fields.slice(at, length)?);
            match attribute.u8(8)? {
                0 => {}
                1 => mapped(attribute, &mut runs)?,
                _ => return Err(broken()),
            }
            at += length;
        }
        Ok(runs)
    }
}

fn broken() -> Untrusted {
    Untrusted::new("a record contradicts itself")
}

/// The last two bytes of each sector are in the update sequence, and its number is there instead.
pub(super) fn put_back(bytes: &mut [u8]) -> Result<(), Untrusted> {
    let header = Fields(bytes);
    let (at, count) = (
        usize::from(header.u16(4)?),
        usize::from(header.u16(6)?).saturating_sub(1),
    );
    if count * STRIDE != bytes.len() {
        return Err(broken());
    }
    let sequence = header.slice(at, 2 + count * 2)?.to_vec();
    let (number, saved) = sequence.split_at(2);
    for (sector, saved) in bytes.chunks_exact_mut(STRIDE).zip(saved.chunks_exact(2)) {
        let Some(end) = sector.last_chunk_mut::<2>() else {
            return Err(broken());
        };
        if *end != *number {
            return Err(broken());
        }
        end.copy_from_slice(saved);
    }
    Ok(())
}

/// Adds what the mapping pairs of a non-resident attribute say: a byte with the sizes of two numbers, how many
/// clusters, and how far they are from the run before. Without the second it is a hole.
fn mapped(attribute: Fields<'_>, runs: &mut Vec<Range<u64>>) -> Result<(), Untrusted> {
    let (lowest, highest) = (attribute.u64(16)?, attribute.u64(24)?);
    let mut at = usize::from(attribute.u16(32)?);
    let (mut start, mut total) = (0i64, 0u64);
    loop {
        let sizes = attribute.u8(at)?;
        if sizes == 0 {
            break;
        }
        let (length_size, offset_size) = (usize::from(sizes & 15), usize::from(sizes >> 4));
        let length = number(attribute.slice(at + 1, length_size)?)?;
        let length = u64::try_from(length).map_err(|_| broken())?;
        if length == 0 {
            return Err(broken());
        }
        total = total.checked_add(length).ok_or_else(broken)?;
        if offset_size > 0 {
            let offset = number(attribute.slice(at + 1 + length_size, offset_size)?)?;
            start = start.checked_add(offset).ok_or_else(broken)?;
            let first = u64::try_from(start).map_err(|_| broken())?;
            runs.push(first..first.checked_add(length).ok_or_else(broken)?);
        }
        at += 1 + length_size + offset_size;
    }
    // Some writers leave the highest number at zero; an empty attribute has -1.
    let expected = highest.wrapping_add(1).checked_sub(lowest);
    if highest != 0 && expected != Some(total) {
        return Err(broken());
    }
    Ok(())
}

/// A signed number, lowest byte first.
fn number(bytes: &[u8]) -> Result<i64, Untrusted> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut full = if negative { [0xff; 8] } else { [0; 8] };
    full.get_mut(..bytes.len())
        .ok_or_else(broken)?
        .copy_from_slice(bytes);
    Ok(i64::from_le_bytes(full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 1024;

    /// A record in use with one non-resident attribute, as it lies on disk.
    fn record(highest: u64, pairs: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        bytes[..4].copy_from_slice(b"FILE");
        bytes[4..6].copy_from_slice(&48u16.to_le_bytes());
        bytes[6..8].copy_from_slice(&3u16.to_le_bytes());
        bytes[20..22].copy_from_slice(&56u16.to_le_bytes());
        bytes[22] = 1;
        bytes[24..28].copy_from_slice(&500u32.to_le_bytes());
        // The update sequence: number 7, and what belongs at the ends of two sectors.
        bytes[48..54].copy_from_slice(&[7, 0, 1, 2, 3, 4]);
        for end in [510, 1022] {
            bytes[end..end + 2].copy_from_slice(&[7, 0]);
        }
        let attribute = &mut bytes[56..];
        attribute[..4].copy_from_slice(&0x80u32.to_le_bytes());
        attribute[4..8].copy_from_slice(&128u32.to_le_bytes());
        attribute[8] = 1;
        attribute[24..32].copy_from_slice(&highest.to_le_bytes());
        attribute[32] = 64;
        attribute[64..64 + pairs.len()].copy_from_slice(pairs);
        attribute[128..132].fill(0xff);
        bytes
    }

    fn runs(mut bytes: Vec<u8>) -> Result<Vec<Range<u64>>, String> {
        let record = Record::parse(&mut bytes).map_err(|doubt| doubt.to_string())?;
        record.unwrap().runs().map_err(|doubt| doubt.to_string())
    }

    const PAIRS: [u8; 11] = [0x21, 5, 0x00, 1, 0x01, 3, 0x11, 2, 0xf6, 0, 0];
    const BROKEN: &str = "a record contradicts itself";

    #[test]
    fn runs_are_relative_and_holes_have_no_place() {
        assert_eq!(runs(record(9, &PAIRS)).unwrap(), [256..261, 246..248]);
        assert_eq!(runs(record(u64::MAX, &[0])).unwrap(), []);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(runs(record(8, &PAIRS)).unwrap_err(), BROKEN);
        assert_eq!(runs(record(4, &[0x11, 5, 0x80])).unwrap_err(), BROKEN);
        assert_eq!(runs(record(0, &[0x11, 0, 1])).unwrap_err(), BROKEN);
        assert_eq!(runs(record(0, &[0x91, 1, 1])).unwrap_err(), BROKEN);
        let mut torn = record(9, &PAIRS);
        torn[1022] = 6;
        assert_eq!(runs(torn).unwrap_err(), BROKEN);
        let mut endless = record(9, &PAIRS);
        endless[56 + 128..56 + 132].fill(0);
        assert_eq!(runs(endless).unwrap_err(), "a structure is cut short");
    }

    #[test]
    fn what_is_not_in_use_has_nothing() {
        let mut free = record(9, &PAIRS);
        free[22] = 2;
        assert!(Record::parse(&mut free).unwrap().is_none());
        assert!(Record::parse(&mut [0; SIZE]).unwrap().is_none());
    }

    #[test]
    fn a_further_record_names_its_file() {
        let mut bytes = record(9, &PAIRS);
        bytes[32..40].copy_from_slice(&0x0003_0000_0000_0042u64.to_le_bytes());
        assert_eq!(Record::parse(&mut bytes).unwrap().unwrap().file, Some(0x42));
    }

    proptest! {
        #[test]
        fn no_damage_panics(
            changes in prop::collection::vec((0..200usize, any::<u8>()), 0..8),
        ) {
            let mut bytes = record(9, &PAIRS);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(Some(record)) = Record::parse(&mut bytes)
                && let Ok(runs) = record.runs()
            {
                prop_assert!(runs.iter().all(|run| run.start < run.end));
            }
        }
    }
}
