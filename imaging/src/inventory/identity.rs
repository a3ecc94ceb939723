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
        transport: transport(&block, &device),
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
    let told = [block.join("serial"), device.join("serial")]
        .iter()
        .map(|file| fact(file))
        // SPC-5 7.7.18, unit serial number: a header of four bytes, then the text.
        .chain(vpd(device, "vpd_pg80").map(|page| printable(&page)))
        .chain(ata_identify(device).map(|ata| ata_text(&ata, 10..20)))
        .find(|serial| tells(serial));
    told.unwrap_or_else(|| usb_serial(block))
}

/// Whether a number is one: makers who did not bother left zeros.
fn tells(number: &str) -> bool {
    number.chars().any(|c| !"0-. _".contains(c))
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
    let told = [block.join("wwid"), device.join("wwid")]
        .iter()
        .map(|file| fact(file).to_ascii_lowercase())
        .chain(vpd(device, "vpd_pg83").and_then(|page| designator(&page)))
        .chain(ata_identify(device).and_then(|ata| ata_wwn(&ata)))
        .chain(nvme_name(block))
        .find(|wwn| is_world_wide(wwn));
    told.unwrap_or_default()
}

/// `t10.` and `nvme.` names are made from vendor, model and serial: no World Wide Name.
fn is_world_wide(wwn: &str) -> bool {
    ["naa.", "eui.", "uuid."]
        .iter()
        .any(|kind| wwn.strip_prefix(kind).is_some_and(tells))
}

/// The logical unit's NAA or EUI-64 name in the device identification page (SPC-5 7.7.6).
fn designator(page: &[u8]) -> Option<String> {
    let mut rest = page;
    let mut eui = None;
    while let Some((header, after)) = rest.split_at_checked(4) {
        let (name, next) = after.split_at_checked(usize::from(header[3]))?;
        // Association 0 is the logical unit; the others name its port or its target.
        match (header[1] >> 4 & 3, header[1] & 0xf) {
            (0, 3) => return Some(format!("naa.{}", hex(name))),
            (0, 2) => eui = Some(format!("eui.{}", hex(name))),
            _ => {}
        }
        rest = next;
    }
    eui
}

/// Words 108 to 111, where bit 8 of word 87 says that they mean something (ACS-5 7.13.6).
fn ata_wwn(identify: &[u8]) -> Option<String> {
    let word = |at: usize| Some([*identify.get(at * 2 + 1)?, *identify.get(at * 2)?]);
    // Bits 15:14 are 01 where the word is valid.
    let valid = u16::from_be_bytes(word(87)?) & 0xc100 == 0x4100;
    let name: Option<Vec<[u8; 2]>> = (108..112).map(word).collect();
    valid.then_some(format!("naa.{}", hex(name?.as_flattened())))
}

