//! What is the machine's own: an update leaves it alone, whatever the trees say.

use anyhow::Context;
use pitstop_trees::path::TreePath;
use pitstop_trees::{Excludes, Identity, Verdict};
use std::collections::BTreeSet;

/// Which disks it has, what it is called, and what programs hold while they run.
pub(super) const OWN: [&str; 9] = [
    "etc/fstab",
    "etc/crypttab",
    "etc/hostname",
    "etc/adjtime",
    "var/lib/pitstop",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/rpm/.rpm.lock",
    "usr/lib/sysimage/rpm/.rpm.lock",
];

/// What mkfs leaves at the top of a filesystem.
pub(super) const LOST_FOUND: &[u8] = b"lost+found";

pub struct Local {
    identity: Identity,
    /// Folders of the modules that the kernel may yet load, where the running system is updated.
    running: Vec<String>,
    /// Patterns of the admin's: `local` and `exclude`.
    patterns: Excludes,
    /// What the deploy made for this machine.
    adapted: BTreeSet<TreePath>,
}

impl Local {
    /// # Errors
    /// When a pattern is none, named.
    pub fn new(
        patterns: &[String],
        kernel: Option<&str>,
        adapted: BTreeSet<TreePath>,
    ) -> anyhow::Result<Self> {
        let folders = ["lib/modules", "usr/lib/modules"].into_iter();
        let running = kernel.map(|kernel| folders.map(|it| format!("{it}/{kernel}")).collect());
        Ok(Self {
            identity: Identity::new()?,
            running: running.unwrap_or_default(),
            patterns: Excludes::new(patterns).context("the machine's own files")?,
            adapted,
        })
    }

    /// Whether the admin says so.
    pub fn wished(&self, path: &TreePath) -> bool {
        self.patterns.matches(path)
    }

    /// Whether the kernel that runs may yet need it.
    pub fn is_running(&self, path: &TreePath) -> bool {
        self.running.iter().any(|it| path.is_within(it.as_bytes()))
    }

    /// Whether it is so on every machine, or was adapted to this one.
    pub fn known(&self, path: &TreePath) -> bool {
        self.adapted.contains(path)
            || self.identity.verdict(path) != Verdict::Kept
            || OWN.iter().any(|own| own.as_bytes() == path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_is_known_by_its_place_and_modules_by_the_kernel_that_runs() {
        let path = |path: &str| TreePath::parse(path.as_bytes()).unwrap();
        let adapted = BTreeSet::from([path("boot/grub/grub.cfg")]);
        let srv = ["/srv/*".to_owned()];
        let local = Local::new(&srv, Some("6.1.0-9-amd64"), adapted).unwrap();
        assert!(local.known(&path("boot/grub/grub.cfg")) && !local.known(&path("boot/grub/x")));
        assert!(local.known(&path("etc/fstab")) && local.known(&path("etc/machine-id")));
        assert!(!local.known(&path("srv/etc/fstab")) && !local.known(&path("etc/hosts")));
        assert!(local.wished(&path("srv/x")) && !local.wished(&path("srv")));
        assert!(local.is_running(&path("usr/lib/modules/6.1.0-9-amd64/kernel/fs/fat.ko")));
        assert!(!local.is_running(&path("usr/lib/modules/6.1.0-9-amd64-dbg/x")));
        let offline = Local::new(&[], None, BTreeSet::new()).unwrap();
        assert!(!offline.is_running(&path("usr/lib/modules/6.1.0-9-amd64/x")));
    }
}
