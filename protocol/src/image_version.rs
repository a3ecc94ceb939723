//! Images of one disk that lie beside each other: the last, the one before it, and those that were kept by their time.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is behind the name of the image before the last.
pub const OLD: &str = ".old";

/// What the image at `path` is called as long as a machine sends it to a server.
pub fn upload_of(path: &str) -> String {
    format!("{path}.new.part")
}

const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Which of the images of a disk a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// What a restore takes.
    Last,
    /// The one before it.
    Old,
    /// One before those, by when it was made.
    Dated(Timestamp),
}

/// The name of the last image of the same disk, and which one `name` is: `sda.raw.gz` of `sda.raw.gz.old` and of
/// `sda.raw.gz.20261120T120000Z`.
pub fn split(name: &str) -> (&str, Version) {
    if let Some(last) = name.strip_suffix(OLD) {
        return (last, Version::Old);
    }
    let dated = name
        .rsplit_once('.')
        .and_then(|(last, time)| Some((last, Version::Dated(read(time)?))));
    dated.unwrap_or((name, Version::Last))
}

/// The name under which the image `last`, made at `made`, is kept: to the second, in UTC.
pub fn dated(last: &str, made: Timestamp) -> String {
    let made = made.to_zoned(TimeZone::UTC);
    format!("{last}.{}", made.strftime(TIME))
}

/// Reads what [`dated`] writes and nothing else.
fn read(text: &str) -> Option<Timestamp> {
    let is_digit = |at: usize, byte: u8| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    let fits = text.len() == 16 && text.bytes().enumerate().all(|(at, it)| is_digit(at, it));
    if !fits {
        return None;
    }
    let time = jiff::civil::DateTime::strptime(TIME, text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_tell_which_image_a_file_is() {
        let made: Timestamp = "2026-11-20T12:00:01.5Z".parse().unwrap();
        let name = dated("sda.raw.gz", made);
        assert_eq!(name, "sda.raw.gz.20261120T120001Z");
        let second = "2026-11-20T12:00:01Z".parse().unwrap();
        assert_eq!(split(&name), ("sda.raw.gz", Version::Dated(second)));
        assert_eq!(split("sda.raw.gz.old"), ("sda.raw.gz", Version::Old));
        for last in [
            "sda.raw.gz",
            "sda.raw.gz.20261120",
            "sda.raw.gz.20261320T120001Z",
            "20261120T120001Z",
            "",
        ] {
            assert_eq!(split(last), (last, Version::Last));
        }
    }

    proptest! {
        #[test]
        fn any_time_reads_back(seconds in 0i64..4_000_000_000, name in "[a-z0-9.]{1,20}") {
            let made = Timestamp::from_second(seconds).unwrap();
            let kept = dated(&name, made);
            prop_assert_eq!(split(&kept), (name.as_str(), Version::Dated(made)));
        }

        #[test]
        fn any_name_is_split_without_a_panic(name in "\\PC{0,40}") {
            let (last, _) = split(&name);
            prop_assert!(name.starts_with(last));
        }
    }
}
