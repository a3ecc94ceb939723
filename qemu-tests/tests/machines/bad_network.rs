//! Servers that come late, and servers that come and go.

use anyhow::{Context, Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:00:54";
const ADDRESS: &str = "10.77.0.54";

#[test]
fn a_dhcp_server_that_comes_after_60_seconds_is_found() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let root = tempfile::tempdir()?;
    let server = Server::start_in(root.path(), Some(&namespace))?;
    let disk = Disk::noise(8 << 20, 71)?;
    let share = format!("http://{}:8080/share", Namespace::ADDRESS);
    let boot = payload(&format!("pitstop.action=backup pitstop.share={share}"))?;
    let spec = Spec::new("late-dhcp", boot)
        .network(Network::Tap {
            namespace: namespace.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        })
        .disk(&disk, Bus::Virtio, "LATE0002");
    let mut vm = Vm::start(spec)?;
    // Every 15 seconds.
    for _ in 0..4 {
        vm.sees("no DHCP answer on eth0 so far")?;
    }
    let _dnsmasq = Dnsmasq::start(&namespace, MAC, ADDRESS, None, "none")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&server.share().join(ADDRESS).join(IMAGE), disk.path())
}

/// Lets the server die and come back as these faults say, one after the other, while the scene's machine does its
/// job in one attempt.
fn served_with_breaks(scene: &Scene, action: &str, breaks: &[(usize, &str, Fault)]) -> Result<()> {
    scene.job(action, "attempts = 1")?;
    let (first, later) = breaks.split_first().context("there is no break")?;
    let (spare, method, fault) = *first;
    scene
        .proxy
        .break_requests_after(spare, method, IMAGE, fault);
    let mut vm = scene.boot(&format!("breaks-{action}"))?;
    for (spare, method, fault) in later {
        scene.proxy.wait_for_death(PATIENCE)?;
        scene.proxy.forget_faults();
        scene
            .proxy
            .break_requests_after(*spare, method, IMAGE, *fault);
        scene.proxy.revive();
    }
    scene.proxy.wait_for_death(PATIENCE)?;
    scene.proxy.heal();
    expect_success(&mut vm, action)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    scene.disk_untouched()
}

#[test]
fn a_server_that_is_gone_at_10_50_and_90_percent_of_a_restore_is_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.wreck()?;
    let tenth = fs::metadata(scene.image())?.len() / 10;
    // What is asked for again begins where the answer before broke off.
    let breaks = [1, 4, 4].map(|tenths| (0, "GET", Fault::DieDuringDownload(tenths * tenth)));
    served_with_breaks(&scene, "restore", &breaks)
}

#[test]
fn a_server_that_is_gone_at_10_50_and_90_percent_of_a_backup_is_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    // Eight segments of 2 MiB: the first, the fifth and the eighth break off in their middle.
    let breaks = [0, 4, 3].map(|spare| (spare, "PUT", Fault::DieDuringUpload(1 << 20)));
    served_with_breaks(&scene, "backup", &breaks)?;
    scene.nothing_half_made()
}
