//! What the tools are told. Pure.
//!
//! Each is told the devices it is about, and sees no others: another disk of the computer may have an array or a group of the same name.

use super::{Array, Group, Logical, mapped};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub const MDADM: &str = "mdadm";
pub const LVM: &str = "lvm";

/// Without udev the tools make nodes themselves.
pub const WITHOUT_UDEV: [(&str, &str); 2] = [("DM_DISABLE_UDEV", "1"), ("MDADM_NO_UDEV", "1")];

/// A program and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: &'static str,
    pub arguments: Vec<String>,
}

impl Command {
    fn new(program: &'static str, words: &[&str]) -> Self {
        Self {
            program,
            arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn with(mut self, more: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(more);
        self
    }

    /// For LVM: with its own devices, whatever its configuration says, with neither notes in `/etc` nor hints in `/run`. A group that
    /// had this computer's name in it (lvmsystemid(7)) would be no other machine's.
    fn lvm(words: &[&str], devices: &[PathBuf]) -> Self {
        let accepted = devices.iter().map(|device| {
            let device = device.display();
            format!("\"a|^{device}$|\",")
        });
        let filter = format!("[{}\"r|.*|\"]", accepted.collect::<String>());
        let configuration = format!(
            "devices {{ use_devicesfile=0 filter={filter} global_filter={filter} obtain_device_list_from_udev=0 \
             external_device_info_source=\"none\" hints=\"none\" data_alignment_offset_detection=0 }} \
             global {{ system_id_source=\"none\" use_lvmlockd=0 }} backup {{ backup=0 archive=0 }} activation {{ monitoring=0 }}"
        );
        let [name, rest @ ..] = words else {
            return Self::new(LVM, words);
        };
        let head = [(*name).to_owned(), "--config".into(), configuration];
        let rest = rest.iter().map(|word| (*word).to_owned());
        Self::new(LVM, &[]).with(head).with(rest)
    }
}

/// Makes an array of `parts` as `node`. `homehost=any` keeps this computer's name out of it.
pub fn create(array: &Array, node: &Path, parts: &[PathBuf]) -> Command {
    let node = node.display().to_string();
    let count = format!("--raid-devices={}", parts.len());
    let name = format!("--name={}", array.name);
    let uuid = format!("--uuid={}", array.uuid);
    let words = [
        "--create",
        &node,
        "--config=none",
        "--run",
        "--level=1",
        &count,
        "--metadata=1.2",
        "--data-offset=1M",
        "--bitmap=internal",
        &name,
        "--homehost=any",
        &uuid,
    ];
    Command::new(MDADM, &words).with(parts.iter().map(|part| part.display().to_string()))
}

pub fn stop(node: &Path) -> Command {
    let node = node.display().to_string();
    Command::new(MDADM, &["--stop", &node])
}

/// Prepares `devices` for a group, whatever is on them.
pub fn physical(devices: &[PathBuf]) -> Command {
    let words = [
        "pvcreate",
        "--yes",
        "--force",
        "--force",
        "--dataalignment",
        "1m",
    ];
    Command::lvm(&words, devices).with(shown(devices))
}

/// Makes a group of them.
pub fn group(group: &Group, devices: &[PathBuf]) -> Command {
    let words = [
        "vgcreate",
        "--yes",
        "--physicalextentsize",
        "4m",
        &group.name,
    ];
    Command::lvm(&words, devices).with(shown(devices))
}

fn shown(devices: &[PathBuf]) -> impl Iterator<Item = String> {
    devices.iter().map(|device| device.display().to_string())
}

/// Makes a volume. What was there before is zeroed by us.
pub fn volume(group: &Group, volume: &Logical, devices: &[PathBuf]) -> Command {
    let extents = volume.extents.to_string();
    let words = [
        "lvcreate",
        "--yes",
        "--zero",
        "n",
        "--wipesignatures",
        "n",
        "--name",
        &volume.name,
        "--extents",
        &extents,
        &group.name,
    ];
    Command::lvm(&words, devices)
}

pub fn deactivate(group: &str, devices: &[PathBuf]) -> Command {
    Command::lvm(&["vgchange", "--activate", "n", group], devices)
}

/// The node of one of its volumes.
pub fn node(group: &Group, volume: &str) -> PathBuf {
    PathBuf::from(mapped(&group.name, volume))
}

/// The node of an array that no other has; `is_taken` tells which of the kernel's names are.
pub fn free_array(is_taken: &dyn Fn(&OsStr) -> bool) -> Option<PathBuf> {
    // The kernel makes up such numbers from the end, as every tool does.
    let mut names = (0..128).rev().map(|number| format!("md{number}"));
    let name = names.find(|name| !is_taken(OsStr::new(name)))?;
    Some(Path::new("/dev").join(name))
}