/// What a namespace is named by, for kernels that make no `wwid` of it: best first, as they choose.
fn nvme_name(block: &Path) -> Option<String> {
    [("uuid", "uuid."), ("nguid", "eui."), ("eui", "eui.")]
        .into_iter()
        .find_map(|(file, kind)| {
            let text = fact(&block.join(file)).to_ascii_lowercase();
            let bare: String = text.chars().filter(char::is_ascii_hexdigit).collect();
            let name = if file == "uuid" { text } else { bare };
            tells(&name).then(|| format!("{kind}{name}"))
        })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What carries the disk, from the path of its hardware in sysfs: the innermost bus that has a name.
fn transport(block: &Path, device: &Path) -> String {
    let Ok(real) = fs::canonicalize(block) else {
        return String::new();
    };
    let numbered = |part: &str, prefix: &str| {
        part.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let parts: Vec<&str> = real
        .iter()
        .rev()
        .skip(1)
        .filter_map(|part| part.to_str())
        .collect();
    let has = |prefix: &str| parts.iter().any(|part| numbered(part, prefix));
    let known = [
        ("usb", "usb"),
        ("ata", "ata"),
        ("nvme", "nvme"),
        ("end_device-", "sas"),
        ("rport-", "fc"),
        ("session", "iscsi"),
        ("vbd-", "xen"),
    ];
    if parts.contains(&"nvme-subsystem") {
        return "nvme".to_owned();
    }
    if has("mmc") {
        return match fact(&device.join("type")).as_str() {
            "SD" => "sd",
            _ => "mmc",
        }
        .to_owned();
    }
    let scsi = has("host");
    let found = known.into_iter().find(|(prefix, _)| has(prefix));
    match found {
        Some((_, name)) => name,
        None if has("virtio") && scsi => "virtio-scsi",
        None if has("virtio") => "virtio",
        None if scsi => "scsi",
        None => "",
    }
    .to_owned()
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
    use crate::inventory::disks::Standing;
    use crate::inventory::fake::{FakeDisk, FakeMachine};

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
        let disk = fake.only_disk();
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
        let disk = fake.only_disk();
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
            let disk = fake.only_disk();
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
        assert_eq!(fake.only_disk().identity.serial, "60A44C413FAE");
    }

    #[test]
    fn product_data_pages_and_attributes_speak_where_wwid_is_silent() {
        let fake = FakeMachine::new();
        let sas = fake.add(&FakeDisk::new("sda", 4096).on("pci0/host2/port-2:0/end_device-2:0"));
        // A target port's name first, then an EUI-64 and an NAA of the unit.
        let mut page = vec![0, 0x83, 0, 12 + 12 + 12];
        page.extend([0x61, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 1]);
        page.extend([0x01, 0x02, 0, 8, 0xaa, 0, 0, 0, 0, 0, 0, 2]);
        page.extend([0x01, 0x03, 0, 8, 0x50, 0, 0xc5, 0, 0x12, 0x34, 0x56, 0x78]);
        fs::write(sas.join("device/vpd_pg83"), page).unwrap();
        fs::write(sas.join("device/vpd_pg80"), b"\0\x80\0\x08Z1D5XXYY").unwrap();
        let disk = fake.only_disk().identity;
        assert_eq!(disk.wwn, "naa.5000c50012345678");
        assert_eq!(
            (disk.serial.as_str(), disk.transport.as_str()),
            ("Z1D5XXYY", "sas")
        );

        let fake = FakeMachine::new();
        let sata = fake.add(&FakeDisk::new("sda", 4096).on("pci0/ata3/host2"));
        let mut page = vec![0, 0x89, 0x02, 0x38];
        page.extend([0; 56]);
        let mut identify = [0u8; 512];
        for (word, value) in [
            (10, 0x4142u16),
            (11, 0x4344),
            (87, 0x4100),
            (108, 0x5000),
            (111, 0xbeef),
        ] {
            identify[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
        }
        page.extend(identify);
        fs::write(sata.join("device/vpd_pg89"), page).unwrap();
        let disk = fake.only_disk().identity;
        assert_eq!(disk.serial, "ABCD");
        assert_eq!(disk.wwn, "naa.500000000000beef");
        assert_eq!(disk.transport, "ata");

        let fake = FakeMachine::new();
        let nvme = fake.add(
            &FakeDisk::new("nvme0n1", 4096)
                .serial("NV1")
                .on("pci0/nvme/nvme0"),
        );
        fs::write(nvme.join("wwid"), "eui.0000000000000000\n").unwrap();
        fs::write(nvme.join("nguid"), "00000000-0000-0000-0000-000000000000\n").unwrap();
        fs::write(nvme.join("eui"), "00 25 38 5a 91 b0 00 01\n").unwrap();
        let disk = fake.only_disk().identity;
        assert_eq!(disk.wwn, "eui.0025385a91b00001");
        assert_eq!(disk.transport, "nvme");
    }

    #[test]
    fn a_serial_of_zeros_is_none_and_buses_are_told() {
        for (name, parent, transport) in [
            ("sda", "pci0/usb1/1-1/host3", "usb"),
            ("vda", "pci0/virtio1", "virtio"),
            ("sda", "pci0/virtio1/host0", "virtio-scsi"),
            ("mmcblk0", "pci0/mmc_host/mmc0/mmc0:4567", "mmc"),
            ("sda", "pci0/host0", "scsi"),
            ("pmem0", "pci0/ndbus0", ""),
        ] {
            let fake = FakeMachine::new();
            fake.add(&FakeDisk::new(name, 4096).serial("000000000000").on(parent));
            let disk = fake.only_disk().identity;
            assert_eq!(disk.transport, transport, "{parent}");
            assert_eq!(disk.serial, "");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_identification_page_is_read_without_panic(
            page in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)
        ) {
            let _ = designator(&page);
            let _ = ata_wwn(&page);
        }
    }
}
