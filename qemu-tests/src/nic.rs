//! What a machine's network card is.

use crate::tools;
use anyhow::Result;
use std::process::Command;

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nic {
    Virtio,
    E1000,
    E1000e,
    Rtl8139,
    Vmxnet3,
    /// On USB: no firmware here boots from it.
    Usb,
}

/// What the card brings along to boot with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rom {
    None,
    /// iPXE for a BIOS.
    Bios,
    /// iPXE for UEFI.
    Uefi,
}

impl Nic {
    /// QEMU's name of it.
    pub fn model(self) -> &'static str {
        match self {
            Nic::Virtio => "virtio-net-pci",
            Nic::E1000 => "e1000",
            Nic::E1000e => "e1000e",
            Nic::Rtl8139 => "rtl8139",
            Nic::Vmxnet3 => "vmxnet3",
            Nic::Usb => "usb-net",
        }
    }

    /// The first thing that firmware boots, but for the card on USB.
    pub(crate) fn plug_in(self, command: &mut Command, rom: Rom, more: &str) -> Result<()> {
        let model = self.model();
        if self == Nic::Usb {
            command.args(["-device", "qemu-xhci,id=wire"]);
            let device = format!("{model},bus=wire.0,netdev=net0{more}");
            command.args(["-device", &device]);
            return Ok(());
        }
        let card = model.trim_end_matches("-net-pci");
        let path = format!("/usr/lib/ipxe/qemu/efi-{card}.rom");
        if rom != Rom::None {
            tools::packaged(&path, "ipxe-qemu")?;
        }
        let file = match rom {
            Rom::None => ",romfile=".to_owned(),
            // QEMU's own choice: the ROM for BIOS alone does not know virtio 1.0 cards.
            Rom::Bios => String::new(),
            Rom::Uefi => format!(",romfile={path}"),
        };
        let device = format!("{model},netdev=net0,bootindex=1{file}{more}");
        command.args(["-device", &device]);
        Ok(())
    }
}
