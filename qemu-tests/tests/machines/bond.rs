//! Machines with several network cards: as one by `bond=`, or with one that has a cable.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_success};
use qemu_tests::vm::{End, Network, PATIENCE, Vm};
use std::fs;

/// The cards, as QEMU knows them.
const CARDS: [&str; 2] = ["card0", "card1"];

/// The scene's machine with two cards on one switch, behind which is the user network.
fn with_two_cards(scene: &Scene, name: &str, parameters: &str) -> Result<Vm> {
    let mut spec = scene.spec_with(name, parameters)?.network(Network::None);
    spec = spec.extra(&["-netdev", "user,id=user"]);
    spec = spec.extra(&["-netdev", "hubport,id=uplink,hubid=0,netdev=user"]);
    for (number, card) in CARDS.iter().enumerate() {
        let port = format!("hubport,id=port{number},hubid=0");
        let device =
            format!("virtio-net-pci,netdev=port{number},id={card},mac=52:54:00:00:00:0{number}");
        spec = spec.extra(&["-netdev", &port, "-device", &device]);
    }
    Vm::start(spec)
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
    let mut vm = with_two_cards(&scene, "bond", bond)?;
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
