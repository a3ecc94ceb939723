//! Debian's packages ask `policy-rc.d` whether they may start their services: not while somebody works in a tree.

use crate::files::Files;
use crate::root::Root;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_OMIT};

pub(super) const POLICY: &str = "usr/sbin/policy-rc.d";
pub(super) const POLICY_NO: &[u8] = b"#!/bin/sh\nexit 101\n";
const FOLDER: &str = "usr/sbin";
const DPKG: &str = "usr/bin/dpkg";

/// The file, in a tree that has none of its own. An empty one that was left behind by a run that was killed is taken away by the next.
pub struct Policy<'a> {
    root: Option<&'a Root>,
    bytes: &'static [u8],
    /// When its folder had changed last before it was written, and then.
    times: [Option<(i64, i64)>; 2],
}

impl<'a> Policy<'a> {
    /// Says no, until it is taken away. A tree's own goes on to say what it says; one without dpkg needs none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn place(root: &'a Root) -> anyhow::Result<Self> {
        let has_dpkg = is_asked(&Files::of(root)?);
        Self::with(root, has_dpkg, POLICY_NO, 0o755)
    }

    /// An empty file, for another one to be mounted over. It is no program, and so means nothing where it is left behind.
    pub(super) fn beneath(root: &'a Root, wanted: bool) -> anyhow::Result<Self> {
        Self::with(root, wanted, b"", 0o644)
    }

    fn with(root: &'a Root, wanted: bool, bytes: &'static [u8], mode: u32) -> anyhow::Result<Self> {
        let none = Self {
            root: None,
            bytes,
            times: [None, None],
        };
        if !wanted {
            return Ok(none);
        }
        let files = Files::of(root)?;
        // An empty one was left behind by a run that was killed.
        if files.read(POLICY)?.is_some_and(|found| !found.is_empty()) {
            return Ok(none);
        }
        files.make_folders(FOLDER)?;
        let before = time(&files);
        files.remove(POLICY)?;
        files.write(POLICY, bytes, mode)?;
        Ok(Self {
            root: Some(root),
            bytes,
            times: [before, time(&files)],
        })
    }

    /// Takes it away, unless somebody has written another one there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn take_away(mut self) -> anyhow::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        let Some(root) = self.root.take() else {
            return Ok(());
        };
        let files = Files::of(root)?;
        if files.read(POLICY)?.is_none_or(|found| found != self.bytes) {
            return Ok(());
        }
        let [before, written] = self.times;
        let is_untouched = time(&files) == written;
        files.remove(POLICY)?;
        if let Some((tv_sec, tv_nsec)) = before.filter(|_| is_untouched) {
            let folder = files.open(FOLDER.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec { tv_sec, tv_nsec },
            };
            rustix::fs::futimens(&folder, &times)?;
        }
        Ok(())
    }
}

/// Whether packages of a tree ask.
pub(super) fn is_asked(files: &Files) -> bool {
    files.exists(DPKG)
}

/// When something came into the folder last, or went: seconds, and their fraction.
fn time(files: &Files) -> Option<(i64, i64)> {
    let folder = files.open(FOLDER.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
    let found = pitstop_trees::inode::stat(folder.ok()?).ok()?.stx_mtime;
    Some((found.tv_sec, i64::from(found.tv_nsec)))
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        // Only where something failed before; that is what is told.
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::{put, text, tree};

    #[test]
    fn a_tree_says_no_until_it_is_taken_away_and_its_own_word_stays() {
        let (_folder, root) = tree(&[(DPKG, "")]);
        let has = || root.path().join(POLICY).exists();
        let policy = Policy::place(&root).unwrap();
        assert!(text(&root, POLICY).contains("exit 101"));
        policy.take_away().unwrap();
        assert!(!has());
        // Left behind by one that was killed.
        put(root.path(), POLICY, "");
        drop(Policy::place(&root).unwrap());
        assert!(!has());
        // The tree's own, in the same words.
        put(root.path(), POLICY, "#!/bin/sh\nexit 101\n");
        drop(Policy::place(&root).unwrap());
        assert!(has());
        std::fs::remove_file(root.path().join(POLICY)).unwrap();
        // Somebody writes one while it is there.
        let policy = Policy::place(&root).unwrap();
        put(root.path(), POLICY, "#!/bin/sh\nexit 0\n");
        policy.take_away().unwrap();
        drop(Policy::place(&root).unwrap());
        assert!(text(&root, POLICY).contains("exit 0"));
        let (_folder, root) = tree(&[("etc/os-release", "")]);
        let _policy = Policy::place(&root).unwrap();
        assert!(!root.path().join(POLICY).exists());
    }
}
