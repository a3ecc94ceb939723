//! Which machines there are.

use super::{Firmware, Loader, Row};
use crate::nic::Nic;
use crate::paths::Payload;
use crate::vm::Bus;

const fn debian(firmware: Firmware, loader: Loader, nic: Nic, bus: Bus) -> Row {
    Row {
        payload: Payload::Debian,
        firmware,
        loader,
        nic,
        bus,
    }
}

const fn custom(firmware: Firmware, loader: Loader, nic: Nic, bus: Bus) -> Row {
    Row {
        payload: Payload::Custom,
        ..debian(firmware, loader, nic, bus)
    }
}

const fn arm64(loader: Loader, bus: Bus) -> Row {
    Row {
        payload: Payload::Arm64,
        ..debian(Firmware::Aavmf, loader, Nic::Virtio, bus)
    }
}

/// The machines of `make test-matrix`.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    debian(Firmware::SeaBios, Loader::Pxelinux, Nic::Virtio, Bus::Virtio),
    debian(Firmware::SeaBios, Loader::Pxelinux, Nic::E1000, Bus::Sata),
    debian(Firmware::SeaBios, Loader::IpxeTftp, Nic::Rtl8139, Bus::Ide),
    debian(Firmware::SeaBios, Loader::IpxeTftp, Nic::E1000e, Bus::Nvme4Kn),
    debian(Firmware::SeaBios, Loader::IpxeHttp, Nic::Vmxnet3, Bus::Sas),
    debian(Firmware::SeaBios, Loader::IpxeHttp, Nic::E1000e, Bus::Nvme),
    debian(Firmware::SeaBios, Loader::Iso, Nic::Usb, Bus::Usb),
    debian(Firmware::SeaBios, Loader::Iso, Nic::Rtl8139, Bus::Sd),
    debian(Firmware::Ovmf, Loader::IpxeTftp, Nic::E1000, Bus::VirtioScsi),
    debian(Firmware::Ovmf, Loader::IpxeTftp, Nic::Vmxnet3, Bus::MegaRaid),
    debian(Firmware::Ovmf, Loader::IpxeHttp, Nic::Rtl8139, Bus::Virtio),
    debian(Firmware::Ovmf, Loader::IpxeHttp, Nic::E1000, Bus::Nvme),
    debian(Firmware::Ovmf, Loader::SyslinuxEfi, Nic::Virtio, Bus::Sata),
    debian(Firmware::Ovmf, Loader::SyslinuxEfi, Nic::E1000e, Bus::Ide),
    debian(Firmware::Ovmf, Loader::UefiHttp, Nic::Virtio, Bus::Nvme4Kn),
    debian(Firmware::Ovmf, Loader::UefiHttp, Nic::Virtio, Bus::Sd),
    debian(Firmware::Ovmf, Loader::Iso, Nic::Usb, Bus::Sas),
    debian(Firmware::OvmfSecureBoot, Loader::UefiHttp, Nic::Virtio, Bus::Usb),
    debian(Firmware::OvmfSecureBoot, Loader::Iso, Nic::E1000, Bus::VirtioScsi),
    debian(Firmware::OvmfSecureBoot, Loader::Iso, Nic::E1000e, Bus::MegaRaid),
    custom(Firmware::SeaBios, Loader::Pxelinux, Nic::E1000e, Bus::Ide),
    custom(Firmware::SeaBios, Loader::Pxelinux, Nic::Rtl8139, Bus::VirtioScsi),
    custom(Firmware::SeaBios, Loader::IpxeTftp, Nic::Virtio, Bus::Nvme),
    custom(Firmware::SeaBios, Loader::IpxeHttp, Nic::E1000, Bus::Sas),
    custom(Firmware::SeaBios, Loader::Iso, Nic::E1000e, Bus::Usb),
    custom(Firmware::Ovmf, Loader::IpxeHttp, Nic::Vmxnet3, Bus::Nvme4Kn),
    custom(Firmware::Ovmf, Loader::SyslinuxEfi, Nic::Virtio, Bus::MegaRaid),
    custom(Firmware::Ovmf, Loader::UefiHttp, Nic::Virtio, Bus::Virtio),
    custom(Firmware::Ovmf, Loader::Iso, Nic::Usb, Bus::Sd),
    custom(Firmware::OvmfSecureBoot, Loader::UefiHttp, Nic::Virtio, Bus::Sata),
    debian(Firmware::Ovmf, Loader::UefiPxe, Nic::Virtio, Bus::Nvme),
    custom(Firmware::Ovmf, Loader::UefiPxe, Nic::Virtio, Bus::VirtioScsi),
    arm64(Loader::UefiPxe, Bus::Virtio),
    arm64(Loader::UefiHttp, Bus::Nvme),
    arm64(Loader::UefiHttp, Bus::Usb),
    arm64(Loader::Iso, Bus::VirtioScsi),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What each part is, by its kind.
    fn parts(row: Row) -> [String; 5] {
        [
            format!("{:?}", row.firmware),
            format!("{:?}", row.loader),
            format!("{:?}Nic", row.nic),
            format!("{:?}", row.bus),
            format!("{:?}", row.payload),
        ]
    }

    #[test]
    fn every_part_meets_two_others_of_two_kinds() {
        let mut partners: BTreeMap<String, [BTreeSet<String>; 5]> = BTreeMap::new();
        for row in ROWS {
            let parts = parts(*row);
            for (kind, part) in parts.iter().enumerate() {
                let met = partners.entry(format!("{kind} {part}")).or_default();
                for (other, partner) in parts.iter().enumerate().filter(|(other, _)| *other != kind)
                {
                    met[other].insert(partner.clone());
                }
            }
        }
        for (part, met) in partners {
            let kinds = met.iter().filter(|partners| partners.len() >= 2).count();
            assert!(kinds >= 2, "{part} meets only {met:?}");
        }
    }

    #[test]
    fn both_kernels_of_x86_meet_every_part() {
        let mut met: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let ours = ROWS.iter().filter(|row| row.payload != Payload::Arm64);
        for row in ours {
            let [firmware, loader, nic, bus, payload] = parts(*row);
            for part in [firmware, loader, nic, bus] {
                met.entry(part).or_default().insert(payload.clone());
            }
        }
        for (part, payloads) in met {
            assert_eq!(payloads.len(), 2, "{part} meets only {payloads:?}");
        }
    }
}
