//! What names a job or a run: `20261128-213000-a1b2c3`. Short, safe in a file's name and a URL, and sorted by time.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Digits of the day, the time of day, and the least and most of the random tail.
const DAY: usize = 8;
const TIME: usize = 6;
const TAIL: std::ops::RangeInclusive<usize> = 4..=6;

/// An identifier of its shape and no other: nothing else gets into a path by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an identifier such as 20261128-213000-a1b2c3")]
pub struct BadId(String);

impl Id {
    /// One of this moment, in UTC. The last 24 bits of `random` keep two of one second apart.
    pub fn new(now: Timestamp, random: u32) -> Self {
        // Its text has years of four digits: a clock that was never set is in 1970, and later ones are no one's concern.
        let stamp = now.strftime("%Y%m%d-%H%M%S");
        Self(format!("{stamp}-{:06x}", random & 0xff_ffff))
    }

    /// The same, sorted by the milliseconds of one second as well: who comes first goes first. The last 14 bits of `random`
    /// keep two of one millisecond apart.
    pub fn in_turn(now: Timestamp, random: u32) -> Self {
        let milliseconds = now.subsec_millisecond().unsigned_abs();
        Self::new(now, milliseconds << 14 | random & 0x3fff)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The second that it was made in; `None` where its digits are no time.
    pub fn made(&self) -> Option<Timestamp> {
        let (stamp, _) = self.0.split_at_checked(DAY + 1 + TIME)?;
        let made = civil::DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()?;
        made.to_zoned(TimeZone::UTC)
            .ok()
            .map(|made| made.timestamp())
    }
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = |part: &str, count: usize| {
            part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let mut parts = text.splitn(3, '-');
        let known = parts.next().is_some_and(|day| digits(day, DAY))
            && parts.next().is_some_and(|time| digits(time, TIME))
            && parts
                .next()
                .is_some_and(|tail| TAIL.contains(&tail.len()) && tail.bytes().all(hex));
        if known {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadId(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn later_ones_sort_behind_earlier_ones() {
        let at = |seconds, random| Id::new(Timestamp::from_second(seconds).unwrap(), random);
        assert_eq!(at(0, 0xabcd).as_str(), "19700101-000000-00abcd");
        assert!(at(1_764_365_400, u32::MAX) < at(1_764_365_401, 0));
        let soon = |milliseconds, random| {
            Id::in_turn(Timestamp::from_millisecond(milliseconds).unwrap(), random)
        };
        assert!(soon(1_764_365_400_007, u32::MAX) < soon(1_764_365_400_008, 0));
        assert!(soon(1_764_365_400_999, u32::MAX) < soon(1_764_365_401_000, 0));
        assert_eq!(
            "20261128-213000-a1b2".parse::<Id>().unwrap().as_str().len(),
            20
        );
    }

    #[test]
    fn nothing_else_is_one() {
        for text in [
            "",
            "..",
            "20261128-213000",
            "20261128-213000-",
            "20261128-213000-A1B2",
            "20261128-213000-a1b2c3d",
            "20261128-213000-a1b2/../x",
            "2026112-213000-a1b2c3",
            "20261128-213000-a1b2-c3",
        ] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_read_back_and_any_text_is_read_without_a_panic(
            seconds in 0i64..253_402_300_799, random: u32, text in "\\PC{0,40}"
        ) {
            let id = Id::new(Timestamp::from_second(seconds).unwrap(), random);
            prop_assert_eq!(id.as_str().parse::<Id>(), Ok(id.clone()));
            prop_assert_eq!(id.made().map(Timestamp::as_second), Some(seconds));
            let _ = text.parse::<Id>();
        }
    }
}
