//! There and back on each kind of disk: captured, restored to itself, those of clouds to a larger and a smaller one too, compared byte
//! for byte.

use anyhow::{Context, Result, ensure};
use qemu_tests::bus::CARD_SERIAL;
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_success, full_payload, payload};
use qemu_tests::vm::{Boot, Bus, End, PATIENCE, Vm};
use qemu_tests::{compare, small, tools};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

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

/// What is restored to, one boot after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The disk itself, wrecked.
    Same,
    Larger,
    /// A disk that ends in what is free of the image's.
    Smaller,
}

impl To {
    /// Bytes of such a disk: those of cards are powers of two.
    fn size(self, bus: Bus) -> u64 {
        match self {
            To::Same if bus == Bus::Sd => 2 * small::SIZE,
            To::Same => small::SIZE,
            To::Larger => 4 * small::SIZE,
            To::Smaller if bus == Bus::Sd => small::SIZE,
            To::Smaller => small::END + MIB,
        }
    }
}

/// A disk of the small one's partitions on its bus.
struct Tried {
    bus: Bus,
    serial: &'static str,
    disk: Disk,
    before: String,
}

impl Tried {
    fn new(bus: Bus, serial: &'static str) -> Result<Self> {
        let disk = small::disk(bus.sector())?;
        if To::Same.size(bus) > small::SIZE {
            disk.lengthen(To::Same.size(bus))?;
            tools::run("sgdisk", [Path::new("--move-second-header"), disk.path()])?;
            // What was the backup of the table is free space now, which no image has.
            let file = File::options().write(true).open(disk.path())?;
            file.write_all_at(&vec![0; 1 << 20], small::SIZE - MIB)?;
        }
        disk.name(serial)?;
        let before = disk.digest()?;
        Ok(Self {
            bus,
            serial,
            disk,
            before,
        })
    }

    /// Whether `disk`, to which this one's image was restored, is what it should be.
    fn check(&self, scene: &Scene, to: To, disk: &Disk) -> Result<()> {
        let image = image_of(scene, self.serial)?;
        if to == To::Same {
            ensure!(disk.digest()? == self.before, "it is not what it was");
            return compare::zcat_equals(&image, disk.path());
        }
        compare::same_range(self.disk.path(), disk.path(), MIB..small::END)?;
        // libparted warns of a table whose backup is not at the end of its disk.
        let mut parted = tools::command("parted")?;
        parted.env("PARTED_SECTOR_SIZE", self.bus.sector().to_string());
        let said = parted
            .arg("--script")
            .arg(disk.path())
            .arg("print")
            .output()?;
        ensure!(said.status.success() && said.stderr.is_empty(), "{said:?}");
        Ok(())
    }
}

/// All of them on one machine, because a boot costs more than a disk; each is selected by its serial, as those on
/// USB and the card must be, and as the names of the others may change between the boots.
fn there_and_back(
    name: &str,
    boot: impl Fn(&str) -> Result<Boot>,
    kinds: &[(Bus, &'static str)],
    targets: &[To],
) -> Result<()> {
    let scene = Scene::new()?;
    let all: Result<Vec<Tried>> = kinds
        .iter()
        .map(|(bus, serial)| Tried::new(*bus, serial))
        .collect();
    let all = all?;
    let run = |action: &str, what: &str, disks: &[&Disk]| -> Result<()> {
        let selectors: Vec<String> = all
            .iter()
            .map(|tried| format!("{{ serial = \"{}\" }}", tried.serial))
            .collect();
        scene.job(action, &format!("disks = [{}]", selectors.join(", ")))?;
        // Several disks and several processors, as most machines have them.
        let mut spec = scene.spec(&format!("buses-{name}-{what}"))?.processors(2);
        spec.boot = boot(&format!("pitstop.host={}", scene.url("/hosts/")))?;
        spec.disks.clear();
        for (tried, disk) in all.iter().zip(disks) {
            spec = spec.disk(disk, tried.bus, tried.serial);
        }
        let mut vm = Vm::start(spec)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        Ok(())
    };
    let own: Vec<&Disk> = all.iter().map(|tried| &tried.disk).collect();
    run("backup", "backup", &own)?;
    for tried in &all {
        let after = || format!("{:?} after the backup", tried.bus);
        tried
            .check(&scene, To::Same, &tried.disk)
            .with_context(after)?;
    }
    for &to in targets {
        let disks: Result<Vec<Disk>> = all.iter().map(|tried| target(tried, to)).collect();
        let disks = disks?;
        let targets: Vec<&Disk> = disks.iter().collect();
        run("restore", &format!("restore-{to:?}"), &targets)?;
        for (tried, disk) in all.iter().zip(&disks) {
            let after = || format!("{:?}: restored to {to:?}", tried.bus);
            tried.check(&scene, to, disk).with_context(after)?;
        }
    }
    Ok(())
}

/// A disk to restore to, full of junk where it can matter.
fn target(tried: &Tried, to: To) -> Result<Disk> {
    let disk = Disk::blank(to.size(tried.bus))?;
    if to != To::Larger {
        disk.wreck()?;
    }
    Ok(disk)
}

/// The image whose description has this serial.
fn image_of(scene: &Scene, serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(scene.folder())? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".raw.gz.toml")
            && fs::read_to_string(&path)?.contains(&format!("serial = \"{serial}\""))
        {
            return Ok(path.with_extension(""));
        }
    }
    anyhow::bail!("no image is of a disk with the serial {serial}")
}

#[test]
fn virtio_blk_virtio_scsi_nvme_of_512_and_of_4096_bytes() -> Result<()> {
    let targets = [To::Larger, To::Smaller, To::Same];
    there_and_back("cloud", payload, IN_CLOUDS, &targets)
}

#[test]
fn ide_sata_lsi_sas_megaraid_usb_and_sd() -> Result<()> {
    // What a size changes is the same on every bus.
    there_and_back("desk", full_payload, ON_DESKS, &[To::Same])
}
