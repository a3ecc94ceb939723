//! What is left out by wish. A pattern begins at the root of the tree, so that none matches deeper than meant.

use crate::glob::Glob;
use crate::path::TreePath;
use anyhow::{Context, bail};
use std::sync::atomic::{AtomicBool, Ordering};

/// Patterns, and which of them matched something.
pub struct Excludes {
    patterns: Vec<String>,
    set: Vec<Glob>,
    used: Vec<AtomicBool>,
}

impl Excludes {
    /// `*` and `?` match within a name, `**` any number of folders: `/var/cache/apt/archives/*.deb`, `**/__pycache__`.
    ///
    /// # Errors
    /// A pattern that is none, named.
    pub fn new(patterns: &[String]) -> anyhow::Result<Self> {
        let mut set = Vec::new();
        for pattern in patterns {
            let bare = pattern.trim_start_matches("./").trim_matches('/');
            // A script has such a one of a variable that nobody has set. What an update leaves alone it would be: all.
            if matches!(bare, "" | ".") {
                bail!(
                    "the pattern {pattern:?} to leave out names nothing: name what is meant, from the root on"
                );
            }
            let glob =
                Glob::new(bare).with_context(|| format!("the pattern {pattern:?} to leave out"))?;
            set.push(glob);
        }
        Ok(Self {
            patterns: patterns.to_vec(),
            set,
            used: patterns.iter().map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Whether `path`, and so all that is in it, is left out.
    pub fn matches(&self, path: &TreePath) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let mut found = false;
        for (glob, used) in self.set.iter().zip(&self.used) {
            if glob.matches(path.as_bytes()) {
                used.store(true, Ordering::Relaxed);
                found = true;
            }
        }
        found
    }

    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Those that matched nothing so far.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let used = self.used.iter().map(|used| used.load(Ordering::Relaxed));
        let patterns = self.patterns.iter().zip(used);
        patterns
            .filter(|(_, used)| !used)
            .map(|(pattern, _)| pattern.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_at_the_root_and_matches_no_deeper_than_it_says() {
        let patterns = [
            "/tmp/*",
            "var/cache",
            "**/*.pyc",
            "./home/*/.cache",
            "/srv/x?y/",
        ];
        let excludes = Excludes::new(&patterns.map(str::to_owned)).unwrap();
        let matches = |path: &str| excludes.matches(&TreePath::parse(path.as_bytes()).unwrap());
        for path in [
            "tmp/a",
            "tmp/.b",
            "var/cache",
            "a.pyc",
            "usr/lib/a.pyc",
            "home/joe/.cache",
        ] {
            assert!(matches(path), "{path}");
        }
        for path in [
            "tmp",
            "usr/tmp/a",
            "srv/var/cache",
            "home/a/b/.cache",
            "srv/x/y",
        ] {
            assert!(!matches(path), "{path}");
        }
        assert_eq!(excludes.unused().collect::<Vec<_>>(), ["/srv/x?y/"]);
        for none in ["a[", "", "/", "./", ".", "//"] {
            let error = Excludes::new(&[none.to_owned()]).err();
            assert!(error.unwrap().to_string().contains(none), "{none}");
        }
    }
}
