//! What the tools are told. Pure.
//!
//! Each is told the devices it is about, and sees no others: another disk of the computer may have an array or a group of the same name.

use super::{Array, Encrypted, Group, Logical};
use pitstop_imaging::layout::stack::{LUKS_HEADER, mapped};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub const MDADM: &str = "mdadm";
pub const LVM: &str = "lvm";
pub const CRYPTSETUP: &str = "cryptsetup";

/// What it takes to try a passphrase, in KiB of memory and passes over it: RFC 9106's choice for where memory is little, and the
/// fewest passes that cryptsetup takes. Its own choice is up to 1 GiB, which a small machine does not have when it starts. One
/// thread: libargon2's others want a library that programs do not say they need.
const MEMORY: &str = "65536";
const PASSES: &str = "4";
const THREADS: &str = "1";

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
        Self::lvm_with(words, devices, "")
    }

    /// The same with more in the section `activation` of its configuration.
    fn lvm_with(words: &[&str], devices: &[PathBuf], activation: &str) -> Self {
        let accepted = devices.iter().map(|device| {
            let device = device.display();
            format!("\"a|^{device}$|\",")
        });
        let filter = format!("[{}\"r|.*|\"]", accepted.collect::<String>());
        let configuration = format!(
            "devices {{ use_devicesfile=0 filter={filter} global_filter={filter} obtain_device_list_from_udev=0 \
             external_device_info_source=\"none\" hints=\"none\" data_alignment_offset_detection=0 }} \
             global {{ system_id_source=\"none\" use_lvmlockd=0 }} backup {{ backup=0 archive=0 }} \
             activation {{ monitoring=0{activation} }}"
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

/// Encrypts `device`, whatever is on it, with the passphrase on its standard input. What is on it has sectors of `sector` bytes, as
/// the disk has: filesystems are made for those.
pub fn format(luks: &Encrypted, device: &Path, sector: u64) -> Command {
    let device = device.display().to_string();
    let sector = sector.to_string();
    // In sectors of 512 bytes.
    let offset = (LUKS_HEADER / 512).to_string();
    let words = [
        "luksFormat",
        "--batch-mode",
        "--disable-locks",
        "--type",
        "luks2",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--hash",
        "sha256",
        "--pbkdf",
        "argon2id",
        "--pbkdf-memory",
        MEMORY,
        "--pbkdf-parallel",
        THREADS,
        "--pbkdf-force-iterations",
        PASSES,
        "--sector-size",
        &sector,
        "--offset",
        &offset,
        "--uuid",
        &luks.uuid,
        "--key-file",
        "-",
        &device,
    ];
    Command::new(CRYPTSETUP, &words)
}

/// Opens it, with the passphrase on its standard input. The key stays in device-mapper: a kernel may have no keyring for it.
pub fn open(luks: &Encrypted, device: &Path) -> Command {
    let device = device.display().to_string();
    let words = [
        "open",
        "--disable-locks",
        "--disable-keyring",
        "--type",
        "luks2",
        "--key-file",
        "-",
        &device,
        &luks.name,
    ];
    Command::new(CRYPTSETUP, &words)
}

pub fn close(name: &str) -> Command {
    Command::new(CRYPTSETUP, &["close", name])
}

/// Its node.
pub fn opened(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
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

/// Shows a volume of a group that is on `devices`, so that nobody can write to it.
pub fn show(group: &str, volume: &str, devices: &[PathBuf]) -> Command {
    let name = format!("{group}/{volume}");
    let only = format!(" read_only_volume_list=[\"{name}\"]");
    let words = ["lvchange", "--activate", "y", &name];
    Command::lvm_with(&words, devices, &only)
}

pub fn hide(group: &str, volume: &str, devices: &[PathBuf]) -> Command {
    let name = format!("{group}/{volume}");
    Command::lvm(&["lvchange", "--activate", "n", &name], devices)
}

/// Opens what is encrypted as `name`, with the passphrase on its standard input, so that nobody can write to it.
pub fn open_reading(name: &str, device: &Path) -> Command {
    let device = device.display().to_string();
    let words = [
        "open",
        "--readonly",
        "--disable-locks",
        "--disable-keyring",
        "--type",
        "luks",
        "--key-file",
        "-",
        &device,
        name,
    ];
    Command::new(CRYPTSETUP, &words)
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
