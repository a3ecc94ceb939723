//! Machines put together from every firmware, way of booting, network card and disk: not all of their combinations,
//! but each with several others.

mod document;
mod rows;

pub use document::{Facts, Outcome, document};
pub use rows::ROWS;

use crate::bus::CARD_SERIAL;
use crate::media::mkimage_of;
use crate::nic::Nic;
use crate::paths::Payload;
use crate::scene::expect_success;
use crate::servers::{Dnsmasq, Namespace, Server, put_payload};
use crate::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
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
    /// UEFI of arm64.
    Aavmf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Pxelinux,
    /// iPXE in the card's ROM; script, kernel and initramfs over TFTP.
    IpxeTftp,
    /// iPXE in the card's ROM; all of it over HTTP.
    IpxeHttp,
    SyslinuxEfi,
    /// The unified kernel image by the firmware's own PXE, over TFTP.
    UefiPxe,
    /// The unified kernel image over HTTP.
    UefiHttp,
    Iso,
}

/// One machine.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub payload: Payload,
    pub firmware: Firmware,
    pub loader: Loader,
    pub nic: Nic,
    pub bus: Bus,
}

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
        put_payload(self.payload, &root)?;
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
            // The board of arm64 has no IDE.
            let cd: &[&str] = match self.firmware {
                Firmware::Aavmf => &[
                    "-device",
                    "virtio-scsi-pci,id=cds",
                    "-device",
                    "scsi-cd,bus=cds.0,drive=medium,bootindex=0",
                ],
                _ => &["-device", "ide-cd,drive=medium,bootindex=0"],
            };
            spec = spec.extra(&["-drive", &drive]).extra(cd);
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
            (Firmware::Aavmf, Loader::UefiPxe, _) => Boot::Aavmf,
            (Firmware::Aavmf, ..) => Boot::AavmfHttp,
            (Firmware::OvmfSecureBoot, ..) => Boot::OvmfSecure,
            // Debian's OVMF drives virtio's card by itself, others by the iPXE in their ROM, which then boots.
            (_, Loader::UefiHttp, Nic::Virtio) | (_, Loader::Iso, _) => Boot::OvmfHttp,
            (_, Loader::SyslinuxEfi | Loader::UefiPxe, Nic::Virtio) => Boot::OvmfPxe,
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
                let console = self.payload.architecture().kernel_parameters();
                let script = format!(
                    "#!ipxe\nkernel {tftp}/vmlinuz initrd=initramfs.img pitstop.host={server}/hosts/ \
                     {console} BOOTIF=01-${{mac:hexhyp}}\n\
                     initrd --name initramfs.img {tftp}/initramfs.img\nboot\n"
                );
                fs::write(boot.join("all-tftp.ipxe"), script)?;
                "all-tftp.ipxe".into()
            }
            Loader::UefiPxe | Loader::UefiHttp => {
                let parameters = format!("pitstop.host={server}/hosts/");
                self.signed("uki", &parameters, &[], &boot.join("pitstop.efi"))?;
                if self.loader == Loader::UefiPxe {
                    "pitstop.efi".into()
                } else {
                    format!("{server}/boot/pitstop.efi")
                }
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
            return mkimage_of(self.payload, kind, parameters, more, image);
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
        let more = [more, &signing].concat();
        mkimage_of(self.payload, kind, parameters, &more, image)
    }
}

fn server_url() -> String {
    format!("http://{}:8080", Namespace::ADDRESS)
}
