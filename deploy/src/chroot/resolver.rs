//! Where a tree looks for name servers: its programs are to find those of this computer there.

use crate::files::Files;
use crate::root::Root;
use anyhow::Context;
use rustix::fs::OFlags;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

pub(super) const RESOLV_CONF: &str = "etc/resolv.conf";
/// This computer's own.
const OURS: &str = "/etc/resolv.conf";
const RUN: &str = "/run";

/// How they get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolver {
    /// A file of the tree is covered.
    Covered,
    /// It is a link into `/run`, to this path, where nothing is yet.
    Made(PathBuf),
}

/// What is done, and this computer's own file; `None` where the tree has no such file, or this computer none.
pub(super) fn found(files: &Files) -> anyhow::Result<Option<(Resolver, Vec<u8>)>> {
    let Ok(ours) = fs::read(OURS) else {
        return Ok(None);
    };
    Ok(of(files)?.map(|resolver| (resolver, ours)))
}

fn of(files: &Files) -> anyhow::Result<Option<Resolver>> {
    let target = files.link_target(RESOLV_CONF)?;
    // From /etc, `..` is the root.
    let target = target.map(|target| {
        let below = target.strip_prefix("..").unwrap_or(&target);
        Path::new("/").join(below)
    });
    let is_plain = |path: &PathBuf| path.components().all(|part| part != Component::ParentDir);
    match target.filter(|path| path.starts_with(RUN) && is_plain(path)) {
        Some(path) => Ok(Some(Resolver::Made(path))),
        None => Ok(files.exists(RESOLV_CONF).then_some(Resolver::Covered)),
    }
}

/// The path of the file that programs of the tree at `root` read, seen from here; what is below its `/run` is not there yet. `None`
/// where the tree has no such file, or this computer has none of its own.
///
/// # Errors
/// When the tree cannot be read.
pub fn resolver(root: &Root) -> anyhow::Result<Option<PathBuf>> {
    let files = Files::of(root)?;
    match found(&files)? {
        Some((Resolver::Made(path), _)) => {
            let path = path.strip_prefix("/").context("a path in the tree")?;
            Ok(Some(root.path().join(path)))
        }
        Some((Resolver::Covered, _)) => {
            let opening = || format!("opening {}", files.shown(RESOLV_CONF));
            let opened = files
                .open(RESOLV_CONF.as_bytes(), OFlags::PATH)
                .with_context(opening)?;
            let at = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            Ok(Some(at.with_context(opening)?))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::tree;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_into_run_are_filled_and_others_are_covered_in_the_tree() {
        let (folder, root) = tree(&[
            ("etc/hosts", ""),
            ("usr/lib/resolv.conf", ""),
            ("run/x", ""),
        ]);
        let link = folder.path().join(RESOLV_CONF);
        let found = || of(&Files::of(&root).unwrap()).unwrap();
        let made = |path: &str| Some(Resolver::Made(path.into()));
        for (target, wanted) in [
            (
                "../run/systemd/resolve/stub-resolv.conf",
                made("/run/systemd/resolve/stub-resolv.conf"),
            ),
            ("/run/resolv.conf", made("/run/resolv.conf")),
            ("/run/../etc/hosts", Some(Resolver::Covered)),
            ("/usr/lib/resolv.conf", Some(Resolver::Covered)),
            ("/usr/lib/missing", None),
        ] {
            symlink(target, &link).unwrap();
            assert_eq!(found(), wanted, "{target}");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(found(), None);
    }
}
