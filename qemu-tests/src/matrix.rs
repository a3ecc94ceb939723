//! Machines put together from every firmware, way of booting, network card and disk: not all of their combinations,
//! but each with several others.

use crate::bus::CARD_SERIAL;
use crate::media::mkimage;
use crate::nic::Nic;
use crate::scene::expect_success;
use crate::servers::{Dnsmasq, Namespace, Server};
use crate::vm::{Boot, Bus, End, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm};
use crate::{compare, small, tools};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const MAC: &str = "52:54:00:77:00:53";
const ADDRESS: &str = "10.77.0.53";
const HEX_ADDRESS: &str = "0A4D0035";
const SERIAL: &str = "MATRIX01";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    SeaBios,
    Ovmf,
    /// OVMF with Secure Boot, and the key that the Debian package has for tests.
    OvmfSecureBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Pxelinux,
    /// iPXE in the card's ROM; script, kernel and initramfs over TFTP.
    IpxeTftp,
    /// iPXE in the card's ROM; all of it over HTTP.
    IpxeHttp,
    SyslinuxEfi,
    /// The unified kernel image over HTTP.
    UefiHttp,
    Iso,
}

/// One machine.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub firmware: Firmware,
    pub loader: Loader,
    pub nic: Nic,
    pub bus: Bus,
}

const fn row(firmware: Firmware, loader: Loader, nic: Nic, bus: Bus) -> Row {
    Row {
        firmware,
        loader,
        nic,
        bus,
    }
}

/// The machines of `make test-matrix`.
pub const ROWS: &[Row] = &[
    row(
        Firmware::SeaBios,
        Loader::Pxelinux,
        Nic::Virtio,
        Bus::Virtio,
    ),
    row(Firmware::SeaBios, Loader::Pxelinux, Nic::E1000, Bus::Sata),
    row(Firmware::SeaBios, Loader::IpxeTftp, Nic::Rtl8139, Bus::Ide),
    row(
        Firmware::SeaBios,
        Loader::IpxeTftp,
        Nic::E1000e,
        Bus::Nvme4Kn,
    ),
    row(Firmware::SeaBios, Loader::IpxeHttp, Nic::Vmxnet3, Bus::Sas),
    row(Firmware::SeaBios, Loader::IpxeHttp, Nic::E1000e, Bus::Nvme),
    row(Firmware::SeaBios, Loader::Iso, Nic::Usb, Bus::Usb),
    row(Firmware::SeaBios, Loader::Iso, Nic::Rtl8139, Bus::Sd),
    row(
        Firmware::Ovmf,
        Loader::IpxeTftp,
        Nic::E1000,
        Bus::VirtioScsi,
    ),
    row(
        Firmware::Ovmf,
        Loader::IpxeTftp,
        Nic::Vmxnet3,
        Bus::MegaRaid,
    ),
    row(Firmware::Ovmf, Loader::IpxeHttp, Nic::Rtl8139, Bus::Virtio),
    row(Firmware::Ovmf, Loader::IpxeHttp, Nic::E1000, Bus::Nvme),
    row(Firmware::Ovmf, Loader::SyslinuxEfi, Nic::Virtio, Bus::Sata),
    row(Firmware::Ovmf, Loader::SyslinuxEfi, Nic::E1000e, Bus::Ide),
    row(Firmware::Ovmf, Loader::UefiHttp, Nic::Virtio, Bus::Nvme4Kn),
    row(Firmware::Ovmf, Loader::UefiHttp, Nic::Virtio, Bus::Sd),
    row(Firmware::Ovmf, Loader::Iso, Nic::Usb, Bus::Sas),
    row(
        Firmware::OvmfSecureBoot,
        Loader::UefiHttp,
        Nic::Virtio,
        Bus::Usb,
    ),
    row(
        Firmware::OvmfSecureBoot,
        Loader::Iso,
        Nic::E1000,
        Bus::VirtioScsi,
    ),
    row(
        Firmware::OvmfSecureBoot,
        Loader::Iso,
        Nic::E1000e,
        Bus::MegaRaid,
    ),
];

impl Row {
    /// Boots the machine, which backs its disk up; the image must be the disk.
    ///
    /// # Errors
    /// What went wrong first; what the machine said is in the console log of this `name`.
    pub fn run(self, name: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let disk = small::disk(self.bus.sector())?;
        let network = Namespace::new()?;
        network.tap("tap0")?;
        let root = folder.path().join("root");
        let server = Server::start_in(&root, Some(&network))?;
        let job = self.job();
        fs::write(server.hosts().join(format!("{HEX_ADDRESS}.toml")), &job)?;
        let bootfile = self.prepare(&root.join("boot"))?;
        // QEMU's card on USB does not tell Linux the address it was given.
        let known = if self.nic == Nic::Usb {
            "*:*:*:*:*:*"
        } else {
            MAC
        };
        let _dhcp = Dnsmasq::start(&network, known, ADDRESS, None, &bootfile)?;

        let mut spec = Spec::new(name, self.boot())
            .memory(1024)
            .network(Network::Tap {
                namespace: network.path(),
                interface: "tap0".into(),
                mac: MAC.into(),
            })
            .disk(&disk, self.bus, self.serial());
        spec.nic = self.nic;
        if self.loader == Loader::Iso {
            let medium = self.medium(folder.path(), &job)?;
            let drive = format!("if=none,id=medium,format=raw,file={}", medium.display());
            let cd = "ide-cd,drive=medium,bootindex=0";
            spec = spec.extra(&["-drive", &drive, "-device", cd]);
        }
        let mut vm = Vm::start(spec)?;
        if self.firmware == Firmware::OvmfSecureBoot {
            vm.sees("Secure boot enabled")?;
        }
        expect_success(&mut vm, "backup")?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        let image = format!("{}.raw.gz", self.bus.device());
        compare::zcat_equals(&server.share().join(ADDRESS).join(image), disk.path())
    }

