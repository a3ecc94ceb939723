//! Names of jobs and of runs: `20261128-213000-3fa9c1`. They sort by time, and are safe in file names and URLs.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Lengths of the three parts: date, time of day (both UTC), and what chance made.
const DATE: usize = 8;
const TIME: usize = 6;
const CHANCE: std::ops::RangeInclusive<usize> = 4..=6;

/// Names one job, or one run of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a job's or a run's name like 20261128-213000-3fa9c1")]
pub struct BadId;

impl Id {
    /// A name of this second. Whoever stores under it makes sure that it is not taken.
    pub fn now() -> Self {
        Self::at(Timestamp::now(), fastrand::u32(..))
    }

    /// The name of something that began at `time`; of `chance` 24 bits count.
    pub fn at(time: Timestamp, chance: u32) -> Self {
        let time = time.strftime("%Y%m%d-%H%M%S");
        Self(format!("{time}-{:06x}", chance & 0x00ff_ffff))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let hex = |part: &str| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.bytes().all(lower)
        };
        let mut parts = text.split('-');
        let (date, time) = (parts.next().ok_or(BadId)?, parts.next().ok_or(BadId)?);
        let chance = parts.next().ok_or(BadId)?;
        let right = parts.next().is_none()
            && (date.len(), time.len()) == (DATE, TIME)
            && CHANCE.contains(&chance.len())
            && digits(date)
            && digits(time)
            && hex(chance);
        right.then(|| Self(text.to_owned())).ok_or(BadId)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_reads_back_and_sorts_by_time() {
        let at = |text: &str| Id::at(text.parse().unwrap(), 0xab_1234);
        let id = at("2026-11-28T21:30:00Z");
        assert_eq!(id.as_str(), "20261128-213000-ab1234");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!(id < at("2026-11-28T21:30:01Z"));
        let now = Id::now();
        assert_eq!(now.as_str().parse(), Ok(now));
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for text in [
            "",
            "..",
            "20261128-213000-ab1",
            "20261128-213000-ab12345",
            "20261128-213000-AB1234",
            "2026112-213000-ab1234",
            "20261128-213000",
            "20261128-213000-ab1234-x",
            "20261128-213000-../../",
        ] {
            assert_eq!(text.parse::<Id>(), Err(BadId), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            if let Ok(id) = text.parse::<Id>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
}
