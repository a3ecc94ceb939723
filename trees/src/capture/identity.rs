//! What is one machine's alone. It never enters an image: clones would be taken for each other.

use crate::beneath;
use crate::btrfs::SNAPSHOTS;
use crate::glob::Glob;
use crate::path::TreePath;
use anyhow::Context;
use rustix::fs::{Dir, OFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// What a deploy or an update remembers on the machine, and the folder that an update works in: never part of an image.
pub const RECORD: &str = "var/lib/pitstop/tree";
pub const WORKSHOP: &str = ".pitstop-update";
/// What is left to do of an update that is decided: a file in the workshop of the root's filesystem.
pub const JOURNAL: &str = "journal";

/// Whether a path is Pitstop's own on the machine.
pub fn is_ours(path: &TreePath) -> bool {
    path.name() == WORKSHOP.as_bytes()
        || path.as_bytes() == SNAPSHOTS.as_bytes()
        || path.as_bytes() == RECORD.as_bytes()
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    /// It has to be there, but without contents.
    Emptied,
    LeftOut,
}

/// machine-id(5): an empty file is filled at the first boot; one that is missing cannot be on a read-only root.
const EMPTIED: [&str; 1] = ["etc/machine-id"];

const LEFT_OUT: &[&str] = &[
    // Whose machine it is to those who log in.
    "etc/ssh/ssh_host_*",
    "etc/dropbear/dropbear_*_host_key",
    "var/lib/dbus/machine-id",
    // Leases, and the identifiers that they were given for.
    "var/lib/dhcp/*.leases",
    "var/lib/dhcp/*.lease",
    "var/lib/dhclient/*.lease*",
    "var/lib/dhcpcd/*.lease*",
    "var/lib/dhcpcd/duid",
    "var/lib/dhcpcd/secret",
    "var/db/dhcpcd/*.lease*",
    "var/db/dhcpcd/duid",
    "var/db/dhcpcd/secret",
    "etc/dhcpcd.duid",
    "etc/dhcpcd.secret",
    "var/lib/dhcpcd5/*",
    "var/lib/NetworkManager/*.lease",
    "var/lib/NetworkManager/secret_key",
    "var/lib/NetworkManager/timestamps",
    "var/lib/NetworkManager/seen-bssids",
    "var/lib/systemd/network/*",
    "var/lib/wicked/*.xml",
    "var/lib/dhcpv6/*duid*",
    // Cards and drives by their addresses and serials.
    "etc/udev/rules.d/70-persistent-net.rules",
    "etc/udev/rules.d/70-persistent-cd.rules",
    // The disks that LVM looks at, by their serials.
    "etc/lvm/devices/system.devices",
    "etc/lvm/devices/backup/*",
    // Seeds, and keys that systemd seals with.
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
    "var/lib/random-seed",
    "var/lib/misc/random-seed",
    "var/lib/seedrng/*",
    "etc/random-seed",
    "etc/urandom.seed",
    "boot/loader/random-seed",
    "efi/loader/random-seed",
    "boot/efi/loader/random-seed",
    // Names on storage networks.
    "etc/iscsi/initiatorname.iscsi",
    "etc/nvme/hostnqn",
    "etc/nvme/hostid",
    // The instance that cloud-init knows.
    "var/lib/cloud/instance",
    "var/lib/cloud/instances",
    "var/lib/cloud/data/*",
    // Names and keys that a service makes itself where it has none, and by which its server or its peers know a machine.
    "etc/salt/minion_id",
    "etc/salt/pki/minion/minion.pem",
    "etc/salt/pki/minion/minion.pub",
    "etc/venv-salt-minion/minion_id",
    "etc/venv-salt-minion/pki/minion/minion.pem",
    "etc/venv-salt-minion/pki/minion/minion.pub",
    "etc/insights-client/machine-id",
    "etc/docker/key.json",
    "var/lib/docker/engine-id",
    "var/lib/glusterd/glusterd.info",
    "var/lib/mysql/auto.cnf",
    "var/lib/netdata/registry/netdata.public.unique.id",
    "var/lib/zerotier-one/identity.public",
    "var/lib/zerotier-one/identity.secret",
];

/// The lists, ready to match.
pub struct Identity {
    emptied: Vec<Glob>,
    left_out: Vec<Glob>,
}

fn set(patterns: &[&str]) -> anyhow::Result<Vec<Glob>> {
    let glob =
        |pattern: &&str| Glob::new(pattern).with_context(|| format!("the pattern {pattern}"));
    patterns.iter().map(glob).collect()
}

fn any(set: &[Glob], path: &TreePath) -> bool {
    set.iter().any(|glob| glob.matches(path.as_bytes()))
}

impl Identity {
    /// # Errors
    /// When a pattern is none.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            emptied: set(&EMPTIED)?,
            left_out: set(LEFT_OUT)?,
        })
    }

    /// What the tree in the folder `root` has that is one machine's alone and need not be there. No symlink is followed.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn found_in(&self, root: BorrowedFd) -> anyhow::Result<Vec<TreePath>> {
        let mut found = Vec::new();
        for pattern in LEFT_OUT {
            let names: Vec<&str> = pattern.split('/').collect();
            expand(root, TreePath::root(), &names, &mut found)
                .with_context(|| format!("looking for {pattern}"))?;
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    pub fn verdict(&self, path: &TreePath) -> Verdict {
        // Most paths are elsewhere, and are told by their beginning.
        let begins = |start: &[u8]| path.as_bytes().starts_with(start);
        if ![&b"etc/"[..], b"var/", b"boot/", b"efi/"]
            .iter()
            .any(|start| begins(start))
        {
            return Verdict::Kept;
        }
        if any(&self.emptied, path) {
            Verdict::Emptied
        } else if any(&self.left_out, path) {
            Verdict::LeftOut
        } else {
            Verdict::Kept
        }
    }
}

