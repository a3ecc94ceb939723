//! Paths in a tree: bytes, as Linux has them, and never a way out of the tree.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest name of a file on Linux, bytes.
const NAME_MOST: usize = 255;
/// The longest path that an image may have. Linux has 4096 for one call, and no limit for the depth of folders.
const PATH_MOST: usize = 64 << 10;

/// A path from the root of a tree, which is the empty one. No component is empty, `.` or `..`.
///
/// Paths are ordered by component: a folder stands before what is in it, and all that is in it stands together. In the
/// order of bytes `a-b` would stand between `a` and `a/b`, and GNU tar would lose the time of the folder `a`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are no path in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("it has a component that is empty or \".\"")]
    Empty,
    #[error("it leads out of the tree by \"..\"")]
    Out,
    #[error("it holds a zero byte")]
    Zero,
    #[error("it is too long for Linux")]
    Long,
}

impl TreePath {
    /// The folder that the tree is in.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path as it is stored: components joined by `/`.
    ///
    /// # Errors
    /// When it could mean another place than it says.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.len() > PATH_MOST {
            return Err(PathError::Long);
        }
        if !bytes.is_empty() {
            for name in bytes.split(|byte| *byte == b'/') {
                check_name(name)?;
            }
        }
        Ok(Self(bytes.into()))
    }

    /// A path as people and other tars write it: `/etc`, `./etc/`, `etc//passwd`.
    ///
    /// # Errors
    /// When it leads out of the tree, or is none.
    pub fn parse_loose(bytes: &[u8]) -> Result<Self, PathError> {
        let names = bytes
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".");
        Self::parse(&names.collect::<Vec<_>>().join(&b'/'))
    }

    /// What is named `name` in this folder.
    ///
    /// # Errors
    /// When that is no name of a file.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > PATH_MOST {
            return Err(PathError::Long);
        }
        Ok(Self(bytes.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder it is in; the root is in itself.
    pub fn folder(&self) -> &[u8] {
        split(&self.0).0
    }

    /// Its last component; of the root, nothing.
    pub fn name(&self) -> &[u8] {
        split(&self.0).1
    }

    /// Whether it is in `folder`, at any depth, or is that folder.
    pub fn is_within(&self, folder: &[u8]) -> bool {
        folder.is_empty()
            || self
                .0
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

/// A stored path as folder and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" | b"." => Err(PathError::Empty),
        b".." => Err(PathError::Out),
        name if name.contains(&0) => Err(PathError::Zero),
        name if name.contains(&b'/') => Err(PathError::Empty),
        name if name.len() > NAME_MOST => Err(PathError::Long),
        _ => Ok(()),
    }
}

/// Bytes of paths in the order of the tree: as bytes are, but `/` stands before every other one.
pub fn order(one: &[u8], other: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(key).cmp(other.iter().map(key))
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TreePath {
    /// As an absolute path within the tree; what is no text is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", shown(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Bytes of a path or a link for one line of text: what a terminal would not show is escaped.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_folder_stands_before_its_contents_and_they_stand_together() {
        let mut paths: Vec<TreePath> = ["b", "a-b", "a/c/d", "a", "a/c", "", "a.b", "a/b"]
            .map(|path| TreePath::parse(path.as_bytes()).unwrap())
            .to_vec();
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["/", "/a", "/a/b", "/a/c", "/a/c/d", "/a-b", "/a.b", "/b"]
        );
    }

    #[test]
    fn no_path_leads_out() {
        for (path, why) in [
            ("..", PathError::Out),
            ("a/../b", PathError::Out),
            ("/etc", PathError::Empty),
            ("a//b", PathError::Empty),
            ("./a", PathError::Empty),
            ("a/", PathError::Empty),
            ("a\0b", PathError::Zero),
        ] {
            assert_eq!(TreePath::parse(path.as_bytes()), Err(why), "{path:?}");
        }
        let long = vec![b'x'; 256];
        assert_eq!(TreePath::parse(&long), Err(PathError::Long));
        assert_eq!(TreePath::parse_loose(b"../etc"), Err(PathError::Out));
        assert_eq!(
            TreePath::parse_loose(b"/./etc//passwd/")
                .unwrap()
                .to_string(),
            "/etc/passwd"
        );
        assert!(TreePath::parse_loose(b"./").unwrap().is_root());
    }

    #[test]
    fn names_that_are_no_text_are_shown_in_one_line() {
        let path = TreePath::parse(b"a\nb\xff\\c").unwrap();
        assert_eq!(path.to_string(), "/a\\nb\\xff\\\\c");
    }

    #[test]
    fn within_counts_components() {
        let path = TreePath::parse(b"usr/lib/x").unwrap();
        assert!(path.is_within(b"usr/lib") && path.is_within(b"") && path.is_within(b"usr/lib/x"));
        assert!(!path.is_within(b"usr/li") && !path.is_within(b"usr/lib/x/y"));
    }

    proptest! {
        #[test]
        fn a_path_that_parses_stays_below_the_root(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = TreePath::parse_loose(&bytes) {
                prop_assert_eq!(TreePath::parse(path.as_bytes()).unwrap(), path.clone());
                let safe = path.as_path().components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(safe);
            }
        }
    }
}
