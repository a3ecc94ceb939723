//! The command line.

use crate::codec::Codec;
use crate::modules::classes::Class;
use clap::{Args, Parser, Subcommand, ValueEnum};
use pitstop_imaging::units;
use std::path::{Path, PathBuf};

#[derive(Debug, Parser)]
#[command(name = name(), version, about, arg_required_else_help = true, after_help = examples(&[BUILD, LIST, UKI, ISO, DOCTOR]))]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const BUILD: &str = "  Every wired NIC and disk driver of the kernel that is installed here:
    mkimage build --init out/init --kernel-version $(uname -r) -o out/initramfs.img

  For one kind of virtual machine, with a shell and SSH for rescue:
    mkimage build --init out/init --kernel-version 6.1.0-56-cloud-amd64 --drivers virtio,nvme \\
        --busybox /bin/busybox --dropbear /usr/sbin/dropbear --authorized-keys ~/.ssh/id_ed25519.pub -o initramfs.img

  One that does signed jobs alone:
    mkimage build --init out/init --kernel-version $(uname -r) --job-key lab.pub -o out/initramfs.img";

const LIST: &str = "  What is in it, and what it weighs:
    mkimage list out/initramfs.img";

const UKI: &str = "  One UEFI program of it, for UEFI HTTP boot and Secure Boot:
    mkimage uki --kernel out/vmlinuz --initramfs out/initramfs.img \\
        --cmdline 'pitstop.host=http://10.0.0.1:8080/hosts/' -o pitstop.efi";

const ISO: &str = "  A CD or USB stick that does one job:
    mkimage iso --kernel out/vmlinuz --initramfs out/initramfs.img --host-file host.toml -o pitstop.iso

  A stick that restores a room of machines without a network, from the images in stick/:
    mkimage iso --kernel out/vmlinuz --initramfs out/initramfs.img --data stick -o pitstop.iso";

const DOCTOR: &str = "  Does this image drive the cards and disks of that machine? Its list is made there by `lspci -nn`:
    mkimage doctor --image out/initramfs.img machine.txt

  Which other kernel would:
    mkimage doctor --image out/initramfs.img --kernel-dir out/.kernel/backports share/192.168.1.50/testbox-info.txt";

const COMPLETIONS: &str = "  mkimage completions bash > /etc/bash_completion.d/mkimage";

const MAN: &str = "  mkimage man /usr/local/share/man/man1";

/// What this program is called here: Debian has a `mkimage` of U-Boot's, so its package gives this one a longer name.
pub fn name() -> &'static str {
    const NAMES: [&str; 2] = ["mkimage", "pitstop-mkimage"];
    let called = std::env::args_os().next();
    let called = called.as_deref().map(Path::new).and_then(Path::file_name);
    let is_called = |name: &&str| called.is_some_and(|called| called == *name);
    NAMES.into_iter().find(is_called).unwrap_or(NAMES[0])
}

/// What `--help` ends with: all examples of the command, those of one subcommand of each.
fn examples(examples: &[&str]) -> String {
    format!("Examples:\n{}", examples.join("\n\n")).replace("mkimage", name())
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an initramfs
    Build(Box<BuildOptions>),
    /// Join kernel, initramfs and command line to one UEFI program
    #[command(long_flag = "uki")]
    Uki(UkiOptions),
    /// Make an image for CD and USB that BIOS and UEFI boot
    #[command(long_flag = "iso")]
    Iso(IsoOptions),
    /// Show what an initramfs holds
    List(ListOptions),
    /// Tell which of a machine's network cards and disk controllers an initramfs drives, without booting it
    Doctor(DoctorOptions),
    /// Print tab completions for a shell
    #[command(after_help = examples(&[COMPLETIONS]))]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages of every command
    #[command(after_help = examples(&[MAN]))]
    Man {
        /// The folder they go to; made if missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = examples(&[BUILD]))]
pub struct BuildOptions {
    /// Pitstop's init: a static ELF
    #[arg(long, value_name = "FILE")]
    pub init: PathBuf,
    /// Where the initramfs goes
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// The folder that holds lib/modules: / or an unpacked kernel package
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub kernel_dir: PathBuf,
    /// Which kernel, as `uname -r` says it; without it no modules go in (a monolithic kernel)
    #[arg(long, value_name = "VERSION")]
    pub kernel_version: Option<String>,
    /// Driver classes that go in
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "all",
        value_name = "CLASS,…"
    )]
    pub drivers: Vec<Drivers>,
    /// One more module, with what it depends on; may be repeated
    #[arg(long = "module", value_name = "NAME")]
    pub modules: Vec<String>,
    /// Leave this module out; may be repeated
    #[arg(long = "without-module", value_name = "NAME")]
    pub without: Vec<String>,
    /// Store modules as the kernel package has them, not each compressed: a file a few percent smaller, for a
    /// machine that has memory to spare
    #[arg(long)]
    pub plain_modules: bool,
    /// Where firmware files are looked for that the modules name; may be repeated, the first that has one is taken
    #[arg(long, value_name = "DIR", default_value = "/lib/firmware")]
    pub firmware: Vec<PathBuf>,
    /// A static busybox, for the rescue shell
    #[arg(long, value_name = "FILE")]
    pub busybox: Option<PathBuf>,
    /// dropbear, for SSH in rescue; needs --authorized-keys
    #[arg(long, value_name = "FILE", requires = "authorized_keys")]
    pub dropbear: Option<PathBuf>,
    /// Who may log in to rescue: SSH public keys; may be repeated
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Vec<PathBuf>,
    /// Do only jobs that this key has signed: the .pub file of minisign -G or pitstop key new; may be repeated
    #[arg(long, value_name = "FILE.pub")]
    pub job_key: Vec<PathBuf>,
    /// Write only images and trees whose .toml this key has signed: a .pub file as above; may be repeated
    #[arg(long, value_name = "FILE.pub")]
    pub image_key: Vec<PathBuf>,
    /// A certificate authority (PEM) that https servers are checked against; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// The PCI name table for testbox-info.txt
    #[arg(long, value_name = "FILE")]
    pub pci_ids: Option<PathBuf>,
    /// A file of yours: `SOURCE:/DEST` or `SOURCE:/DEST:MODE`, MODE octal; may be repeated
    #[arg(long = "file", value_name = "SPEC")]
    pub files: Vec<String>,
    /// A program with its shared libraries, at the path it has here; may be repeated
    #[arg(long = "program", value_name = "FILE")]
    pub programs: Vec<PathBuf>,
    /// A default kernel parameter (the command line wins); may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// A host file, found as pitstop.host=file:///etc/pitstop/host.toml; with --job-key its signature lies beside it
    #[arg(long, value_name = "FILE")]
    pub host_file: Option<PathBuf>,
    /// How the image is compressed
    #[arg(long, value_enum, default_value_t = Codec::Zstd)]
    pub compress: Codec,
    /// Name every firmware file that is missing
    #[arg(short, long)]
    pub verbose: bool,
}

