//! What the machine is: its disks, NICs and firmware, read from sysfs.

pub mod disks;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod firmware;
mod identity;
pub mod lacking;
pub mod nics;
mod paths;
pub mod undriven;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use disks::{Disk, Standing};
pub use firmware::Firmware;
pub use identity::identify;
pub use lacking::Lacking;
pub use nics::Nic;
pub use paths::joined;
pub use undriven::Undriven;

/// Where the CD or stick is mounted that the machine booted from.
pub const MEDIUM: &str = "/run/medium";

/// Where the filesystem with the share is mounted that the medium brings along, or another stick.
pub const DATA: &str = "/run/data";

/// Where the kernel's view of the machine is. Tests point these at folders of their own.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `/sys`
    pub sysfs: PathBuf,
    /// `/proc`
    pub procfs: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// The kernel command line, as `/proc/cmdline` has it.
    pub command_line: String,
}

/// A disk as the kernel and the device itself name it. Absent facts are empty strings, never guesses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskIdentity {
    /// Kernel name without `/dev/`: `sda`, `nvme0n1`. May change from boot to boot.
    pub device: String,
    pub model: String,
    pub serial: String,
    /// World Wide Name, lower case, as sysfs has it: `naa.5000…`, `eui.…`.
    pub wwn: String,
    /// What carries it: `ata`, `nvme`, `virtio`, `virtio-scsi`, `sas`, `scsi`, `usb`, `mmc`, `sd`, ….
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transport: String,
    /// Bytes.
    pub size: u64,
    /// Bytes: the unit the device addresses (512 or 4096).
    pub logical_sector_size: u32,
    /// Bytes.
    pub physical_sector_size: u32,
}

impl DiskIdentity {
    /// Whether it has nothing but its kernel name to be told by.
    pub fn is_nameless(&self) -> bool {
        self.serial.is_empty() && self.wwn.is_empty()
    }
}

/// All that a plan needs to know of the machine.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Ascending by name, as people count them: `sda`, `sdb`, …, `sdaa`.
    pub disks: Vec<Disk>,
    /// Disks that tell no size: broken, or not ready yet.
    pub without_size: Vec<Disk>,
    /// Other names of disks that are in `disks`, each with the name that it has there; see [`joined`].
    pub paths: Vec<(Disk, String)>,
    pub nics: Vec<Nic>,
    /// Network cards and disk controllers that no driver works.
    pub undriven: Vec<Undriven>,
    pub firmware: Firmware,
}

/// Reads the machine as it is at this moment; disks that appear later are not in it.
///
/// # Errors
/// When the kernel's folders cannot be read at all. A device that goes away meanwhile is left out.
pub fn read(machine: &Machine) -> anyhow::Result<Inventory> {
    let (disks, without_size) = disks::read_all(machine)?
        .into_iter()
        .partition(|disk| disk.identity.size > 0);
    Ok(Inventory {
        disks,
        without_size,
        paths: Vec::new(),
        nics: nics::read(&machine.sysfs)?,
        undriven: undriven::read(&machine.sysfs),
        firmware: firmware::read(&machine.sysfs),
    })
}

/// The trimmed text of a small kernel file; empty when it is not there or the device does not tell.
pub fn fact(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    printable(&bytes)
}

/// A number as sysfs writes it, `0x14e4`, without what marks it as one; lower case.
fn hex(path: &Path) -> String {
    let text = fact(path).to_ascii_lowercase();
    text.strip_prefix("0x").unwrap_or(&text).to_owned()
}

/// A place on PCI without the domain that most machines have alone.
fn short_slot(slot: &str) -> &str {
    slot.strip_prefix("0000:").unwrap_or(slot)
}

/// What a device says of itself, made fit to be shown: no control bytes, no padding.
pub fn printable(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names in a folder, sorted; none when the folder is not there.
pub fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("listing {}", folder.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_control_bytes_do_not_reach_the_console() {
        assert_eq!(
            printable(b"QEMU HARDDISK   \n\0\x1b[2J  x "),
            "QEMU HARDDISK [2J x"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_names() {
        let folder = tempfile::tempdir().unwrap();
        assert!(names(&folder.path().join("missing")).unwrap().is_empty());
    }
}
