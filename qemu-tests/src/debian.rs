//! A computer with a fresh Debian 12, to install packages on: mmdebstrap's smallest system, a kernel, and what the
//! packages need, since the network of a test leads to no archive.

use crate::disks::Disk;
use crate::paths;
use crate::servers::Namespace;
use crate::tools;
use crate::vm::{Boot, Bus, Network, Spec, Vm};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Changes whenever this recipe does, so that no cached disk of an older one is used.
const RECIPE: &str = "1";

/// What is on it: a system that starts, and what Pitstop's packages depend on or recommend.
const PACKAGES: &str = "systemd-sysv,udev,init-system-helpers,iproute2,linux-image-cloud-amd64,\
                        busybox-static,pci.ids,kmod,pxelinux,syslinux-common,ipxe";

/// Room for the system and some images.
const SIZE: &str = "1536M";

const MAC: &str = "52:54:00:77:00:02";
const INTERFACE: &str = "debian0";

/// What the console says when somebody may type.
const READY: &str = "pitstop-test: the shell is up";

/// Enough for an emulated Debian to start, or to install a package.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running Debian with root's shell on its console.
pub struct Debian {
    vm: Vm,
    commands: u32,
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
            command_line:
                "root=/dev/vda rw console=ttyS0,115200 no_timer_check quiet systemd.firstboot=off \
                           systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer"
                    .into(),
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
        let mut vm = Vm::start(spec)?;
        vm.console.wait_for(READY, PATIENCE)?;
        let mut debian = Debian {
            vm,
            commands: 0,
            _disks: [root, parcel],
        };
        debian.run("mount -o ro /dev/vdb /mnt")?;
        Ok(debian)
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
}

/// Makes the system and its boot files in `folder`.
fn make(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir_all(folder)?;
    let mut mmdebstrap = tools::command("mmdebstrap")?;
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={PACKAGES}"));
    tools::output(mmdebstrap.arg("bookworm").arg(&root))?;
    set_up(&root)?;
    for name in ["vmlinuz", "initrd.img"] {
        fs::copy(installed(&root, name)?, folder.join(name))?;
    }
    let image = folder.join("disk.img");
    make_filesystem(&root, &image, SIZE)?;
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))
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
    for (path, text) in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
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
