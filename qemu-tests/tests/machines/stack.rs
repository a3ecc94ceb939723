//! A Debian on arrays and volumes: deployed by a machine, started with all of its disks and with one of them.

use anyhow::{Result, ensure};
use qemu_tests::debian::{self, ROOT_UUID, Shell, TREE};
use qemu_tests::disks::Disk;
use qemu_tests::media::build_for_cloud;
use qemu_tests::scene::Scene;
use qemu_tests::vm::{Boot, Bus, End, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm};
use qemu_tests::{paths, tools};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Of each disk: the system takes half of it.
const SIZE: u64 = 1 << 30;

/// Enough for programs of a Debian that make its initramfs on an emulated processor.
const LONG: Duration = Duration::from_secs(1800);

/// The root on an array, for a BIOS.
const ARRAY: &str = r#"version = 1
table = "gpt"
[[partition]]
type = "bios-boot"
size = "1MiB"
[[partition]]
type = "raid"
size = "fill"
[[raid]]
name = "system"
on = 2
filesystem = "ext4"
mount = "/"
"#;

/// The root on a volume of an array, for UEFI.
const VOLUMES: &str = r#"version = 1
table = "gpt"
[[partition]]
type = "efi"
size = "40MiB"
filesystem = "vfat"
mount = "/boot/efi"
[[partition]]
type = "raid"
size = "fill"
[[raid]]
name = "system"
on = 2
[[lvm]]
group = "vg0"
on = ["system"]
volumes = [
  { name = "root", size = "fill", filesystem = "ext4", mount = "/", uuid = "ROOT" },
  { name = "swap", size = "32MiB", filesystem = "swap" },
]
"#;

/// Pitstop's initramfs with what a deploy onto such layouts calls.
fn initramfs(path: &Path) -> Result<()> {
    let mut mkimage = build_for_cloud("virtio,filesystems")?;
    for program in ["mkfs.ext4", "mkfs.vfat", "mkswap", "mdadm", "lvm"] {
        mkimage.arg("--program").arg(tools::find(program)?);
    }
    tools::output(mkimage.arg("-o").arg(path))?;
    Ok(())
}

/// A server with the tree, and Pitstop's initramfs with what a deploy onto such layouts calls.
struct Site {
    scene: Scene,
    initrd: tempfile::NamedTempFile,
}

impl Site {
    fn new() -> Result<Site> {
        let scene = Scene::new()?;
        debian::put_tree(&scene.server.share())?;
        let initrd = tempfile::NamedTempFile::new()?;
        initramfs(initrd.path())?;
        Ok(Site { scene, initrd })
    }

    /// Has a machine with this firmware put the tree onto its disks. Whether the firmware got an entry.
    fn deploy(
        &self,
        (name, firmware): (&str, &Boot),
        layout: &str,
        disks: &[Disk],
    ) -> Result<bool> {
        fs::create_dir_all(self.scene.folder())?;
        fs::write(self.scene.folder().join("layout.toml"), layout)?;
        let more = format!("tree = \"{TREE}\"\nlayout = \"layout.toml\"\nhostname = \"stack\"");
        self.scene.job("deploy", &more)?;
        let kernel = paths::built_for_cloud("vmlinuz")?;
        let initrd = self.initrd.path().to_owned();
        let hosts = self.scene.url("/hosts/");
        let command_line = format!("{KERNEL_PARAMETERS} pitstop.host={hosts}");
        // OVMF starts the kernel that QEMU gives it before anything else.
        let spec = if matches!(firmware, Boot::Ovmf) {
            let [kernel, initrd] = [kernel, initrd].map(|path| path.display().to_string());
            let given = ["-kernel", &kernel, "-initrd", &initrd, "-append"];
            let spec = Spec::new(name, Boot::Ovmf).extra(&given);
            spec.extra(&[&command_line])
        } else {
            let boot = Boot::Direct {
                kernel,
                initrd,
                command_line,
            };
            Spec::new(name, boot)
        };
        let mut vm = Vm::start(with(disks, spec.memory(1024)))?;
        let line = vm.console.wait_for("pitstop: result ", LONG)?;
        ensure!(line.contains("result ok deploy"), "{line}");
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        match firmware {
            Boot::Ovmf => vm.firmware_knows("debian"),
            _ => Ok(false),
        }
    }
}

fn with(disks: &[Disk], spec: Spec) -> Spec {
    let mut serials = ["STACK0", "STACK1"].iter();
    disks.iter().fold(spec, |spec, disk| {
        spec.disk(disk, Bus::Virtio, serials.next().unwrap_or(&"STACK"))
    })
}

/// Starts the system that is on these disks, and sees that nothing of it failed.
fn start(name: &str, firmware: Boot, disks: &[Disk]) -> Result<Shell> {
    let spec = Spec::new(name, firmware).network(Network::None);
    let mut shell = Shell::of(Vm::start(with(disks, spec))?)?;
    shell.run("systemctl is-system-running --wait || systemctl --failed; ! systemctl --failed --no-legend | grep .")?;
    Ok(shell)
}

#[test]
fn a_debian_on_an_array_starts_with_both_disks_and_with_the_second_alone() -> Result<()> {
    let site = Site::new()?;
    let disks = [Disk::blank(SIZE)?, Disk::blank(SIZE)?];
    site.deploy(("stack-array", &Boot::SeaBios), ARRAY, &disks)?;
    let mut shell = start("stack-array-both", Boot::SeaBios, &disks)?;
    shell.run("findmnt -no SOURCE / | grep -x '/dev/md.*'")?;
    shell.run("readlink -e /dev/md/system && grep -F '[UU]' /proc/mdstat")?;
    // The first disk dies, and the power with it.
    shell.cut_power()?;
    let mut shell = start("stack-array-second", Boot::SeaBios, &disks[1..])?;
    shell.run("findmnt -no SOURCE / | grep -x '/dev/md.*'")?;
    shell.run("readlink -e /dev/md/system && grep -F '[_U]' /proc/mdstat")
}

#[test]
fn a_debian_on_volumes_of_an_array_is_started_by_uefi_from_the_second_disk_alone() -> Result<()> {
    let site = Site::new()?;
    let disks = [Disk::blank(SIZE)?, Disk::blank(SIZE)?];
    let layout = VOLUMES.replace("ROOT", ROOT_UUID);
    let is_entered = site.deploy(("stack-volumes", &Boot::Ovmf), &layout, &disks)?;
    ensure!(is_entered, "the firmware got no entry");
    let mut shell = start("stack-volumes-second", Boot::Ovmf, &disks[1..])?;
    shell.run("findmnt -no SOURCE / | grep -x /dev/mapper/vg0-root")?;
    shell.run("readlink -e /dev/md/system && grep -F '[_U]' /proc/mdstat")?;
    shell.run("swapon --show --noheadings | grep .")?;
    shell.run("findmnt -no SOURCE /boot/efi | grep -x /dev/vda1")?;
    shell.run("ls /boot/efi/EFI/debian/grubx64.efi")
}
