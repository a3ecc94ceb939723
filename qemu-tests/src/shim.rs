//! A disk whose system starts with Secure Boot on: Debian's shim and GRUB, which says that it is there.

use crate::disks::Disk;
use crate::golden;
use crate::tools;
use anyhow::Result;
use std::fs::{self, File};
use std::path::Path;

/// What the disk's own GRUB says.
pub const HOME: &str = "home by the disk's own shim and GRUB";

const SIZE: u64 = 48 << 20;
const ESP_START: u64 = 1 << 20;
const ESP_SIZE: u64 = 40 << 20;

/// GPT with an ESP and nothing else. The machine switches itself off when it has said [`HOME`].
pub fn disk() -> Result<Disk> {
    let disk = Disk::blank(SIZE)?;
    let partition = format!("1:{}:+{}M", ESP_START / 512, ESP_SIZE >> 20);
    let arguments = ["-n", &partition, "-t", "1:ef00"].map(Path::new);
    tools::run("sgdisk", arguments.into_iter().chain([disk.path()]))?;
    let work = tempfile::tempdir()?;
    let esp = work.path().join("esp.img");
    File::create(&esp)?.set_len(ESP_SIZE)?;
    // One sector a cluster: below 65525 clusters it would not be FAT32.
    let arguments = ["-F", "32", "-s", "1", "-i", "600dd15d"].map(Path::new);
    tools::run("mkfs.vfat", arguments.into_iter().chain([esp.as_path()]))?;
    for folder in ["::/EFI", "::/EFI/BOOT", "::/EFI/debian"] {
        tools::run("mmd", [Path::new("-i"), &esp, Path::new(folder)])?;
    }
    let configuration = work.path().join("grub.cfg");
    fs::write(&configuration, format!("echo \"{HOME}\"\nsleep 1\nhalt\n"))?;
    let shim = tools::packaged("/usr/lib/shim/shimx64.efi.signed", "shim-signed")?;
    let grub = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
    let grub = tools::packaged(grub, "grub-efi-amd64-signed")?;
    for (source, inside) in [
        (&shim, "::/EFI/BOOT/BOOTX64.EFI"),
        (&grub, "::/EFI/BOOT/grubx64.efi"),
        (&configuration, "::/EFI/debian/grub.cfg"),
    ] {
        tools::run("mcopy", [Path::new("-i"), &esp, source, Path::new(inside)])?;
    }
    golden::place(&esp, disk.path(), ESP_START)?;
    Ok(disk)
}
