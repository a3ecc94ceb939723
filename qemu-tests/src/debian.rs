//! A fresh Debian 12: as a computer to install packages on, and as a tree to deploy. mmdebstrap's smallest system, a kernel, and what
//! Pitstop's packages need, since the network of a test leads to no archive.

use crate::disks::Disk;
use crate::paths;
use crate::servers::Namespace;
use crate::tools;
use crate::vm::{Boot, Bus, KERNEL_PARAMETERS, Network, Spec, Vm};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Changes whenever this recipe does, so that no cached disk of an older one is used.
const RECIPE: &str = "7";

/// What is on it: a system that starts, what Pitstop's packages depend on or recommend, and what starts from arrays, LUKS and volumes.
const PACKAGES: &str = "systemd-sysv,udev,init-system-helpers,iproute2,linux-image-cloud-amd64,\
                        busybox-static,pci.ids,kmod,pxelinux,syslinux-common,ipxe,\
                        mdadm,lvm2,cryptsetup-initramfs,grub2-common,grub-pc-bin";

/// Room for the system and some images.
const SIZE: &str = "1536M";

const MAC: &str = "52:54:00:77:00:02";
const INTERFACE: &str = "debian0";

/// What the console says when somebody may type.
const READY: &str = "pitstop-test: the shell is up";

/// Enough for an emulated Debian to start, or to install a package.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the tree is called on a share.
pub const TREE: &str = "debian";

/// An emulated processor unpacks the initramfs, and makes it anew: with little in it, packed quickly. For mmdebstrap, which calls it
/// with the system's folder before there is an initramfs.
const LITTLE: &str = r#"mkdir -p "$1"/etc/initramfs-tools/conf.d && cd "$1"/etc/initramfs-tools && \
printf 'MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\n' >conf.d/little && \
printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic >modules"#;

