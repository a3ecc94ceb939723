//! What a tree has at a path: its kind and all of its attributes.

use crate::flags::Flags;
use crate::path::TreePath;
use std::fmt;
use std::sync::Arc;

/// A moment: seconds since 1970, which may be negative, and nanoseconds that follow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    pub seconds: i64,
    /// Less than 1,000,000,000.
    pub nanos: u32,
}

/// Extended attributes, sorted by name, with the values that the kernel has: ACLs are among them, as
/// `system.posix_acl_access` and `system.posix_acl_default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

impl Xattrs {
    pub fn new(mut pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        pairs.sort();
        Self(pairs)
    }

    pub fn pairs(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What every kind of entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The twelve bits of permissions, set-id and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Arc<Xattrs>,
    pub flags: Flags,
}

/// A stretch of data in a sparse file, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    pub length: u64,
}

/// Whether the kernel has such a number of a device (`MINORBITS` in `linux/kdev_t.h`; mknod(2) takes 32 bits): of others it would
/// make another one.
pub fn is_device(major: u32, minor: u32) -> bool {
    major < 1 << 12 && minor < 1 << 20
}

/// BLAKE3.
pub type Hash = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File {
        /// Bytes, holes among them.
        size: u64,
        /// Where the data is, of a file with holes; `None`: everywhere.
        extents: Option<Arc<[Extent]>>,
        /// Of the data, without the holes.
        hash: Hash,
    },
    Symlink(Vec<u8>),
    /// Another name of a file that stands before it.
    HardLink(TreePath),
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: TreePath,
    pub kind: Kind,
    pub attributes: Attributes,
}

impl Kind {
    /// The letter that the index has for it, and `ls -l` for most.
    pub fn letter(&self) -> u8 {
        match self {
            Kind::Folder => b'd',
            Kind::File { .. } => b'f',
            Kind::Symlink(_) => b'l',
            Kind::HardLink(_) => b'h',
            Kind::Character { .. } => b'c',
            Kind::Block { .. } => b'b',
            Kind::Fifo => b'p',
        }
    }

    /// For messages.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Folder => "folder",
            Kind::File { .. } => "file",
            Kind::Symlink(_) => "symlink",
            Kind::HardLink(_) => "hard link",
            Kind::Character { .. } => "character device",
            Kind::Block { .. } => "block device",
            Kind::Fifo => "FIFO",
        }
    }

    /// Bytes of data that are stored for it, holes not among them.
    pub fn stored(&self) -> u64 {
        match self {
            Kind::File { size, extents, .. } => match extents {
                None => *size,
                Some(extents) => extents.iter().map(|extent| extent.length).sum(),
            },
            _ => 0,
        }
    }
}

impl fmt::Display for Time {
    /// As pax writes it: a decimal number of seconds, as short as it can be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a time before 1970 the fraction counts down: -2 s and 0.75 s is -1.25.
        let (sign, seconds, nanos) = match (self.seconds, self.nanos) {
            (seconds @ ..0, 0) => ("-", seconds.unsigned_abs(), 0),
            (seconds @ ..0, nanos) => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
            (seconds, nanos) => ("", seconds.unsigned_abs(), nanos),
        };
        write!(f, "{sign}{seconds}")?;
        if nanos == 0 {
            return Ok(());
        }
        let fraction = format!("{nanos:09}");
        write!(f, ".{}", fraction.trim_end_matches('0'))
    }
}

impl Time {
    /// Reads a decimal number of seconds; digits beyond nanoseconds are cut off.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let seconds: i64 = whole.parse().ok()?;
        let digits: String = fraction
            .chars()
            .chain("000000000".chars())
            .take(9)
            .collect();
        let nanos: u32 = digits.parse().ok()?;
        Some(match (negative, nanos) {
            (false, _) => Self { seconds, nanos },
            (true, 0) => Self {
                seconds: -seconds,
                nanos: 0,
            },
            (true, _) => Self {
                seconds: -seconds - 1,
                nanos: 1_000_000_000 - nanos,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_the_decimal_numbers_that_pax_has() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-2, 750_000_000, "-1.25"),
            (-1, 999_999_999, "-0.000000001"),
            (-86400, 0, "-86400"),
            (4_102_444_800, 1, "4102444800.000000001"),
        ] {
            let time = Time { seconds, nanos };
            assert_eq!(time.to_string(), text);
            assert_eq!(Time::parse(text.as_bytes()), Some(time));
        }
        for wrong in ["", ".5", "-", "1e3", "1.5.", "+1", "99999999999999999999"] {
            assert_eq!(Time::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_time_reads_back(seconds in -1_000_000_000_000i64..1_000_000_000_000, nanos in 0u32..1_000_000_000) {
            let time = Time { seconds, nanos };
            prop_assert_eq!(Time::parse(time.to_string().as_bytes()), Some(time));
        }
    }
}
