//! What a disk says of itself: model, serial, World Wide Name, size. ATA, SCSI, NVMe, virtio, MMC and USB
//! each keep these elsewhere.

use super::{DiskIdentity, fact, printable};
use std::fs;
use std::path::Path;

/// `/sys/block/*/size` and partition starts count these, whatever the device's sector is.
pub(super) const SYSFS_SECTOR: u64 = 512;

/// What the device `name` of `/sys/block` says of itself; `None` when there is no such disk.
pub fn identify(sysfs: &Path, name: &str) -> Option<DiskIdentity> {
    let block = sysfs.join("block").join(name);
    let device = block.join("device");
    let size = number(&block.join("size"))?.checked_mul(SYSFS_SECTOR)?;
    let sector = |file: &str| {
        number(&block.join("queue").join(file))
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|bytes| bytes.is_power_of_two())
    };
    let logical = sector("logical_block_size").unwrap_or(512);
    Some(DiskIdentity {
        device: name.to_owned(),
        model: model(&device),
        serial: serial(&block, &device),
        wwn: wwn(&block, &device),
        size,
        logical_sector_size: logical,
        physical_sector_size: sector("physical_block_size").unwrap_or(logical),
    })
}

pub(super) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn model(device: &Path) -> String {
    if let Some(ata) = ata_identify(device) {
        return ata_text(&ata, 27..47);
    }
    let name = fact(&device.join("name"));
    let model = fact(&device.join("model"));
    match fact(&device.join("vendor")).as_str() {
        _ if model.is_empty() => name,
        // `ATA` is the kernel's word; a PCI number is the controller's.
        "" | "ATA" => model,
        vendor if vendor.starts_with("0x") => model,
        vendor => format!("{vendor} {model}"),
    }
}

fn serial(block: &Path, device: &Path) -> String {
    for file in [block.join("serial"), device.join("serial")] {
        let serial = fact(&file);
        if !serial.is_empty() {
            return serial;
        }
    }
    // SPC-5 7.7.18, unit serial number: a header of four bytes, then the text.
    if let Some(page) = vpd(device, "vpd_pg80") {
        let serial = printable(&page);
        if !serial.is_empty() {
            return serial;
        }
    }
    usb_serial(block)
}

/// The serial of the USB device that a disk hangs on: the nearest parent that has a vendor number.
fn usb_serial(block: &Path) -> String {
    let Ok(real) = fs::canonicalize(block) else {
        return String::new();
    };
    real.ancestors()
        .find(|parent| parent.join("idVendor").exists())
        .map(|parent| fact(&parent.join("serial")))
        .unwrap_or_default()
}

fn wwn(block: &Path, device: &Path) -> String {
    for file in [block.join("wwid"), device.join("wwid")] {
        let wwn = fact(&file).to_ascii_lowercase();
        // `t10.` and `nvme.` names are made from vendor, model and serial: no World Wide Name.
        if ["naa.", "eui.", "uuid."]
            .iter()
            .any(|kind| wwn.starts_with(kind))
        {
            return wwn;
        }
    }
    String::new()
}

/// The payload of a SCSI vital product data page (SPC-5 7.7.1), as long as its header says.
fn vpd(device: &Path, page: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(device.join(page)).ok()?;
    let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    let end = bytes.len().min(length.checked_add(4)?);
    bytes.get(4..end).map(<[u8]>::to_vec)
}

/// The drive's answer to IDENTIFY DEVICE (SAT-5 12.4.2): INQUIRY cuts the model at 16 letters.
fn ata_identify(device: &Path) -> Option<Vec<u8>> {
    let page = vpd(device, "vpd_pg89")?;
    page.get(56..568).map(<[u8]>::to_vec)
}

/// ATA strings have the two letters of each word swapped (ACS-5 3.4.9).
fn ata_text(identify: &[u8], words: std::ops::Range<usize>) -> String {
    let swapped: Vec<u8> = identify
        .chunks_exact(2)
        .skip(words.start)
        .take(words.len())
        .flat_map(|word| word.iter().rev().copied())
        .collect();
    printable(&swapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::disks::{Disk, Standing, read};
    use crate::inventory::fake::{FakeDisk, FakeMachine};

    fn one(machine: &FakeMachine) -> Disk {
        let mut disks = read(&machine.machine()).unwrap();
        assert_eq!(disks.len(), 1, "{disks:?}");
        disks.remove(0)
    }

    #[test]
    fn a_sata_disk_tells_its_full_model_and_serial() {
        let fake = FakeMachine::new();
        let block = fake.add(&FakeDisk::new("sda", 1 << 20).model("QEMU HARDDISK"));
        let mut page = vec![0, 0x89, 0x02, 0x38];
        page.extend([0; 56]);
        let mut identify = [0u8; 512];
        let model = b"Samsung SSD 870 EVO 1TB                 ";
        for (word, pair) in model.chunks(2).enumerate() {
            identify[(27 + word) * 2] = pair[1];
            identify[(27 + word) * 2 + 1] = pair[0];
        }
        page.extend(identify);
        fs::write(block.join("device/vpd_pg89"), page).unwrap();
        fs::write(
            block.join("device/vpd_pg80"),
            b"\0\x80\0\x14  S5Y1NJ0R  extra tail beyond",
        )
        .unwrap();
        fs::write(block.join("device/wwid"), "naa.5002538F4A1B2C3D\n").unwrap();
        let disk = one(&fake);
        assert_eq!(disk.identity.model, "Samsung SSD 870 EVO 1TB");
        assert_eq!(disk.identity.serial, "S5Y1NJ0R extra ta");
        assert_eq!(disk.identity.wwn, "naa.5002538f4a1b2c3d");
        assert_eq!(disk.standing, Standing::Fixed);
        assert_eq!(disk.identity.size, 1 << 20);
    }

    #[test]
    fn names_made_of_serials_are_no_world_wide_names() {
        let fake = FakeMachine::new();
        let block = fake.add(&FakeDisk::new("sda", 1 << 20).serial("QM00001"));
        fs::write(
            block.join("device/wwid"),
            "t10.ATA     QEMU HARDDISK  QM00001 \n",
        )
        .unwrap();
        let disk = one(&fake);
        assert_eq!(disk.identity.wwn, "");
        assert_eq!(disk.identity.serial, "QM00001");
        assert_eq!(disk.to_string(), "sda (serial QM00001, 1.0 MiB)");
    }

    #[test]
    fn a_short_product_data_page_is_no_panic() {
        let fake = FakeMachine::new();
        let block = fake.add(&FakeDisk::new("sda", 4096));
        for page in [
            &b""[..],
            b"\0\x80",
            b"\0\x80\xff\xff",
            b"\0\x89\xff\xffshort",
        ] {
            fs::write(block.join("device/vpd_pg80"), page).unwrap();
            fs::write(block.join("device/vpd_pg89"), page).unwrap();
            let disk = one(&fake);
            assert_eq!(disk.identity.model, "");
        }
    }

    #[test]
    fn a_usb_disk_has_the_serial_of_its_plug() {
        let fake = FakeMachine::new();
        let block = fake.add(&FakeDisk::new("sda", 4096).on("pci0/usb1/1-1/host3"));
        let plug = block
            .ancestors()
            .find(|parent| parent.ends_with("1-1"))
            .unwrap();
        fs::write(plug.join("idVendor"), "0951\n").unwrap();
        fs::write(plug.join("serial"), "60A44C413FAE\n").unwrap();
        assert_eq!(one(&fake).identity.serial, "60A44C413FAE");
    }
}
