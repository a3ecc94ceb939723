//! Backup and restore over NFS, as the kernel of the machine mounts it.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::nfs::Ganesha;
use qemu_tests::scene::{expect_failure, expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:00:51";
const ADDRESS: &str = "10.77.0.51";

/// A machine of this network that does one job by its command line.
fn machine(namespace: &Namespace, disk: &Disk, name: &str, parameters: &str) -> Result<Vm> {
    let network = Network::Tap {
        namespace: namespace.path(),
        interface: "tap0".into(),
        mac: MAC.into(),
    };
    let spec =
        Spec::new(name, payload(parameters)?)
            .network(network)
            .disk(disk, Bus::Virtio, "NFS");
    Vm::start(spec)
}

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
        let name = format!("nfs-{action}");
        let parameters = format!("pitstop.action={action} pitstop.share={share}");
        let mut vm = machine(&namespace, &disk, &name, &parameters)?;
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

#[test]
fn a_path_that_is_not_exported_and_a_read_only_export_are_said_to_be_so() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let _dnsmasq = Dnsmasq::start(&namespace, MAC, ADDRESS, Some("nfsbox"), "none")?;
    let ganesha = Ganesha::read_only(&namespace)?;
    let disk = Disk::noise(16 << 20, 13)?;
    let before = disk.digest()?;
    let (address, port) = (Namespace::ADDRESS, Ganesha::PORT);
    for (name, path, words) in [
        (
            "wrong-path",
            "/elsewhere",
            "the server has no export /elsewhere",
        ),
        ("read-only", Ganesha::EXPORT, "the share is read-only"),
    ] {
        let share = format!("nfs://{address}{path}?vers=4.1&port={port}");
        let parameters = format!("pitstop.action=backup pitstop.share={share}");
        let mut vm = machine(&namespace, &disk, &format!("nfs-{name}"), &parameters)?;
        expect_failure(&mut vm, "backup", &[words])?;
    }
    let names: Vec<_> = fs::read_dir(ganesha.share())?.collect::<Result<_, _>>()?;
    ensure!(names.len() == 1, "more than the marker is there: {names:?}");
    ensure!(disk.digest()? == before, "the disk changed");
    Ok(())
}

#[test]
fn a_configuration_on_the_tftp_servers_export_is_deleted_there() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let _dnsmasq = Dnsmasq::start(&namespace, MAC, ADDRESS, Some("nfsbox"), "none")?;
    let ganesha = Ganesha::start(&namespace)?;
    let disk = Disk::noise(16 << 20, 14)?;
    let folder = ganesha.share().join("pxelinux.cfg");
    fs::create_dir(&folder)?;
    for name in ["0A4D0033", "0A4D0034"] {
        fs::write(folder.join(name), "default pitstop\n")?;
    }
    let (address, export, port) = (Namespace::ADDRESS, Ganesha::EXPORT, Ganesha::PORT);
    let options = format!("?vers=4.1&port={port}");
    let parameters = format!(
        "pitstop.action=refresh-info pitstop.share=nfs://{address}{export}{options} \
         pitstop.delete=nfs://{address}{export}/pxelinux.cfg/0A4D0033{options}"
    );
    let mut vm = machine(&namespace, &disk, "nfs-delete", &parameters)?;
    expect_success(&mut vm, "refresh-info")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(!folder.join("0A4D0033").exists(), "it is still there");
    ensure!(folder.join("0A4D0034").exists(), "another one is gone");
    // The next boot would find nothing to delete: that ends the run before any work.
    let mut vm = machine(&namespace, &disk, "nfs-delete-again", &parameters)?;
    expect_failure(
        &mut vm,
        "refresh-info",
        &["cannot be deleted later", "it does not exist"],
    )?;
    Ok(())
}
