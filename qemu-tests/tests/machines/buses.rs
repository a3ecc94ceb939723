//! There and back on each kind of disk: captured, wrecked, restored, compared byte for byte.

use anyhow::{Context, Result, ensure};
use qemu_tests::bus::CARD_SERIAL;
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_success, full_payload, payload};
use qemu_tests::vm::{Boot, Bus, End, PATIENCE, Vm};
use qemu_tests::{compare, small};
use std::fs;
use std::path::PathBuf;

/// What Debian's kernel for clouds drives.
const IN_CLOUDS: &[(Bus, &str)] = &[
    (Bus::Virtio, "BUS00001"),
    (Bus::VirtioScsi, "BUS00002"),
    (Bus::Nvme, "BUS00003"),
    (Bus::Nvme4Kn, "BUS00004"),
];

/// What needs the default kernel; IDE brings the chipset of 1996 along for all.
const ON_DESKS: &[(Bus, &str)] = &[
    (Bus::Ide, "BUS00005"),
    (Bus::Sata, "BUS00006"),
    (Bus::Sas, "BUS00007"),
    (Bus::MegaRaid, "BUS00008"),
    (Bus::Usb, "BUS00009"),
    (Bus::Sd, CARD_SERIAL),
];

/// All of them on one machine, because a boot costs more than a disk; each is selected by its serial, as those on
/// USB and the card must be, and as the names of the others may change between the boots.
fn there_and_back(
    name: &str,
    boot: impl Fn(&str) -> Result<Boot>,
    kinds: &[(Bus, &str)],
) -> Result<()> {
    let scene = Scene::new()?;
    let mut disks = Vec::new();
    for (bus, serial) in kinds {
        let disk = small::disk(bus.sector())?;
        disk.name(serial)?;
        let before = disk.digest()?;
        disks.push((*bus, *serial, disk, before));
    }
    let selectors: Vec<String> = kinds
        .iter()
        .map(|(_, serial)| format!("{{ serial = \"{serial}\" }}"))
        .collect();
    for action in ["backup", "restore"] {
        scene.job(action, &format!("disks = [{}]", selectors.join(", ")))?;
        let mut spec = scene.spec(&format!("buses-{name}-{action}"))?;
        spec.boot = boot(&format!("pitstop.host={}", scene.url("/hosts/")))?;
        spec.disks.clear();
        for (bus, serial, disk, _) in &disks {
            spec = spec.disk(disk, *bus, serial);
        }
        let mut vm = Vm::start(spec)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        drop(vm);
        for (bus, serial, disk, before) in &disks {
            let after = || format!("{bus:?} after {action}");
            ensure!(disk.digest()? == *before, "{} is not what it was", after());
            compare::zcat_equals(&image_of(&scene, serial)?, disk.path()).with_context(after)?;
        }
        if action == "backup" {
            disks
                .iter()
                .try_for_each(|(_, _, disk, _)| Disk::wreck(disk))?;
        }
    }
    Ok(())
}

/// The image whose description has this serial.
fn image_of(scene: &Scene, serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(scene.folder())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && fs::read_to_string(&path)?.contains(&format!("serial = \"{serial}\""))
        {
            return Ok(path.with_extension(""));
        }
    }
    anyhow::bail!("no image is of a disk with the serial {serial}")
}

#[test]
fn virtio_blk_virtio_scsi_nvme_of_512_and_of_4096_bytes() -> Result<()> {
    there_and_back("cloud", payload, IN_CLOUDS)
}

#[test]
fn ide_sata_lsi_sas_megaraid_usb_and_sd() -> Result<()> {
    there_and_back("desk", full_payload, ON_DESKS)
}
