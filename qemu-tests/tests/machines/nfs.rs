//! Backup and restore over NFS, as the kernel of the machine mounts it.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::nfs::Ganesha;
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};

const MAC: &str = "52:54:00:77:00:51";
const ADDRESS: &str = "10.77.0.51";

#[test]
fn an_nfs_share_keeps_images() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let _dnsmasq = Dnsmasq::start(&namespace, MAC, ADDRESS, Some("nfsbox"), "none")?;
    let ganesha = Ganesha::start(&namespace)?;
    let disk = Disk::noise(16 << 20, 12)?;
    let before = disk.digest()?;
    let (port, mount_port) = (Ganesha::PORT, Ganesha::MOUNT_PORT);
    for (action, options) in [
        ("backup", format!("vers=4.1&port={port}")),
        (
            "restore",
            format!("vers=3&proto=tcp&port={port}&mountport={mount_port}"),
        ),
        (
            "backup-again",
            format!("vers=3&proto=tcp&port={port}&mountport={mount_port}"),
        ),
        ("restore", format!("vers=4.1&port={port}")),
    ] {
        let share = format!("nfs://{}{}?{options}", Namespace::ADDRESS, Ganesha::EXPORT);
        let boot = payload(&format!("pitstop.action={action} pitstop.share={share}"))?;
        let network = Network::Tap {
            namespace: namespace.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        };
        let spec = Spec::new(&format!("nfs-{action}"), boot)
            .network(network)
            .disk(&disk, Bus::Virtio, "NFS");
        let mut vm = Vm::start(spec)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        let image = ganesha.share().join(ADDRESS).join("vda.raw.gz");
        compare::zcat_equals(&image, disk.path())?;
        if action != "restore" {
            disk.wreck()?;
        }
    }
    ensure!(
        disk.digest()? == before,
        "the restored disk is not what it was"
    );
    let hostname = ganesha.share().join(ADDRESS).join("nfsbox");
    ensure!(
        hostname.is_file(),
        "{} is missing: the name that DHCP gave",
        hostname.display()
    );
    Ok(())
}
