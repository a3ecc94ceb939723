//! Fields of on-disk structures, and bitmaps.

use super::Untrusted;
use std::ops::Range;

/// A structure as it lies on disk. A field outside it is a doubt, not a panic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Untrusted> {
        self.0
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or_else(|| Untrusted::new("a structure is cut short"))
    }

    pub(super) fn slice(self, at: usize, length: usize) -> Result<&'a [u8], Untrusted> {
        at.checked_add(length)
            .and_then(|end| self.0.get(at..end))
            .ok_or_else(|| Untrusted::new("a structure is cut short"))
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Untrusted> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Untrusted> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Untrusted> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, Untrusted> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u16_be(self, at: usize) -> Result<u16, Untrusted> {
        Ok(u16::from_be_bytes(self.array(at)?))
    }

    pub(super) fn u32_be(self, at: usize) -> Result<u32, Untrusted> {
        Ok(u32::from_be_bytes(self.array(at)?))
    }

    pub(super) fn u64_be(self, at: usize) -> Result<u64, Untrusted> {
        Ok(u64::from_be_bytes(self.array(at)?))
    }

    /// A UUID in the order of its text, as everybody but Microsoft stores it.
    pub(super) fn uuid(self, at: usize) -> Result<String, Untrusted> {
        let bytes: [u8; 16] = self.array(at)?;
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
        Ok(parts
            .map(|part| hex.get(part).unwrap_or_default())
            .join("-"))
    }

    /// Text that ends at a NUL or with its field, without padding.
    pub(super) fn text(self, at: usize, length: usize) -> Result<String, Untrusted> {
        let bytes = self.slice(at, length)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(length);
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        Ok(text.trim().to_owned())
    }
}

/// Calls `each` with every run of set bits among the first `count`, lowest
/// bit of a byte first. Bits that `bitmap` is too
/// short for count as set.
pub(super) fn set_runs(bitmap: &[u8], count: u64, mut each: impl FnMut(Range<u64>)) {
    let mut run: Option<u64> = None;
    let mut at = 0;
    for byte in bitmap {
        if at >= count {
            break;
        }
        match (byte, run) {
            (0, None) | (0xff, Some(_)) => {}
            (0, Some(start)) => {
                each(start..at);
                run = None;
            }
            (0xff, None) => run = Some(at),
            _ => {
                for bit in 0..8.min(count - at) {
                    let position = at + bit;
                    match (byte >> bit & 1 == 1, run) {
                        (true, None) => run = Some(position),
                        (false, Some(start)) => {
                            each(start..position);
                            run = None;
                        }
                        _ => {}
                    }
                }
            }
        }
        at += 8;
    }
    if at < count {
        run = run.or(Some(at));
    }
    if let Some(start) = run
        && start < count
    {
        each(start..count);
    }
}

/// CRC32C as ext4 uses it: no inversion at either end, so that checksums chain.
pub(super) fn crc32c_raw(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_outside_a_structure_are_doubts() {
        let fields = Fields(&[1, 2, 3, 4]);
        assert_eq!(fields.u32(0).unwrap(), 0x0403_0201);
        assert_eq!(fields.u16_be(2).unwrap(), 0x0304);
        assert_eq!(
            fields.u32(1).unwrap_err().to_string(),
            "a structure is cut short"
        );
        assert!(fields.slice(usize::MAX, 2).is_err());
    }

    proptest! {
        #[test]
        fn runs_are_the_set_bits(
            bitmap in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..20),
            count in 0u64..170,
        ) {
            let mut seen = vec![false; 256];
            let mut end = None;
            set_runs(&bitmap, count, |run| {
                assert!(run.start < run.end && run.end <= count);
                assert!(end.is_none_or(|end| run.start > end), "runs touch");
                end = Some(run.end);
                for at in run {
                    seen[usize::try_from(at).unwrap()] = true;
                }
            });
            for at in 0..count {
                let index = usize::try_from(at).unwrap();
                let set = bitmap.get(index / 8).is_none_or(|byte| byte >> (index % 8) & 1 == 1);
                prop_assert_eq!(seen[index], set, "block {}", at);
            }
        }
    }
}