/// Adds what is at `folder` and below by a pattern's components.
fn expand(
    root: BorrowedFd,
    folder: TreePath,
    names: &[&str],
    found: &mut Vec<TreePath>,
) -> anyhow::Result<()> {
    let Some((name, rest)) = names.split_first() else {
        found.push(folder);
        return Ok(());
    };
    let way = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = match beneath::open(root, folder.as_bytes(), way) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other.with_context(|| format!("opening {folder}"))?,
    };
    let pattern = Glob::new(name)?;
    for entry in Dir::read_from(&opened).with_context(|| format!("reading {folder}"))? {
        let entry = entry.with_context(|| format!("reading {folder}"))?;
        let bytes = entry.file_name().to_bytes();
        if !matches!(bytes, b"." | b"..") && pattern.matches(bytes) {
            expand(root, folder.join(bytes)?, rest, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_tree_has_of_it_is_found_and_no_symlink_is_followed() {
        let (tree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for path in [
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/ssh/sshd_config",
            "boot/efi/loader/random-seed",
            "var/lib/cloud/instances/i-1/boot",
        ] {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        fs::write(outside.path().join("dhclient.leases"), b"x").unwrap();
        symlink(outside.path(), tree.path().join("var/lib/dhcp")).unwrap();
        let root = File::open(tree.path()).unwrap();
        let found = Identity::new().unwrap().found_in(root.as_fd()).unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "/boot/efi/loader/random-seed",
                "/etc/ssh/ssh_host_rsa_key",
                "/etc/ssh/ssh_host_rsa_key.pub",
                "/var/lib/cloud/instances",
            ]
        );
    }

    #[test]
    fn what_is_one_machines_alone_is_known() {
        let identity = Identity::new().unwrap();
        let of = |path: &str| identity.verdict(&TreePath::parse(path.as_bytes()).unwrap());
        assert_eq!(of("etc/machine-id"), Verdict::Emptied);
        for path in [
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "var/lib/dhcp/dhclient.eth0.leases",
            "var/lib/systemd/random-seed",
            "boot/efi/loader/random-seed",
            "efi/loader/random-seed",
            "var/lib/cloud/instances",
        ] {
            assert_eq!(of(path), Verdict::LeftOut, "{path}");
        }
        for path in [
            "etc/ssh/sshd_config",
            "home/x/etc/machine-id",
            "etc/ssh",
            "var/lib/cloud",
        ] {
            assert_eq!(of(path), Verdict::Kept, "{path}");
        }
    }
}
