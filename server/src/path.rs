//! Names as clients send them become paths below a served folder, or are refused.
//!
//! This is the first of two walls: what passes here is opened with `cap-std`, which resolves every
//! component below an open folder and refuses symlinks that lead out of it.

use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::Path;

/// Longest name that is looked at, in bytes: Linux's `PATH_MAX`.
const LONGEST: usize = 4096;

/// A path below a served folder: `/`-separated, without empty components, `.` or `..`. Empty means the folder itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the name is not UTF-8")]
    NotUtf8,
    #[error("the name has a control character or a backslash in it")]
    Character,
    #[error("the name has a \".\" or \"..\" in it")]
    Dots,
    #[error("the name is longer than {LONGEST} bytes")]
    TooLong,
}

impl RelPath {
    /// Reads the percent-encoded path of a URL, or a part of it.
    pub fn from_url(path: &str) -> Result<Self, BadPath> {
        if path.len() > 3 * LONGEST {
            return Err(BadPath::TooLong);
        }
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| BadPath::NotUtf8)?;
        Self::from_text(&decoded)
    }

    /// Reads a plain name, as TFTP has it. Leading and doubled slashes are dropped.
    pub fn from_text(path: &str) -> Result<Self, BadPath> {
        if path.len() > LONGEST {
            return Err(BadPath::TooLong);
        }
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return Err(BadPath::Character);
        }
        let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
        if components.iter().any(|&c| c == "." || c == "..") {
            return Err(BadPath::Dots);
        }
        Ok(Self(components.join("/")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to hand to a folder's `open`: the folder itself is `.`.
    pub fn as_path(&self) -> &Path {
        Path::new(if self.0.is_empty() { "." } else { &self.0 })
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder a file is in, and the file's own name. `None` for the root.
    pub fn split(&self) -> Option<(Self, &str)> {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => Some((Self(parent.to_owned()), name)),
            None if self.0.is_empty() => None,
            None => Some((Self(String::new()), &self.0)),
        }
    }

    /// The path without its leading folder, when that is `folder`.
    pub fn below(&self, folder: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(folder)?;
        if rest.is_empty() {
            return Some(Self(String::new()));
        }
        rest.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }

    /// The path without its first folder.
    pub fn below_first(&self) -> Self {
        let rest = self.0.split_once('/').map_or("", |(_, rest)| rest);
        Self(rest.to_owned())
    }

    /// Folders on the way, outermost first, without the path itself: `a`, `a/b` for `a/b/c`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn url(path: &str) -> Result<String, BadPath> {
        RelPath::from_url(path).map(|p| p.as_str().to_owned())
    }

    #[test]
    fn plain_names_pass() {
        assert_eq!(
            url("/10.0.2.15/sda.raw.gz"),
            Ok("10.0.2.15/sda.raw.gz".into())
        );
        assert_eq!(url("//a//b/"), Ok("a/b".into()));
        assert_eq!(url("/a%20b/%C3%A9"), Ok("a b/é".into()));
        assert_eq!(url("/..a/b.."), Ok("..a/b..".into()));
        assert_eq!(url("/"), Ok(String::new()));
    }

    #[test]
    fn ways_out_are_refused() {
        for (path, why) in [
            ("/../etc/passwd", BadPath::Dots),
            ("/a/%2e%2e/%2E./b", BadPath::Dots),
            ("/a%2f..%2fb", BadPath::Dots),
            ("/a/./b", BadPath::Dots),
            ("/..%5c..%5cetc", BadPath::Character),
            ("/a%00.toml", BadPath::Character),
            ("/a%0d%0aX: y", BadPath::Character),
            ("/%ff%fe", BadPath::NotUtf8),
        ] {
            assert_eq!(url(path), Err(why), "{path}");
        }
        assert_eq!(url(&"a".repeat(LONGEST + 1)), Err(BadPath::TooLong));
        assert_eq!(url(&"%41".repeat(LONGEST * 2)), Err(BadPath::TooLong));
    }

    #[test]
    fn paths_come_apart() {
        let path = RelPath::from_text("a/b/c").unwrap();
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.as_str(), name), ("a/b", "c"));
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.below("a").unwrap().as_str(), "b/c");
        assert_eq!(path.below("a/b/c").unwrap().as_str(), "");
        assert_eq!(path.below("a/b/cc"), None);
        assert_eq!(path.below_first().as_str(), "b/c");
        assert_eq!(RelPath::from_text("a").unwrap().below_first().as_str(), "");
        assert_eq!(RelPath::from_text("/").unwrap().split(), None);
    }

    proptest! {
        #[test]
        fn whatever_passes_stays_below(path in "(\\.|/|%2e|%2f|%5c|\\\\|%00|[a-z%0-9]|\\PC){0,40}") {
            for path in [RelPath::from_url(&path), RelPath::from_text(&path)].into_iter().flatten() {
                prop_assert!(!path.as_str().contains(['\0', '\\']));
                let inside = path.as_path() == Path::new(".")
                    || path.as_path().components().all(|c| matches!(c, Component::Normal(_)));
                prop_assert!(inside, "{path}");
            }
        }
    }
}
