//! What the network tells, and does to, a machine: where its job is, what time it is.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::scene::{Scene, expect_failure, expect_success, payload};
use qemu_tests::vm::{End, Network, PATIENCE, Spec, Vm};

/// The scene's machine with nothing about a job on its command line, on a network that names this boot file.
fn told_by_dhcp(scene: &Scene, name: &str, bootfile: String) -> Result<Spec> {
    let mut spec = scene.spec(name)?.network(Network::User {
        bootfile: Some(bootfile),
        tftp: None,
    });
    spec.boot = payload("")?;
    Ok(spec)
}

#[test]
fn a_host_file_beside_what_dhcp_says_to_boot_is_found() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let spec = told_by_dhcp(&scene, "dhcp-place", scene.url("/boot/pitstop.efi"))?;
    let mut vm = Vm::start(spec)?;
    vm.sees("/hosts/ (beside the boot file http://")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(
        !scene.configuration().exists(),
        "the configuration is still there"
    );
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn without_a_host_file_beside_it_the_machine_says_what_to_set() -> Result<()> {
    let scene = Scene::new()?;
    let spec = told_by_dhcp(&scene, "dhcp-no-place", scene.url("/boot.ipxe"))?;
    let mut vm = Vm::start(spec)?;
    let wanted = ["/hosts/default.toml", "give pitstop.host=URL"];
    expect_failure(&mut vm, "unknown", &wanted)?;
    scene.disk_untouched()
}