    fn serial(self) -> &'static str {
        if self.bus == Bus::Sd {
            CARD_SERIAL
        } else {
            SERIAL
        }
    }

    fn job(self) -> String {
        let (server, serial) = (server_url(), self.serial());
        format!(
            "version = 1\naction = \"backup\"\nshare = \"{server}/share\"\nfailure-delay = \"2s\"\n\
             disks = [{{ serial = \"{serial}\" }}]\n"
        )
    }

    fn boot(self) -> Boot {
        match (self.firmware, self.loader, self.nic) {
            (Firmware::SeaBios, ..) => Boot::SeaBios,
            (Firmware::OvmfSecureBoot, ..) => Boot::OvmfSecure,
            // Debian's OVMF drives virtio's card by itself, others by the iPXE in their ROM, which then boots.
            (_, Loader::UefiHttp, Nic::Virtio) | (_, Loader::Iso, _) => Boot::OvmfHttp,
            (_, Loader::SyslinuxEfi, Nic::Virtio) => Boot::OvmfPxe,
            (Firmware::Ovmf, ..) => Boot::Ovmf,
        }
    }

    /// Puts what the loader needs into the server's boot folder; returns the boot file for DHCP.
    fn prepare(self, boot: &Path) -> Result<String> {
        let server = server_url();
        let files: &[(&str, &str)] = match self.loader {
            Loader::Pxelinux => &[
                ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
                (
                    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
                    "syslinux-common",
                ),
                (
                    "/usr/lib/syslinux/modules/bios/libutil.c32",
                    "syslinux-common",
                ),
                (
                    "/usr/lib/syslinux/modules/bios/libcom32.c32",
                    "syslinux-common",
                ),
            ],
            Loader::SyslinuxEfi => &[
                ("/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi", "syslinux-efi"),
                (
                    "/usr/lib/syslinux/modules/efi64/ldlinux.e64",
                    "syslinux-common",
                ),
            ],
            _ => &[],
        };
        for (file, package) in files {
            let file = tools::packaged(file, package)?;
            fs::copy(
                &file,
                boot.join(file.file_name().context("a file has a name")?),
            )?;
        }
        Ok(match self.loader {
            Loader::Pxelinux => "pxelinux.0".into(),
            Loader::SyslinuxEfi => "syslinux.efi".into(),
            Loader::IpxeHttp => format!("{server}/boot.ipxe"),
            Loader::IpxeTftp => {
                let tftp = format!("tftp://{}", Namespace::ADDRESS);
                let script = format!(
                    "#!ipxe\nkernel {tftp}/vmlinuz initrd=initramfs.img pitstop.host={server}/hosts/ \
                     {KERNEL_PARAMETERS} BOOTIF=01-${{mac:hexhyp}}\n\
                     initrd --name initramfs.img {tftp}/initramfs.img\nboot\n"
                );
                fs::write(boot.join("all-tftp.ipxe"), script)?;
                "all-tftp.ipxe".into()
            }
            Loader::UefiHttp => {
                let parameters = format!("pitstop.host={server}/hosts/");
                self.signed("uki", &parameters, &[], &boot.join("pitstop.efi"))?;
                format!("{server}/boot/pitstop.efi")
            }
            Loader::Iso => "none".into(),
        })
    }

    fn medium(self, folder: &Path, job: &str) -> Result<PathBuf> {
        let (host, image) = (folder.join("host.toml"), folder.join("pitstop.iso"));
        fs::write(&host, job)?;
        self.signed("iso", "", &[Path::new("--host-file"), &host], &image)?;
        Ok(image)
    }

    /// `mkimage`, signed when the firmware asks for it, with the key that its variables trust.
    fn signed(self, kind: &str, parameters: &str, more: &[&Path], image: &Path) -> Result<()> {
        if self.firmware != Firmware::OvmfSecureBoot {
            return mkimage(kind, parameters, more, image);
        }
        let locked = tools::packaged("/usr/share/ovmf/PkKek-1-snakeoil.key", "ovmf")?;
        let certificate = tools::packaged("/usr/share/ovmf/PkKek-1-snakeoil.pem", "ovmf")?;
        let key = image.with_extension("key");
        let mut openssl = tools::command("openssl")?;
        openssl.args(["rsa", "-passin", "pass:snakeoil", "-in"]);
        tools::output(openssl.arg(&locked).arg("-out").arg(&key))?;
        let signing = [
            "--sign-key".as_ref(),
            key.as_path(),
            "--sign-cert".as_ref(),
            &certificate,
        ];
        mkimage(kind, parameters, &[more, &signing].concat(), image)
    }
}

fn server_url() -> String {
    format!("http://{}:8080", Namespace::ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_part_meets_two_others_of_two_kinds() {
        let mut partners: BTreeMap<String, [BTreeSet<String>; 4]> = BTreeMap::new();
        for row in ROWS {
            let parts = [
                format!("{:?}", row.firmware),
                format!("{:?}", row.loader),
                format!("{:?}Nic", row.nic),
                format!("{:?}", row.bus),
            ];
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
}
