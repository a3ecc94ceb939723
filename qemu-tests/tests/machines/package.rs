//! The Debian packages: installed on a fresh Debian, they serve a machine, and their removal loses nothing.

use anyhow::{Context, Result, ensure};
use qemu_tests::debian::Debian;
use qemu_tests::disks::Disk;
use qemu_tests::paths;
use qemu_tests::servers::{Dnsmasq, Namespace};
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec};

const MAC: &str = "52:54:00:77:00:50";
const ADDRESS: &str = "10.77.0.50";
const INTERFACE: &str = "client0";

/// The share's folder of the machine.
const FOLDER: &str = "/var/lib/pitstop/share/10.77.0.50";

#[test]
fn a_fresh_debian_installs_serves_and_keeps_what_is_the_admins() -> Result<()> {
    let packages = paths::out().join("deb");
    ensure!(
        packages.is_dir(),
        "{} is missing: run `make deb` first",
        packages.display()
    );
    let network = Namespace::new()?;
    network.tap(INTERFACE)?;
    let address = format!("--dhcp-range={ADDRESS},{ADDRESS},1h");
    let host = format!("--dhcp-host={MAC},{ADDRESS}");
    // By TFTP: its port is the one thing for which the server needs a capability.
    let boot = format!("--dhcp-boot=pxelinux.0,,{}", Debian::ADDRESS);
    let _dhcp = Dnsmasq::run(&network, &[&address, &host, &boot])?;
    let mut server = Debian::start("package-server", &network, &packages)?;

    install(&mut server)?;
    is_confined(&mut server)?;
    serves(&mut server, &network)?;
    is_purged(&mut server)
}

fn install(server: &mut Debian) -> Result<()> {
    // An admin's own settings stay. These spare an emulated computer minutes of compressing every driver.
    let settings = "MKIMAGE_OPTIONS='--drivers virtio --plain-modules --compress gzip'";
    server.run(&format!("echo \"{settings}\" >/etc/default/pitstop-boot"))?;
    server.run(
        "DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-confold install -y /mnt/*.deb",
    )?;
    server.run("systemctl is-enabled pitstop && systemctl is-active pitstop")?;
    server.run("ls -l /var/lib/pitstop-boot/vmlinuz /var/lib/pitstop-boot/initramfs.img")?;
    server.run("ls /usr/share/man/man1/pitstop-host-set.1.gz /usr/share/man/man1/pitstop-mkimage-build.1.gz")?;
    server.run("bash -n /usr/share/bash-completion/completions/pitstop")?;
    // The kernel here is emulated, and its timer is not always found.
    server.run("sed -i 's/ --quiet/ --append \"console=ttyS0,115200 no_timer_check\"&/' /etc/default/pitstop")?;
    server.run("systemctl restart pitstop && systemctl is-active pitstop")
}

/// The server is a user of its own, with one capability and no way to write the system.
fn is_confined(server: &mut Debian) -> Result<()> {
    server.run(
        "pid=$(systemctl show -P MainPID pitstop); test \"$(stat -c %U /proc/$pid)\" = pitstop",
    )?;
    // CAP_NET_BIND_SERVICE is the tenth from 0.
    server.run("grep -x 'CapBnd:.0*400' /proc/$pid/status")?;
    server.run("grep -x 'NoNewPrivs:.1' /proc/$pid/status")?;
    server.run("nsenter -t $pid -m findmnt -no OPTIONS / | grep -w ro")?;
    // Of 10 that systemd gives to what is not confined at all.
    server.run(
        "(set -o pipefail; systemd-analyze security --no-pager --threshold=20 pitstop | tail -n 1)",
    )?;
    server.run("test \"$(stat -c '%U %a' /var/lib/pitstop)\" = 'pitstop 750'")
}

/// A machine boots from it and is backed up.
fn serves(server: &mut Debian, network: &Namespace) -> Result<()> {
    let disk = Disk::noise(16 << 20, 31)?;
    // A job belongs to the server's user, who has to read and delete it, whatever root's umask is.
    server.run(&format!(
        "(umask 077; pitstop host set {ADDRESS} backup --yes)"
    ))?;
    server.run("test \"$(stat -c %U /var/lib/pitstop/hosts/0A4D0032.toml)\" = pitstop")?;
    let client = Spec::new("package-backup", Boot::SeaBios)
        .network(Network::Tap {
            namespace: network.path(),
            interface: INTERFACE.into(),
            mac: MAC.into(),
        })
        .disk(&disk, Bus::Virtio, "PACKAGE1");
    let mut client = server.start_beside(client)?;
    client.sees("pitstop: result ok backup")?;
    ensure!(client.wait_for_end(PATIENCE)? == End::Reboot);
    server.run("test ! -e /var/lib/pitstop/hosts/0A4D0032.toml")?;
    server
        .run(&format!("pitstop verify {FOLDER}/vda.raw.gz"))
        .context("the image of the backup")
}

fn is_purged(server: &mut Debian) -> Result<()> {
    server.run(&format!("pitstop host set {ADDRESS} restore --yes"))?;
    server.run(
        "sha256sum $(find /var/lib/pitstop/share /var/lib/pitstop/hosts -type f) >/root/before",
    )?;
    server.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y pitstop pitstop-boot")?;
    server.run(
        "! systemctl is-active pitstop && test ! -e /usr/bin/pitstop -a ! -e /etc/default/pitstop",
    )?;
    server.run(
        "test ! -e /var/lib/pitstop-boot/initramfs.img -a ! -e /etc/kernel/postinst.d/pitstop-boot",
    )?;
    server.run("test -s /root/before && sha256sum --quiet -c /root/before")?;
    server.run(&format!(
        "ls {FOLDER}/vda.raw.gz /var/lib/pitstop/hosts/0A4D0032.toml"
    ))
}
