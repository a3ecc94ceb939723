//! Files that are in a tree only while programs of it run. Debian's packages ask `policy-rc.d` whether they may start their services: not
//! while somebody works in a tree. And name servers need a file.

use super::resolver::RESOLV_CONF;
use crate::files::Files;
use crate::root::Root;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_OMIT};

pub(super) const POLICY: &str = "usr/sbin/policy-rc.d";
pub(super) const POLICY_NO: &[u8] = b"#!/bin/sh\nexit 101\n";
const DPKG: &str = "usr/bin/dpkg";

/// One of them, where the tree has none of its own. An empty one that was left
/// behind by a run that was killed is taken away by the next.
pub struct Lent<'a> {
    root: Option<&'a Root>,
    path: &'static str,
    bytes: &'static [u8],
    /// When its folder had changed last before it was written, and then.
    times: [Option<(i64, i64)>; 2],
}

impl<'a> Lent<'a> {
    /// Says no, until it is taken away. A tree's own goes on to say what it says; one without dpkg needs none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn policy(root: &'a Root) -> anyhow::Result<Self> {
        let has_dpkg = is_asked(&Files::of(root)?);
        Self::with(root, has_dpkg, POLICY, POLICY_NO, 0o755)
    }

    /// An empty file for name servers, for this computer's to be mounted over, in a tree that has none and a folder for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resolver(root: &'a Root) -> anyhow::Result<Self> {
        let files = Files::of(root)?;
        let has_folder = files.exists(folder_of(RESOLV_CONF));
        let has_none = files.link_target(RESOLV_CONF)?.is_none() && !files.exists(RESOLV_CONF);
        Self::with(root, has_folder && has_none, RESOLV_CONF, b"", 0o644)
    }

    /// An empty file, for another one to be mounted over. It is no program, and so means nothing where it is left behind.
    pub(super) fn beneath(root: &'a Root, wanted: bool) -> anyhow::Result<Self> {
        Self::with(root, wanted, POLICY, b"", 0o644)
    }

    fn with(
        root: &'a Root,
        wanted: bool,
        path: &'static str,
        bytes: &'static [u8],
        mode: u32,
    ) -> anyhow::Result<Self> {
        let none = Self {
            root: None,
            path,
            bytes,
            times: [None, None],
        };
        if !wanted {
            return Ok(none);
        }
        let files = Files::of(root)?;
        // An empty one was left behind by a run that was killed.
        if files.read(path)?.is_some_and(|found| !found.is_empty()) {
            return Ok(none);
        }
        let folder = folder_of(path);
        files.make_folders(folder)?;
        let before = time(&files, folder);
        files.remove(path)?;
        files.write(path, bytes, mode)?;
        Ok(Self {
            root: Some(root),
            path,
            bytes,
            times: [before, time(&files, folder)],
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
        if files
            .read(self.path)?
            .is_none_or(|found| found != self.bytes)
        {
            return Ok(());
        }
        let [before, written] = self.times;
        let folder = folder_of(self.path);
        let is_untouched = time(&files, folder) == written;
        files.remove(self.path)?;
        if let Some((tv_sec, tv_nsec)) = before.filter(|_| is_untouched) {
            let folder = files.open(folder.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
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

/// The folder of a path.
fn folder_of(path: &'static str) -> &'static str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// When something came into a folder last, or went: seconds, and their fraction.
fn time(files: &Files, folder: &str) -> Option<(i64, i64)> {
    let folder = files.open(folder.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
    let found = pitstop_trees::inode::stat(folder.ok()?).ok()?.stx_mtime;
    Some((found.tv_sec, i64::from(found.tv_nsec)))
}

impl Drop for Lent<'_> {
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
        let policy = Lent::policy(&root).unwrap();
        assert!(text(&root, POLICY).contains("exit 101"));
        policy.take_away().unwrap();
        assert!(!has());
        // Left behind by one that was killed.
        put(root.path(), POLICY, "");
        drop(Lent::policy(&root).unwrap());
        assert!(!has());
        // The tree's own, in the same words.
        put(root.path(), POLICY, "#!/bin/sh\nexit 101\n");
        drop(Lent::policy(&root).unwrap());
        assert!(has());
        std::fs::remove_file(root.path().join(POLICY)).unwrap();
        // Somebody writes one while it is there.
        let policy = Lent::policy(&root).unwrap();
        put(root.path(), POLICY, "#!/bin/sh\nexit 0\n");
        policy.take_away().unwrap();
        drop(Lent::policy(&root).unwrap());
        assert!(text(&root, POLICY).contains("exit 0"));
        let (_folder, root) = tree(&[("etc/os-release", "")]);
        let _policy = Lent::policy(&root).unwrap();
        assert!(!root.path().join(POLICY).exists());
    }

    #[test]
    fn a_file_for_name_servers_is_there_meanwhile_and_what_somebody_writes_stays() {
        let (_folder, root) = tree(&[("etc/hosts", "")]);
        let has = || root.path().join(RESOLV_CONF).exists();
        let lent = Lent::resolver(&root).unwrap();
        assert!(has());
        lent.take_away().unwrap();
        assert!(!has());
        let lent = Lent::resolver(&root).unwrap();
        put(root.path(), RESOLV_CONF, "nameserver 192.0.2.1");
        lent.take_away().unwrap();
        assert!(has());
        let (_folder, root) = tree(&[("hosts", "")]);
        let _lent = Lent::resolver(&root).unwrap();
        assert!(!root.path().join("etc").exists());
    }
}
