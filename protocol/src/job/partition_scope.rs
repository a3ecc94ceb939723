//! Which partitions a restore is about.

use super::hostfile::{HostFile, WrittenPartition};
use pitstop_imaging::image::Part;
use pitstop_imaging::table::PartitionSelector;

/// The key that is wrong, and why.
pub type WrongKey = (&'static str, String);

/// `keep` and `partitions` exclude each other.
pub fn part(file: &HostFile) -> Result<Part, WrongKey> {
    let (key, written) = match (&file.keep, &file.partitions) {
        (None, None) => return Ok(Part::Whole),
        (Some(_), Some(_)) => {
            let why = "keep and partitions exclude each other: partitions leaves all other partitions as they are";
            return Err(("keep", why.into()));
        }
        (Some(written), None) => ("keep", written),
        (None, Some(written)) => ("partitions", written),
    };
    if file.new_ids == Some(true) {
        return Err((
            key,
            "new-ids is for all partitions of a disk: it excludes keep and partitions".into(),
        ));
    }
    if file.grow == Some(true) {
        return Err((
            key,
            "grow changes the table for all of a disk: it excludes keep and partitions".into(),
        ));
    }
    if written.is_empty() {
        return Err((
            key,
            "an empty list names no partition: leave the key out".into(),
        ));
    }
    let selectors: Result<Vec<PartitionSelector>, _> = written
        .iter()
        .map(|written| match written {
            WrittenPartition::Number(number) => PartitionSelector::number(*number),
            WrittenPartition::Text(text) => text.parse(),
        })
        .collect();
    let selectors = selectors.map_err(|wrong| (key, wrong.to_string()))?;
    Ok(match key {
        "keep" => Part::Keep(selectors),
        _ => Part::Only(selectors),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Part, WrongKey> {
        let text = format!("version = 1\n{lines}");
        part(&HostFile::parse(text.as_bytes(), "test").unwrap())
    }

    #[test]
    fn partitions_are_named_by_number_guid_or_name() {
        let kept = read("keep = [3, \"home\", \"4\"]");
        let expected = [
            PartitionSelector::Number(3),
            PartitionSelector::Name("home".into()),
            PartitionSelector::Number(4),
        ];
        assert_eq!(kept, Ok(Part::Keep(expected.to_vec())));
        let only = read("partitions = [2]");
        assert_eq!(only, Ok(Part::Only(vec![PartitionSelector::Number(2)])));
        assert_eq!(read(""), Ok(Part::Whole));
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_key() {
        let both = read("keep = [1]\npartitions = [2]").unwrap_err();
        assert!(
            both.1.starts_with("keep and partitions exclude each other"),
            "{both:?}"
        );
        let ids = read("keep = [1]\nnew-ids = true").unwrap_err();
        assert!(
            ids.1.starts_with("new-ids is for all partitions"),
            "{ids:?}"
        );
        let grow = read("partitions = [1]\ngrow = true").unwrap_err();
        assert!(
            grow.0 == "partitions" && grow.1.starts_with("grow changes the table"),
            "{grow:?}"
        );
        let none = read("keep = []").unwrap_err();
        assert!(none.1.starts_with("an empty list"), "{none:?}");
        let zero = read("keep = [0]").unwrap_err();
        assert_eq!(zero, ("keep", "partitions count from 1".into()));
    }

    #[test]
    fn a_wrong_type_is_told_what_is_expected() {
        let text = b"version = 1\nkeep = [true]";
        let error = HostFile::parse(text, "test").unwrap_err();
        assert!(
            error.what.contains("a partition's number, GUID or name"),
            "{error}"
        );
    }
}
