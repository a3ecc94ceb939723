//! Runs that cannot be: what the machine says, and that it touches nothing. Jobs that make no sense, one by one, are in
//! `payload`'s tests.

use anyhow::{Result, ensure};
use qemu_tests::scene::{Scene, expect_failure};
use qemu_tests::servers::Namespace;
use qemu_tests::vm::{HEX_ADDRESS, Network, PATIENCE, Spec, Vm};
use std::fs;

/// A run that fails before it knows how long to wait: the configuration and the disk stay as they are.
fn refused(scene: &Scene, spec: Spec, action: &str, reason: &[&str]) -> Result<()> {
    let configuration = fs::read(scene.configuration()).ok();
    let mut vm = Vm::start(spec)?;
    expect_failure(&mut vm, action, reason)?;
    vm.console.wait_for("ebooting in", PATIENCE)?;
    drop(vm);
    ensure!(
        fs::read(scene.configuration()).ok() == configuration,
        "the configuration changed"
    );
    scene.disk_untouched()
}

#[test]
fn without_a_nic_the_machine_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let spec = scene.spec("no-nic")?.network(Network::None).idle();
    refused(&scene, spec, "unknown", &["network"])
}

/// A switch port may need a minute, so this takes more than one.
#[test]
fn without_a_dhcp_answer_the_machine_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let network = Network::Tap {
        namespace: namespace.path(),
        interface: "tap0".into(),
        mac: "52:54:00:77:00:52".into(),
    };
    let spec = scene.spec("no-dhcp")?.network(network).idle();
    refused(&scene, spec, "unknown", &["DHCP"])
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "speed = 9")?;
    let mut vm = scene.boot("unknown-key")?;
    scene.fails(
        &mut vm,
        "backup",
        &[&format!("{HEX_ADDRESS}.toml"), "speed", "line 5"],
    )
}
