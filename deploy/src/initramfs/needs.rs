//! What it takes to reach a disk, from its folder in sysfs upwards.

use crate::devices::{self, fact};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A driver on the way to a disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A device that asks for its driver by this `modalias`; the driver that it has here, where it has one.
    Device {
        modalias: String,
        driver: Option<String>,
    },
    /// A module by its name: `dm_mod`, `ext4`.
    Module(String),
}

/// PCI bridges need no module; those that answer to them are for plugging cards while the machine runs.
const BRIDGE: &str = "bc06";

/// What it takes to reach the block device `disk` (`/dev/sda`), by `sysfs` (`/sys`). Nothing for a plain file.
///
/// # Errors
/// When sysfs cannot be read.
pub fn needs(sysfs: &Path, disk: &Path) -> anyhow::Result<Vec<Need>> {
    let Some(folder) = devices::folder_of(sysfs, disk) else {
        return Ok(Vec::new());
    };
    Ok(of_folder(sysfs, &folder))
}

/// The same of a device by its folder in sysfs.
pub fn of_folder(sysfs: &Path, folder: &Path) -> Vec<Need> {
    let mut found = BTreeSet::new();
    for folder in devices::down(folder) {
        made_up(&folder, &mut found);
        for way in ways(&folder) {
            for device in way.ancestors().take_while(|device| *device != sysfs) {
                found.extend(of_device(device));
            }
        }
    }
    found.into_iter().collect()
}

fn of_device(device: &Path) -> Option<Need> {
    let modalias = fact(&device.join("modalias"));
    let is_bridge = modalias.starts_with("pci:") && modalias.contains(BRIDGE);
    if modalias.is_empty() || is_bridge {
        return None;
    }
    let driver = fs::canonicalize(device.join("driver")).ok()?;
    // The module's name is what another kernel knows it by; what is built in here has none.
    let module = fs::canonicalize(driver.join("module")).unwrap_or(driver);
    let driver = module.file_name()?.to_str().map(str::to_owned);
    Some(Need::Device { modalias, driver })
}

/// Volumes and arrays.
fn made_up(folder: &Path, found: &mut BTreeSet<Need>) {
    let mut module = |name: &str| found.insert(Need::Module(name.to_owned()));
    let kind = fact(&folder.join("dm/uuid"));
    // A partition that kpartx shows is one of a disk that the system itself sees as one.
    if folder.join("dm").is_dir() && !kind.starts_with("part") {
        module("dm_mod");
        if kind.starts_with("CRYPT-") {
            module("dm_crypt");
        }
    }
    match fact(&folder.join("md/level")).as_str() {
        "raid4" | "raid5" | "raid6" => {
            module("raid456");
        }
        level @ ("raid0" | "raid1" | "raid10" | "linear") => {
            module(level);
        }
        _ => {}
    }
}

/// Where the way to a device begins: itself, and of a multipath NVMe disk, which is on no bus, its controllers.
fn ways(folder: &Path) -> Vec<PathBuf> {
    let mut ways = vec![folder.to_owned()];
    let subsystem = folder.ancestors().find(|part| {
        part.parent()
            .and_then(Path::file_name)
            .is_some_and(|name| name == "nvme-subsystem")
    });
    let entries = subsystem
        .and_then(|subsystem| fs::read_dir(subsystem).ok())
        .into_iter();
    for entry in entries.flatten().flatten() {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let is_controller = entry.file_name().to_string_lossy().starts_with("nvme");
        if is_link && is_controller {
            ways.extend(fs::canonicalize(entry.path()));
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A device with a driver, as sysfs has it.
    fn device(sysfs: &Path, path: &str, modalias: &str, driver: &str) {
        let folder = sysfs.join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("modalias"), format!("{modalias}\n")).unwrap();
        let drivers = sysfs.join("bus/drivers").join(driver);
        fs::create_dir_all(&drivers).unwrap();
        symlink(drivers, folder.join("driver")).unwrap();
    }

    fn need(modalias: &str, driver: &str) -> Need {
        Need::Device {
            modalias: modalias.into(),
            driver: Some(driver.into()),
        }
    }

    #[test]
    fn the_way_to_a_disk_goes_over_its_buses() {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = fs::canonicalize(folder.path()).unwrap();
        let bridge = "devices/pci0000:00/0000:00:1c.0";
        device(&sysfs, bridge, "pci:v8086d1sv0sd0bc06sc04i00", "pcieport");
        let controller = format!("{bridge}/0000:01:00.0");
        device(
            &sysfs,
            &controller,
            "pci:v8086d2922sv0sd0bc01sc06i01",
            "ahci",
        );
        let scsi = format!("{controller}/ata1/host0/target0:0:0/0:0:0:0");
        device(&sysfs, &scsi, "scsi:t-0x00", "sd");
        let disk = sysfs.join(&scsi).join("block/sda");
        fs::create_dir_all(disk.join("sda1")).unwrap();
        fs::write(disk.join("sda1/partition"), "1\n").unwrap();
        let expected = [
            need("pci:v8086d2922sv0sd0bc01sc06i01", "ahci"),
            need("scsi:t-0x00", "sd"),
        ];
        assert_eq!(of_folder(&sysfs, &disk), expected);
        // A partition, and a volume of LVM on it.
        assert_eq!(of_folder(&sysfs, &disk.join("sda1")), expected);
        let volume = sysfs.join("devices/virtual/block/dm-0");
        fs::create_dir_all(volume.join("slaves")).unwrap();
        fs::create_dir_all(volume.join("dm")).unwrap();
        fs::write(volume.join("dm/uuid"), "CRYPT-LUKS2-1\n").unwrap();
        symlink(disk.join("sda1"), volume.join("slaves/sda1")).unwrap();
        let found = of_folder(&sysfs, &volume);
        assert_eq!(found[..2], expected);
        assert_eq!(
            found[2..],
            [
                Need::Module("dm_crypt".into()),
                Need::Module("dm_mod".into())
            ]
        );
    }

    #[test]
    fn a_multipath_nvme_disk_is_reached_by_its_controllers() {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = fs::canonicalize(folder.path()).unwrap();
        device(
            &sysfs,
            "devices/pci0000:00/0000:00:04.0",
            "pci:v1b36d10sv0sd0bc01sc08i02",
            "nvme",
        );
        let controller = sysfs.join("devices/pci0000:00/0000:00:04.0/nvme/nvme0");
        fs::create_dir_all(&controller).unwrap();
        let subsystem = sysfs.join("devices/virtual/nvme-subsystem/nvme-subsys0");
        let disk = subsystem.join("nvme0n1");
        fs::create_dir_all(&disk).unwrap();
        symlink(&controller, subsystem.join("nvme0")).unwrap();
        assert_eq!(
            of_folder(&sysfs, &disk),
            [need("pci:v1b36d10sv0sd0bc01sc08i02", "nvme")]
        );
    }

    #[test]
    fn an_array_needs_its_level_and_a_file_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let array = folder.path().join("devices/virtual/block/md0");
        fs::create_dir_all(array.join("md")).unwrap();
        fs::write(array.join("md/level"), "raid6\n").unwrap();
        assert_eq!(
            of_folder(folder.path(), &array),
            [Need::Module("raid456".into())]
        );
        let file = folder.path().join("disk.raw");
        fs::write(&file, b"").unwrap();
        assert!(needs(Path::new("/sys"), &file).unwrap().is_empty());
    }
}
