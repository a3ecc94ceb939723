//! What is one machine's alone. It never enters an image: clones would be taken for each other.

use crate::path::TreePath;
use anyhow::Context;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

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

const LEFT_OUT: [&str; 27] = [
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
    "etc/dhcpcd.duid",
    "var/lib/dhcpcd5/*",
    "var/lib/NetworkManager/*.lease",
    "var/lib/NetworkManager/secret_key",
    "var/lib/NetworkManager/timestamps",
    "var/lib/NetworkManager/seen-bssids",
    "var/lib/wicked/*.xml",
    // Cards by their addresses.
    "etc/udev/rules.d/70-persistent-net.rules",
    // Seeds, and keys that systemd seals with.
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
    "var/lib/random-seed",
    "{boot,efi,boot/efi}/loader/random-seed",
    // Names on storage networks.
    "etc/iscsi/initiatorname.iscsi",
    "etc/nvme/hostnqn",
    "etc/nvme/hostid",
    // The instance that cloud-init knows.
    "var/lib/cloud/instance",
    "var/lib/cloud/instances",
    "var/lib/cloud/data/*",
];

/// The lists, ready to match.
pub struct Identity {
    emptied: GlobSet,
    left_out: GlobSet,
}

fn set(patterns: &[&str]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.with_context(|| format!("the pattern {pattern}"))?);
    }
    set.build().context("the patterns of identity")
}

impl Identity {
    /// # Errors
    /// When a pattern is none.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            emptied: set(&EMPTIED)?,
            left_out: set(&LEFT_OUT)?,
        })
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
        if self.emptied.is_match(path.as_path()) {
            Verdict::Emptied
        } else if self.left_out.is_match(path.as_path()) {
            Verdict::LeftOut
        } else {
            Verdict::Kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
