//! `pitstop serve --tls`: the boot loader stays on http, and the machine works over https, trusting the server's own authority.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::https::write_initramfs;
use qemu_tests::paths;
use qemu_tests::scene::{IMAGE, expect_success};
use qemu_tests::servers::Server;
use qemu_tests::tools;
use qemu_tests::vm::{ADDRESS, Boot, Bus, End, HOST, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A server with the cloud kernel to boot, and an initramfs that trusts its authority.
fn serve(root: &Path) -> Result<Server> {
    fs::create_dir_all(root.join("boot"))?;
    let mut command = Command::new(paths::built("pitstop")?);
    command.args(["tls", "ca", "--root"]).arg(root);
    let pem = tools::output(&mut command)?;
    write_initramfs(pem.as_bytes(), &root.join("boot/initramfs.img"))?;
    fs::copy(
        paths::built_for_cloud("vmlinuz")?,
        root.join("boot/vmlinuz"),
    )?;
    Server::start_with_tls(root)
}

/// A machine that iPXE boots, from what it is told at the http port.
fn machine(name: &str, server: &Server, disk: &Disk) -> Result<Vm> {
    let bootfile = format!("http://{HOST}:{}/boot.ipxe", server.port());
    Vm::start(
        Spec::new(name, Boot::SeaBios)
            .memory(512)
            .network(Network::User {
                bootfile: Some(bootfile),
                tftp: None,
            })
            .disk(disk, Bus::Virtio, "TLS0001"),
    )
}

#[test]
fn a_machine_boots_over_http_and_works_over_https() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    let server = serve(&root)?;
    server.host(&["set", ADDRESS, "backup"])?;
    let job = server.hosts().join("0A00020F.toml");
    let text = fs::read_to_string(&job)?;
    ensure!(
        text.contains(&format!("share = \"https://{HOST}:")),
        "{text}"
    );
    ensure!(!text.contains("http://"), "{text}");
    let disk = Disk::noise(16 << 20, 7)?;
    let mut vm = machine("tls", &server, &disk)?;
    vm.sees(&format!("https://{HOST}:"))?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(!job.exists(), "the configuration is still there");
    compare::zcat_equals(&server.share().join(ADDRESS).join(IMAGE), disk.path())
}
