//! Servers that come late, and servers that come and go.

use anyhow::{Context, Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::leases::short_leases;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

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
        .disk(&disk, Bus::Virtio, "LATE0002")
        .idle();
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

#[test]
fn a_lease_of_60_seconds_is_renewed_during_a_longer_backup() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    let root = tempfile::tempdir()?;
    let server = Server::start_in(root.path(), Some(&namespace))?;
    let disk = Disk::noise(8 << 20, 72)?;
    let base = format!("http://{}:8080", Namespace::ADDRESS);
    // At this rate it takes 80 seconds, so that the lease would end on the way.
    let job = format!(
        "version = 1\naction = \"backup\"\nshare = \"{base}/share\"\nattempts = 1\nrate-limit = \"100KiB/s\"\n"
    );
    fs::write(server.hosts().join("leased.toml"), job)?;
    let dnsmasq = Dnsmasq::run(
        &namespace,
        &[
            &format!("--dhcp-range={ADDRESS},{ADDRESS},2m"),
            &format!("--dhcp-host={MAC},{ADDRESS}"),
            &format!("--dhcp-option-force=210,{base}/"),
            "--dhcp-option-force=209,hosts/leased.toml",
        ],
    )?;
    let network = Network::Tap {
        namespace: namespace.path(),
        interface: "tap0".into(),
        mac: MAC.into(),
    };
    let wire = short_leases(&network, 60)?;
    let spec = Spec::new("lease", payload("")?)
        .disk(&disk, Bus::Virtio, "LEASE001")
        .plugged(wire.card())
        .idle();
    let mut vm = Vm::start(spec)?;
    vm.sees("/hosts/leased.toml (DHCP option 209 (configuration file))")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let log = dnsmasq.log()?;
    let granted = log.matches("DHCPACK(br0)").count();
    // At the beginning, and after 30 and 60 seconds.
    ensure!(granted >= 3, "the lease was not renewed in time:\n{log}");
    compare::zcat_equals(&server.share().join(ADDRESS).join(IMAGE), disk.path())
}

#[test]
fn a_server_that_is_silent_for_60_seconds_is_asked_again() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.wreck()?;
    scene.job("restore", "attempts = 1")?;
    let stall = |after| ("GET", IMAGE, Fault::StallDownload(after));
    let (method, path, fault) = stall(6 << 20);
    scene.proxy.break_requests(method, path, fault);
    let mut vm = Vm::start(scene.spec("silent")?.idle())?;
    scene.proxy.wait_for_stall(PATIENCE)?;
    let (method, path, fault) = stall(0);
    scene.proxy.break_only(method, path, fault);
    let gets = || {
        scene
            .proxy
            .requests()
            .iter()
            .filter(|line| line.contains(IMAGE))
            .count()
    };
    let (before, began) = (gets(), Instant::now());
    thread::sleep(Duration::from_secs(60));
    while gets() == before {
        ensure!(
            began.elapsed() < PATIENCE,
            "silence goes unnoticed: {:?}",
            scene.proxy.requests()
        );
        thread::sleep(Duration::from_secs(1));
    }
    scene.proxy.heal();
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    scene.disk_untouched()
}

/// Does a job over a share that moves 256 KiB and then nothing for a second, in one attempt.
fn slowly(action: &str) -> Result<()> {
    let scene = Scene::with(Disk::noise(8 << 20, 73)?)?;
    if action == "restore" {
        scene.make_image()?;
        scene.disk.wreck()?;
    }
    scene.job(action, "attempts = 1\nretry-for = \"0s\"")?;
    let bursts = Fault::Bursts(256 << 10, Duration::from_secs(1));
    for method in ["GET", "PUT", "PATCH", "POST"] {
        scene.proxy.break_requests(method, IMAGE, bursts);
    }
    let began = Instant::now();
    let mut vm = Vm::start(scene.spec(&format!("slow-{action}"))?.idle())?;
    expect_success(&mut vm, action)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let took = began.elapsed();
    ensure!(took > Duration::from_secs(30), "nothing was slow: {took:?}");
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    scene.disk_untouched()
}

#[test]
fn a_slow_share_takes_a_backup() -> Result<()> {
    slowly("backup")
}

#[test]
fn a_slow_share_gives_a_restore() -> Result<()> {
    slowly("restore")
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