/// Nothing that a system needs to start: an emulated machine unpacks what is left at a megabyte a second.
const LEFT_OUT: [&str; 32] = [
    "/boot/ipxe*",
    "/usr/bin/grub-fstest",
    "/usr/bin/grub-[gr]*",
    "/usr/bin/grub-m[eo]*",
    "/usr/bin/grub-mk[flnps]*",
    "/usr/bin/grub-mkrescue",
    "/usr/bin/grub-syslinux2cfg",
    "/usr/bin/perl*",
    "/usr/lib/apt/*",
    "/usr/lib/ipxe/*",
    "/usr/lib/modules/*/kernel/drivers/net/*",
    "/usr/lib/modules/*/kernel/fs/[bsx]*/*",
    "/usr/lib/modules/*/kernel/fs/ceph/*",
    "/usr/lib/modules/*/kernel/fs/nfs*/*",
    "/usr/lib/modules/*/kernel/fs/o[cr]*/*",
    "/usr/lib/modules/*/kernel/net/*",
    "/usr/lib/syslinux/*",
    "/usr/lib/udev/hwdb*",
    "/usr/lib/x86_64-linux-gnu/gconv/*",
    "/usr/lib/x86_64-linux-gnu/libapt*",
    "/usr/lib/x86_64-linux-gnu/perl/*",
    "/usr/sbin/grub-macbless",
    "/usr/share/common-licenses/*",
    "/usr/share/doc/*",
    "/usr/share/grub/*.pf2",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/misc/*",
    "/usr/share/perl/*",
    "/usr/share/zoneinfo/*",
    "/var/cache/debconf/*",
];

/// What the tree's GRUB for UEFI looks for first: a layout gives it to the filesystem with the root.
pub const ROOT_UUID: &str = "3c6ef372-fe94-4f82-a54f-f53a5f1d36f1";

/// Root's shell on the console of a Debian that was made here.
pub struct Shell {
    vm: Vm,
    commands: u32,
}

/// A running Debian with root's shell on its console.
pub struct Debian {
    shell: Shell,
    _disks: [Disk; 2],
}

impl Debian {
    /// Its address on a network of [`Namespace::new`].
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    /// Starts one. The files in `parcel` are at `/mnt` there.
    pub fn start(name: &str, network: &Namespace, parcel: &Path) -> Result<Debian> {
        let folder = paths::cached(&format!("debian-{RECIPE}"), make)?;
        network.tap(INTERFACE)?;
        let root = Disk::copy_of(&folder.join("disk.img"))?;
        let parcel = filesystem(parcel, "256M")?;
        let boot = Boot::Direct {
            kernel: folder.join("vmlinuz"),
            initrd: folder.join("initrd.img"),
            command_line: format!(
                "root=/dev/vda rw {KERNEL_PARAMETERS} quiet systemd.firstboot=off \
                 systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer"
            ),
        };
        let spec = Spec::new(name, boot)
            .memory(1024)
            .network(Network::Tap {
                namespace: network.path(),
                interface: INTERFACE.into(),
                mac: MAC.into(),
            })
            .disk(&root, Bus::Virtio, "DEBIAN")
            .disk(&parcel, Bus::Virtio, "PARCEL");
        let mut shell = Shell::of(Vm::start(spec)?, PATIENCE)?;
        shell.run("mount -o ro /dev/vdb /mnt")?;
        Ok(Debian {
            shell,
            _disks: [root, parcel],
        })
    }

    /// See [`Vm::start_beside`].
    pub fn start_beside(&self, spec: Spec) -> Result<Vm> {
        self.shell.vm.start_beside(spec)
    }

    /// See [`Shell::run`].
    pub fn run(&mut self, command: &str) -> Result<()> {
        self.shell.run(command)
    }
}

impl Shell {
    /// Waits until the machine's system is up.
    pub fn of(mut vm: Vm, patience: Duration) -> Result<Shell> {
        vm.console.wait_for(READY, patience)?;
        Ok(Shell { vm, commands: 0 })
    }

    /// Types a command and waits for its end; one that fails is an error.
    pub fn run(&mut self, command: &str) -> Result<()> {
        self.commands += 1;
        let number = self.commands;
        // What is typed is echoed: only the answer has the number and the colon side by side.
        self.vm
            .console
            .type_line(&format!("{command}; echo pitstop-test-{number}\":\" $?"))?;
        let answer = self
            .vm
            .console
            .wait_for(&format!("pitstop-test-{number}: "), PATIENCE)
            .with_context(|| format!("waiting for the end of {command:?}"))?;
        if !answer.ends_with(": 0") {
            let said = self.vm.console.text();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            bail!("{command:?} failed ({answer}); the console ends:\n{tail}");
        }
        Ok(())
    }

    /// See [`Vm::cut_power`].
    pub fn cut_power(self) -> Result<()> {
        self.vm.cut_power()
    }
}

/// Puts the same system onto a share, as the tree [`TREE`].
pub fn put_tree(share: &Path) -> Result<()> {
    let folder = paths::cached(&format!("debian-{RECIPE}"), make)?;
    let trees = folder.join("trees");
    tools::run("cp", [Path::new("-r"), &trees, share])?;
    Ok(())
}

/// Makes the system and its boot files in `folder`.
fn make(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir_all(folder)?;
    let mut mmdebstrap = tools::command("mmdebstrap")?;
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={PACKAGES}"));
    mmdebstrap.arg(format!("--essential-hook={LITTLE}"));
    tools::output(mmdebstrap.arg("bookworm").arg(&root))?;
    set_up(&root)?;
    for name in ["vmlinuz", "initrd.img"] {
        fs::copy(installed(&root, name)?, folder.join(name))?;
    }
    let image = folder.join("disk.img");
    make_filesystem(&root, &image, SIZE)?;
    capture(&root, folder)?;
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))
}

/// Makes a tree of the system, as its golden machine had it: on other disks, with GRUB for UEFI beside that for BIOS.
fn capture(root: &Path, share: &Path) -> Result<()> {
    let loader = tools::packaged(
        "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        "grub-efi-amd64-signed",
    )?;
    let settings = format!(
        "GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\n\
         GRUB_CMDLINE_LINUX=\"{KERNEL_PARAMETERS} quiet\"\n"
    );
    let stub = format!(
        "search.fs_uuid {ROOT_UUID} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    );
    let files = [
        ("etc/default/grub", settings),
        (
            "boot/grub/grub.cfg",
            "linux /vmlinuz root=/dev/mapper/golden-root ro\n".to_owned(),
        ),
        ("boot/efi/EFI/debian/grub.cfg", stub),
    ];
    write_all(root, &files)?;
    fs::copy(&loader, root.join("boot/efi/EFI/debian/grubx64.efi"))
        .with_context(|| format!("copying {}", loader.display()))?;
    fs::write(share.join("pitstop-share"), "")?;
    let mut pitstop = Command::new(paths::built("pitstop")?);
    pitstop.args(["tree", "capture"]).arg(root).arg(TREE);
    for pattern in LEFT_OUT {
        pitstop.args(["--exclude", pattern]);
    }
    tools::output(pitstop.args(["--level", "fast", "--share"]).arg(share))?;
    Ok(())
}

/// The file of the one kernel that is installed under `root`.
fn installed(root: &Path, name: &str) -> Result<PathBuf> {
    let boot = root.join("boot");
    let mut found = Vec::new();
    for entry in fs::read_dir(&boot).with_context(|| format!("reading {}", boot.display()))? {
        let entry = entry?;
        let called = entry.file_name();
        if called.to_string_lossy().starts_with(&format!("{name}-")) {
            found.push(entry.path());
        }
    }
    ensure!(
        found.len() == 1,
        "{} has {found:?} for {name}",
        boot.display()
    );
    found.pop().context("there is one")
}

/// An address, and root's shell on the serial line.
fn set_up(root: &Path) -> Result<()> {
    let address = Debian::ADDRESS;
    let getty = "etc/systemd/system/serial-getty@ttyS0.service.d/root.conf";
    let files = [
        ("etc/hostname", "server\n".to_owned()),
        // On a busy computer an emulated machine needs minutes for what takes seconds elsewhere.
        (
            "etc/systemd/system.conf.d/patience.conf",
            "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n".into(),
        ),
        (
            "etc/systemd/network/10-wire.network",
            format!("[Match]\nName=e*\n[Network]\nAddress={address}/24\n"),
        ),
        (
            getty,
            "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root ttyS0 dumb\n".into(),
        ),
        (
            "root/.bash_profile",
            format!("bind 'set enable-bracketed-paste off'\necho {READY}\n"),
        ),
    ];
    write_all(root, &files)?;
    let units = root.join("etc/systemd/system");
    for (target, unit) in [
        ("multi-user.target", "systemd-networkd.service"),
        (
            "network-online.target",
            "systemd-networkd-wait-online.service",
        ),
    ] {
        let wants = units.join(format!("{target}.wants"));
        fs::create_dir_all(&wants)?;
        let link = wants.join(unit);
        symlink(format!("/lib/systemd/system/{unit}"), &link)
            .with_context(|| format!("making {}", link.display()))?;
    }
    Ok(())
}

fn write_all(root: &Path, files: &[(&str, String)]) -> Result<()> {
    for (path, text) in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// A disk without a partition table, with these files.
fn filesystem(tree: &Path, size: &str) -> Result<Disk> {
    let disk = Disk::blank(0)?;
    make_filesystem(tree, disk.path(), size)?;
    Ok(disk)
}

fn make_filesystem(tree: &Path, image: &Path, size: &str) -> Result<()> {
    let mut mkfs = tools::command("mke2fs")?;
    mkfs.args(["-q", "-F", "-t", "ext4", "-d"]);
    tools::output(mkfs.arg(tree).arg(image).arg(size))?;
    Ok(())
}
