//! Shares that are not Pitstop's own server.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::nginx::Nginx;
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::vm::{ADDRESS, Bus, End, HEX_ADDRESS, HOST, PATIENCE, Spec, Vm};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn nginx_keeps_images_and_jobs() -> Result<()> {
    let nginx = Nginx::start()?;
    let disk = Disk::noise(16 << 20, 11)?;
    let before = disk.digest()?;
    let base = format!("http://{HOST}:{}", nginx.port());
    let configuration = nginx.hosts().join(format!("{HEX_ADDRESS}.toml"));
    for action in ["backup", "restore"] {
        let text = format!(
            "version = 1\naction = \"{action}\"\nshare = \"{base}/share\"\nfailure-delay = \"2s\"\n"
        );
        fs::write(&configuration, text)?;
        fs::set_permissions(&configuration, fs::Permissions::from_mode(0o666))?;
        let boot = payload(&format!("pitstop.host={base}/hosts/"))?;
        let spec = Spec::new(&format!("nginx-{action}"), boot).disk(&disk, Bus::Virtio, "NGINX");
        let mut vm = Vm::start(spec)?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        ensure!(
            !configuration.exists(),
            "{action} is done and its configuration is still there"
        );
        if action == "backup" {
            disk.wreck()?;
        }
    }
    ensure!(
        disk.digest()? == before,
        "the restored disk is not what it was"
    );
    compare::zcat_equals(&nginx.share().join(ADDRESS).join("vda.raw.gz"), disk.path())
}
