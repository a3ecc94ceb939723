//! What a machine's disks are plugged into.

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// How a disk is attached, which decides its name in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// `vda`
    Virtio,
    /// `sda`
    VirtioScsi,
    /// `sda`, through an AHCI as Intel's chipsets have it.
    Sata,
    /// `sda`, on the PIIX of a chipset of 1996, which the whole machine then has.
    Ide,
    /// `nvme0n1`
    Nvme,
    /// `nvme0n1`, with sectors of 4096 bytes.
    Nvme4Kn,
    /// `sda`, behind an LSI SAS 1068.
    Sas,
    /// `sda`, behind an LSI `MegaRAID`.
    MegaRaid,
    /// `sda`, a stick.
    Usb,
    /// `mmcblk0`, a card in an SDHCI slot. Its size is a power of two, and its serial is always [`CARD_SERIAL`].
    Sd,
}

/// What QEMU's cards say of themselves: hw/sd/sd.c writes it into every card's CID.
pub const CARD_SERIAL: &str = "0xdeadbeef";

impl Bus {
    /// What Linux calls the machine's only disk.
    pub fn device(self) -> &'static str {
        match self {
            Bus::Virtio => "vda",
            Bus::Nvme | Bus::Nvme4Kn => "nvme0n1",
            Bus::Sd => "mmcblk0",
            Bus::VirtioScsi | Bus::Sata | Bus::Ide | Bus::Sas | Bus::MegaRaid | Bus::Usb => "sda",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Bus::Virtio => "virtio-blk",
            Bus::VirtioScsi => "virtio-scsi",
            Bus::Sata => "AHCI",
            Bus::Ide => "IDE",
            Bus::Nvme => "NVMe",
            Bus::Nvme4Kn => "NVMe, 4096-byte sectors",
            Bus::Sas => "LSI SAS",
            Bus::MegaRaid => "LSI MegaRAID",
            Bus::Usb => "USB",
            Bus::Sd => "SD",
        }
    }

    /// Bytes of a sector.
    pub fn sector(self) -> u32 {
        if self == Bus::Nvme4Kn { 4096 } else { 512 }
    }

    /// The controller that the disk needs, named `hba`, and the disk with what only its kind has.
    fn devices(self, hba: &str, number: usize) -> (Option<String>, String) {
        let number = number + 1;
        let (controller, disk) = match self {
            Bus::Virtio => ("", "virtio-blk-pci".into()),
            Bus::Ide => ("", "ide-hd".into()),
            Bus::Sata => ("ich9-ahci", format!("ide-hd,bus={hba}.0")),
            Bus::Nvme => ("", "nvme".into()),
            Bus::Nvme4Kn => (
                "",
                "nvme,logical_block_size=4096,physical_block_size=4096".into(),
            ),
            Bus::VirtioScsi => ("virtio-scsi-pci", format!("scsi-hd,bus={hba}.0")),
            // Both ends of a SAS link have an address.
            Bus::Sas => (
                "mptsas1068",
                format!("scsi-hd,bus={hba}.0,wwn={}", 0x5000_c500_0000_0000 + number),
            ),
            Bus::MegaRaid => ("megasas", format!("scsi-hd,bus={hba}.0")),
            Bus::Usb => ("qemu-xhci", format!("usb-storage,bus={hba}.0")),
            Bus::Sd => ("sdhci-pci", "sd-card".into()),
        };
        let controller = (!controller.is_empty()).then(|| {
            let address = 0x5006_05b0_0000_0000 + number;
            let link = if self == Bus::Sas {
                format!(",sas_address={address}")
            } else {
                String::new()
            };
            format!("{controller},id={hba}{link}")
        });
        (controller, disk)
    }
}

/// Plugs a disk in as the machine's `number`th from 0; firmware boots the first.
pub(crate) fn plug_in(
    command: &mut Command,
    number: usize,
    path: &Path,
    bus: Bus,
    serial: &str,
) -> Result<()> {
    ensure!(path.is_file(), "there is no disk {}", path.display());
    let drive = format!(
        "if=none,id=disk{number},format=raw,discard=unmap,file={}",
        path.display()
    );
    command.args(["-drive", &drive]);
    let (controller, disk) = bus.devices(&format!("hba{number}"), number);
    if let Some(controller) = controller {
        command.args(["-device", &controller]);
    }
    // A card takes neither: its serial is built in, and no firmware here boots it.
    let more = if bus == Bus::Sd {
        String::new()
    } else {
        format!(",serial={serial},bootindex={}", number + 2)
    };
    command.args(["-device", &format!("{disk},drive=disk{number}{more}")]);
    Ok(())
}
