//! Naming one partition: by number, GUID or name.

use super::{Partition, Table};
use crate::units;
use std::fmt;
use std::str::FromStr;

/// Names one partition of a disk or of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionSelector {
    /// As the kernel numbers it, from 1.
    Number(u32),
    /// As in `PARTUUID=`, lower case: a GUID, or an MBR's signature and number.
    Id(String),
    /// The name in a GPT.
    Name(String),
}

/// Why a selector says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("partitions count from 1")]
    Zero,
    #[error("{0:?} is no number, no GUID and no name of a partition")]
    Empty(String),
    #[error("{place} has no partition {selector}: there are {there}")]
    None {
        selector: String,
        place: String,
        there: String,
    },
    #[error("{place} has more than one partition {selector}: {found}")]
    Several {
        selector: String,
        place: String,
        found: String,
    },
}

impl PartitionSelector {
    /// A number as it is written in a file.
    ///
    /// # Errors
    /// For numbers that no partition has.
    pub fn number(number: i64) -> Result<Self, SelectorError> {
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(SelectorError::Zero),
        }
    }

    /// The one partition that is meant; `place` is whose table it is, for the error.
    ///
    /// # Errors
    /// When it is none or more than one.
    pub fn find<'a>(&self, table: &'a Table, place: &str) -> Result<&'a Partition, SelectorError> {
        let meant = |partition: &&Partition| match self {
            Self::Number(number) => partition.number == *number,
            Self::Id(id) => partition.id.eq_ignore_ascii_case(id),
            Self::Name(name) => partition.name == *name,
        };
        let found: Vec<&Partition> = table.partitions.iter().filter(meant).collect();
        let (selector, place) = (self.to_string(), place.to_owned());
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(SelectorError::None {
                selector,
                place,
                there: list(&table.partitions.iter().collect::<Vec<_>>()),
            }),
            several => Err(SelectorError::Several {
                selector,
                place,
                found: list(several),
            }),
        }
    }
}

fn list(partitions: &[&Partition]) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}

impl fmt::Display for Partition {
    /// `3 (home, 20.0 GiB at 1048576)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.number)?;
        if !self.name.is_empty() {
            write!(f, "{}, ", self.name)?;
        }
        write!(f, "{} at {})", units::bytes(self.size), self.start)
    }
}

impl fmt::Display for PartitionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

impl FromStr for PartitionSelector {
    type Err = SelectorError;

    /// Digits are a number, what looks like a `PARTUUID` is one, all else is a name.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SelectorError::Empty(text.to_owned()));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::number(text.parse().unwrap_or(i64::MAX));
        }
        let groups: Vec<&str> = text.split('-').collect();
        let hex = groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if hex && matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [8, 2]) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::PartitionKind;

    fn table(names: &[&str]) -> Table {
        let partition = |(number, name): (u32, &&str)| Partition {
            number,
            start: u64::from(number) << 20,
            size: 1 << 20,
            kind: PartitionKind::Code(0x83),
            name: (*name).to_owned(),
            id: format!("4c9f2d11-0{number}"),
            attributes: 0,
        };
        Table {
            partitions: (1..).zip(names).map(partition).collect(),
            ..Table::default()
        }
    }

    #[test]
    fn numbers_ids_and_names_are_told_apart() {
        let read = |text: &str| text.parse::<PartitionSelector>();
        assert_eq!(read("3"), Ok(PartitionSelector::Number(3)));
        assert_eq!(read("0"), Err(SelectorError::Zero));
        assert_eq!(read("99999999999999999999"), Err(SelectorError::Zero));
        assert_eq!(read(" "), Err(SelectorError::Empty(String::new())));
        assert_eq!(read("home"), Ok(PartitionSelector::Name("home".into())));
        let guid = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
        assert_eq!(
            read(guid),
            Ok(PartitionSelector::Id(guid.to_ascii_lowercase()))
        );
        assert_eq!(
            read("4C9F2D11-01"),
            Ok(PartitionSelector::Id("4c9f2d11-01".into()))
        );
    }

    #[test]
    fn one_partition_is_found_and_none_or_two_are_errors() {
        let table = table(&["boot", "data", "data"]);
        let find = |text: &str| {
            let selector: PartitionSelector = text.parse().unwrap();
            selector.find(&table, "/dev/sda").map(|found| found.number)
        };
        assert_eq!(find("2"), Ok(2));
        assert_eq!(find("boot"), Ok(1));
        assert_eq!(find("4C9F2D11-03"), Ok(3));
        assert_eq!(
            find("home").unwrap_err().to_string(),
            "/dev/sda has no partition \"home\": there are 1 (boot, 1.0 MiB at 1048576), \
             2 (data, 1.0 MiB at 2097152), 3 (data, 1.0 MiB at 3145728)"
        );
        assert_eq!(
            find("data").unwrap_err().to_string(),
            "/dev/sda has more than one partition \"data\": 2 (data, 1.0 MiB at 2097152), \
             3 (data, 1.0 MiB at 3145728)"
        );
    }
}
