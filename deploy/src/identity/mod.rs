//! A machine of its own: what clones must not share is emptied, removed or made anew.

mod keys;
mod names;
mod network;
mod stays;
mod storage;

pub use names::check_hostname;

use crate::files::Files;
use crate::root::Root;
use crate::wishes::Identity;
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_trees::path::TreePath;
use std::collections::BTreeSet;

const MACHINE_ID: &str = "etc/machine-id";
const DBUS_MACHINE_ID: &str = "var/lib/dbus/machine-id";
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
/// Where entries of the Boot Loader Specification are.
pub(crate) const ENTRIES: [&str; 3] = [
    "boot/loader/entries",
    "efi/loader/entries",
    "boot/efi/loader/entries",
];
/// By what name kernel-install(8) adds entries, where that is not the machine-id.
const ENTRY_TOKEN: &str = "etc/kernel/entry-token";

/// What an admin wishes of a machine's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdentityWish<'a> {
    pub identity: Identity,
    /// Its name; `None` leaves the tree's. It is set with `keep` as well.
    pub hostname: Option<&'a str>,
}

/// Makes the system at `root` a machine of its own.
///
/// # Errors
/// When the name is none, a file cannot be changed, or keys cannot be made.
pub fn renew(root: &Root, wish: &IdentityWish, reporter: &dyn Reporter) -> anyhow::Result<()> {
    renew_around(root, wish, &Given::new(), reporter)
}

/// Paths that an admin laid over the tree for this machine: what they have is meant, host keys among it.
pub type Given = BTreeSet<TreePath>;

fn is_given(given: &Given, path: &str) -> bool {
    given.contains(path.as_bytes())
}

/// The same, but for what stands at the paths of `given`.
///
/// # Errors
/// As [`renew`].
pub fn renew_around(
    root: &Root,
    wish: &IdentityWish,
    given: &Given,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let files = Files::of(root)?;
    if let Some(name) = wish.hostname {
        check_hostname(name)?;
        let old = names::set(&files, name).context("naming the machine")?;
        if let Some(old) = old.filter(|old| old != name) {
            stays::tell_name(&files, &old, given, reporter)?;
        }
        reporter.info(format!("the machine is named {name}"));
    }
    if wish.identity == Identity::New {
        let has = had(&files);
        remove(&files, given, reporter)?;
        machine_id(&files, given).context("emptying the machine-id")?;
        network::unbind(&files, given, reporter)
            .context("freeing the network from cards of another machine")?;
        storage::rename(&files, &has, given).context("naming the machine on storage networks")?;
        keys::make(root, &files, &has, wish.hostname, reporter)?;
        stays::tell_keys(&files, given, reporter)?;
    }
    files.finish(reporter)
}

/// What the tree had before it was removed, and counts for what is made anew.
struct Had {
    /// The label of an SSH host key.
    key_label: Option<Vec<u8>>,
    ssh_keys: bool,
    dropbear_keys: bool,
    /// The old name of the machine on iSCSI networks.
    initiator: Option<String>,
}

fn had(files: &Files) -> Had {
    let names = |folder: &str| files.list(folder).unwrap_or_default();
    let keys = names("etc/ssh");
    let first = keys.iter().find(|name| name.starts_with("ssh_host_"));
    Had {
        key_label: first.and_then(|name| files.label(&format!("etc/ssh/{name}"))),
        ssh_keys: first.is_some(),
        dropbear_keys: names("etc/dropbear")
            .iter()
            .any(|name| name.ends_with("_host_key")),
        initiator: files.text(storage::INITIATOR).ok().flatten(),
    }
}

/// Takes away what capture would have left out.
fn remove(files: &Files, given: &Given, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let mut found = pitstop_trees::Identity::new()?.found_in(files.fd())?;
    found.retain(|path| !given.contains(path));
    for path in &found {
        let shown = path.to_string();
        // It has its own way below.
        if shown.trim_start_matches('/') == DBUS_MACHINE_ID {
            continue;
        }
        reporter.debug(format!("{shown} was another machine's, and is removed"));
        files.remove_bytes(path.as_bytes())?;
    }
    if !found.is_empty() {
        reporter.info(format!(
            "{} files that are one machine's alone are removed",
            found.len()
        ));
    }
    Ok(())
}

/// machine-id(5): an empty file is filled at the first boot. "uninitialized" would have systemd apply presets to all units, and one
/// that is missing cannot be made while the root is read-only.
fn machine_id(files: &Files, given: &Given) -> anyhow::Result<()> {
    let systemd = SYSTEMD.iter().any(|path| files.exists(path));
    keep_entry_names(files)?;
    if is_given(given, MACHINE_ID) {
        return Ok(());
    }
    if files.link_target(MACHINE_ID)?.is_some() {
        files.remove(MACHINE_ID)?;
    }
    if systemd || files.exists(MACHINE_ID) {
        files.make_folders("etc")?;
        files.write(MACHINE_ID, b"", 0o444)?;
    }
    // D-Bus has the same one by a link; without systemd it makes its own.
    if files.link_target(DBUS_MACHINE_ID)?.is_none() && files.exists(DBUS_MACHINE_ID) {
        if systemd {
            files.link(DBUS_MACHINE_ID, "/etc/machine-id")?;
        } else {
            files.remove(DBUS_MACHINE_ID)?;
        }
    }
    Ok(())
}

/// Entries of boot loaders that are named after the old machine-id go on having that name: else the next kernel would be added
/// beside them and none of them ever removed.
fn keep_entry_names(files: &Files) -> anyhow::Result<()> {
    if !files.exists("usr/bin/kernel-install") || files.exists(ENTRY_TOKEN) {
        return Ok(());
    }
    let mut tokens = BTreeSet::new();
    for folder in ENTRIES {
        let names = files.list(folder)?;
        tokens.extend(names.iter().filter_map(|name| {
            let (token, _) = name.split_once('-')?;
            let is_id = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id.then(|| token.to_owned())
        }));
    }
    // Of two systems on one disk nobody knows whose is whose.
    if let (Some(token), 1) = (tokens.first(), tokens.len()) {
        files.make_folders("etc/kernel")?;
        files.write(ENTRY_TOKEN, format!("{token}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
