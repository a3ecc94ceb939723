//! Machines with several network cards: as one by `bond=`, or with one that has a cable.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_success};
use qemu_tests::tagged::trunk;
use qemu_tests::vm::{End, Network, PATIENCE, Spec, Vm};
use serde_json::json;
use std::fs;

/// The cards, as QEMU knows them.
const CARDS: [&str; 3] = ["card0", "card1", "card2"];

/// QEMU's user network, as a backend with its `id`.
const USER: (&str, &str) = ("user,id=user", "user");

/// The scene's machine with a card on each of these switches. Behind switch 0 is the network `uplink`, behind any
/// other is nothing.
fn with_cards(
    scene: &Scene,
    name: &str,
    parameters: &str,
    switches: &[u32],
    (uplink, id): (&str, &str),
) -> Result<Spec> {
    let mut spec = scene.spec_with(name, parameters)?.network(Network::None);
    let port = format!("hubport,id=uplink,hubid=0,netdev={id}");
    spec = spec.extra(&["-netdev", uplink, "-netdev", &port]);
    for (number, (card, switch)) in CARDS.iter().zip(switches).enumerate() {
        let port = format!("hubport,id=port{number},hubid={switch}");
        let device = format!(
            "virtio-net-pci,netdev=port{number},romfile=,id={card},mac=52:54:00:00:00:0{number}"
        );
        spec = spec.extra(&["-netdev", &port, "-device", &device]);
    }
    Ok(spec)
}

#[test]
fn a_bond_goes_on_when_the_cable_of_one_card_is_pulled() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.wreck()?;
    scene.job("restore", "attempts = 1")?;
    let half = fs::metadata(scene.image())?.len() / 2;
    scene
        .proxy
        .break_requests("GET", IMAGE, Fault::DieDuringDownload(half));
    let bond = "BOOTIF=01-52-54-00-00-00-01 bond=bond0:eth0,eth1:mode=active-backup,miimon=100";
    let mut vm = Vm::start(with_cards(&scene, "bond", bond, &[0, 0], USER)?)?;
    vm.sees("bond0 is eth1 (52:54:00:00:00:01) and eth0 (52:54:00:00:00:00)")?;
    vm.sees("bond0 is 10.0.2.15/24 by DHCP")?;
    scene.proxy.wait_for_death(PATIENCE)?;
    // The card that booted was the first in the bond, and so has carried everything up to here.
    vm.unplug_cable(CARDS[1])?;
    scene.proxy.heal();
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    scene.disk_untouched()
}

#[test]
fn a_tagged_network_is_reached_through_a_bond() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let trunk = trunk(42)?;
    let links = "bond=bond0:eth0,eth1:mode=active-backup vlan=bond0.42:bond0";
    let spec = with_cards(&scene, "bond-vlan", links, &[0, 0], trunk.backend())?;
    let mut vm = Vm::start(spec)?;
    vm.sees("bond0.42 is 10.0.2.15/24 by DHCP")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn of_three_cards_the_one_with_a_cable_to_a_network_is_found() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let spec = with_cards(&scene, "three-cards", "", &[0, 1, 0], USER)?;
    let mut vm = Vm::start(spec.extra(&["-S"]))?;
    vm.unplug_cable(CARDS[0])?;
    vm.qmp.execute("cont", &json!({}))?;
    vm.sees("no DHCP answer on eth1 so far")?;
    vm.sees("eth2 is 10.0.2.15/24 by DHCP")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.image(), scene.disk.path())
}