/// What `--drivers` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Drivers {
    All,
    None,
    /// Wired NICs
    Nic,
    Ata,
    Nvme,
    /// SCSI and SAS host adapters
    Scsi,
    /// Devices of virtio, Hyper-V, Xen and `VMware`
    Virtual,
    /// virtio alone
    Virtio,
    /// USB host controllers, storage and keyboards
    Usb,
    /// MMC, SD and UFS
    Mmc,
    Nfs,
    Watchdog,
    /// What rescue mounts: ext4, XFS, FAT
    Filesystems,
    /// Clocks, regulators, buses of arm64 boards without ACPI
    Board,
}

impl Drivers {
    /// The module classes that this choice stands for.
    pub fn classes(self) -> Vec<Class> {
        match self {
            Drivers::All => Class::ALL.to_vec(),
            Drivers::None => Vec::new(),
            Drivers::Nic => vec![Class::Nic],
            Drivers::Ata => vec![Class::Ata],
            Drivers::Nvme => vec![Class::Nvme],
            Drivers::Scsi => vec![Class::Scsi],
            Drivers::Virtual => vec![Class::Virtio, Class::Hypervisor],
            Drivers::Virtio => vec![Class::Virtio],
            Drivers::Usb => vec![Class::Usb],
            Drivers::Mmc => vec![Class::Mmc],
            Drivers::Nfs => vec![Class::Nfs],
            Drivers::Watchdog => vec![Class::Watchdog],
            Drivers::Filesystems => vec![Class::Filesystems],
            Drivers::Board => vec![Class::Board],
        }
    }
}

/// What both kinds of boot medium are made of.
#[derive(Debug, Args)]
pub struct BootOptions {
    /// The kernel: a bzImage of x86-64 or an Image of arm64, with a UEFI stub of its own
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// The initramfs that `mkimage build` made
    #[arg(long, value_name = "FILE")]
    pub initramfs: PathBuf,
    /// The kernel command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub cmdline: String,
    /// systemd's UEFI stub, of the package systemd-boot-efi [default: in /usr/lib/systemd/boot/efi, that of the kernel's
    /// architecture]
    #[arg(long, value_name = "FILE")]
    pub stub: Option<PathBuf>,
    /// Sign the UEFI program for Secure Boot with this key (PEM), by sbsign
    #[arg(long, value_name = "FILE", requires = "sign_cert")]
    pub sign_key: Option<PathBuf>,
    /// The certificate of the key (PEM), which the machines have enrolled
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub sign_cert: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = examples(&[UKI]))]
pub struct UkiOptions {
    #[command(flatten)]
    pub boot: BootOptions,
    /// Where the UEFI program goes
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = examples(&[ISO]))]
pub struct IsoOptions {
    #[command(flatten)]
    pub boot: BootOptions,
    /// The job of every machine that boots from it, on the medium as pitstop/host.toml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "data_size"])]
    pub host_file: Option<PathBuf>,
    /// A folder that goes onto the medium as a share, for machines without a network: host files in hosts, jobs to choose
    /// from in jobs, images. It becomes a partition of its own (exFAT, labelled PITSTOPDATA)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How large that partition is, as 32G; without --data it is an empty share [default: what is in it, and 64 MiB]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub data_size: Option<u64>,
    /// Where the image goes
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = examples(&[LIST]))]
pub struct ListOptions {
    /// The initramfs
    pub image: PathBuf,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = examples(&[DOCTOR]))]
pub struct DoctorOptions {
    /// The initramfs
    #[arg(long, value_name = "FILE", default_value = "out/initramfs.img")]
    pub image: PathBuf,
    /// A folder with other kernels, as --kernel-dir of build: would one of them drive what the image does not? May be repeated
    #[arg(long, value_name = "DIR")]
    pub kernel_dir: Vec<PathBuf>,
    /// The machine's PCI devices: its testbox-info.txt or inventory.json, or what `lspci -nn` or `lspci -n` prints there
    #[arg(value_name = "LIST")]
    pub machine: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_shows_how_it_is_used() {
        Arguments::command().debug_assert();
        for command in pitstop_manual::all(Arguments::command()) {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|text| text.starts_with("Example")),
                "{:?} has no examples",
                command.get_display_name()
            );
        }
    }
}
