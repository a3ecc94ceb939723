//! What was deployed is started by real firmware, up to GRUB's own configuration in the tree: BIOS and UEFI, GPT and MBR.

mod common;

use common::disk_file::DiskFile;
use common::qemu::start;
use common::{BOOTED, Golden, MIB, deploy, one_disk};

#[test]
fn a_bios_starts_what_was_deployed_on_gpt_and_mbr() {
    let _one = one_disk();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let gpt = Golden {
        everything: false,
        ..Golden::gpt("btrfs")
    };
    let mbr = Golden {
        table: "mbr",
        has_boot: true,
        ..Golden {
            everything: false,
            ..Golden::gpt("xfs")
        }
    };
    for golden in [gpt, mbr] {
        golden.capture(&image);
        let disk = DiskFile::new(800 * MIB);
        deploy(&image, &disk.path, |_| {}).unwrap();
        let said = start(&disk.path, false, BOOTED);
        assert!(said.contains(BOOTED), "{golden:?}: {said}");
    }
}

#[test]
fn a_uefi_without_an_entry_starts_what_was_deployed() {
    let _one = one_disk();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        everything: false,
        real_loader: true,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    let disk = DiskFile::new(800 * MIB);
    deploy(&image, &disk.path, |_| {}).unwrap();
    let said = start(&disk.path, true, BOOTED);
    assert!(said.contains(BOOTED), "{said}");
}
