//! The `Range` header (RFC 9110 14.2): one range of bytes, or the whole file.

use std::ops::Range;

/// What a `Range` header asks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// No range, several of them, another unit, or nonsense: RFC 9110 14.2 lets a server answer with all of it.
    Whole,
    /// Never empty, within the file.
    Part(Range<u64>),
    /// Begins at or behind the end of the file.
    OutOfReach,
}

/// Reads the header's `value` for a file of `length` bytes.
pub fn read(value: &str, length: u64) -> Asked {
    parse(value, length).unwrap_or(Asked::Whole)
}

fn parse(value: &str, length: u64) -> Option<Asked> {
    let (unit, spec) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => length.saturating_sub(number(suffix)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.is_empty() {
        Asked::OutOfReach
    } else {
        Asked::Part(range)
    })
}

/// Digits alone: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are still a number (RFC 9110 14.1.2), beyond any file.
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_rfc_9110() {
        for (value, asked) in [
            ("bytes=0-499", Asked::Part(0..500)),
            ("bytes=500-", Asked::Part(500..1000)),
            ("bytes=-1", Asked::Part(999..1000)),
            ("bytes=-2000", Asked::Part(0..1000)),
            ("bytes=990-5000", Asked::Part(990..1000)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..1000)),
            ("Bytes= 5 - 6 ", Asked::Part(5..7)),
            ("bytes=1000-", Asked::OutOfReach),
            ("bytes=-0", Asked::OutOfReach),
            ("bytes=99999999999999999999999-", Asked::OutOfReach),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=6-5", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("0-1", Asked::Whole),
        ] {
            assert_eq!(read(value, 1000), asked, "{value}");
        }
        assert_eq!(read("bytes=0-", 0), Asked::OutOfReach);
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_file(value in "(bytes=)?[0-9,-]{0,50}", length in any::<u64>()) {
            if let Asked::Part(range) = read(&value, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
