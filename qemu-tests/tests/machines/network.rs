//! What the network tells, and does to, a machine: where its job is, what time it is.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use qemu_tests::compare;
use qemu_tests::https::Https;
use qemu_tests::scene::{IMAGE, Scene, expect_failure, expect_success, payload};
use qemu_tests::tagged::trunk;
use qemu_tests::vm::{ADDRESS, Boot, End, HOST, Network, PATIENCE, Spec, Vm};
use qemu_tests::wire::Wire;
use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// The scene's machine on a port where everything is tagged.
fn on_trunk(scene: &Scene, trunk: &Wire, name: &str, parameters: &str) -> Result<Vm> {
    let spec = scene.spec_with(name, parameters)?;
    Vm::start(spec.plugged(trunk.card()))
}

#[test]
fn a_tagged_network_gives_an_address_and_a_job() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let trunk = trunk(42)?;
    let mut vm = on_trunk(&scene, &trunk, "vlan", "vlan=42")?;
    vm.sees("eth0.42 is 10.0.2.15/24 by DHCP")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn a_static_address_stands_on_a_vlan_as_dracut_names_it() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let trunk = trunk(42)?;
    let address = format!("ip={ADDRESS}::{HOST}:24::vlan0042:none vlan=vlan0042:eth0");
    let mut vm = on_trunk(&scene, &trunk, "vlan-static", &address)?;
    vm.sees("vlan0042 is 10.0.2.15 by ip=")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

/// The host, as QEMU's user network shows it over IPv6.
const HOST6: &str = "[fec0::2]";

/// Passes connections to the IPv6 loopback on to a port of the IPv4 one.
fn over_ipv6(port: u16) -> Result<u16> {
    let listener = TcpListener::bind("[::1]:0")?;
    let seen = listener.local_addr()?.port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            for (mut from, mut to) in both_ways(near, far).into_iter().flatten() {
                thread::spawn(move || {
                    // Whichever side ends, ends it for both: a broken connection is the machine's to see.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    Ok(seen)
}

fn both_ways(near: TcpStream, far: TcpStream) -> io::Result<[(TcpStream, TcpStream); 2]> {
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    Ok([(near, far), (far_too, near_too)])
}

/// The scene's machine on a network that has IPv6 alone, with the job in this host file.
fn on_ipv6(scene: &Scene, name: &str, file: &str, parameters: &str) -> Result<Vm> {
    let url = format!("http://{HOST6}:{}", over_ipv6(scene.proxy.port())?);
    fs::write(
        scene.server.hosts().join(file),
        format!("version = 1\naction = \"backup\"\nshare = \"{url}/share\"\n"),
    )?;
    let mut spec = scene.spec(name)?.network(Network::None);
    // It may wait for a minute.
    spec.idle = parameters.is_empty();
    spec.boot = payload(&format!("pitstop.host={url}/hosts/ {parameters}"))?;
    Vm::start(spec.extra(&[
        "-netdev",
        "user,id=wire,ipv4=off,ipv6=on",
        "-device",
        "virtio-net-pci,netdev=wire,romfile=",
    ]))
}

/// Sees a backup over IPv6, which ends up in this folder and whose host file is gone.
fn backed_up_over_ipv6(scene: &Scene, vm: &mut Vm, file: &str, folder: &str) -> Result<()> {
    expect_success(vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(
        !scene.server.hosts().join(file).exists(),
        "the configuration is still there"
    );
    let image = scene.server.share().join(folder).join(IMAGE);
    compare::zcat_equals(&image, scene.disk.path())
}

/// What the kernel makes of QEMU's announcement and its first MAC address.
const ANNOUNCED: &str = "fec0::5054:ff:fe12:3456";

#[test]
fn a_network_of_ipv6_alone_is_found_out() -> Result<()> {
    let scene = Scene::new()?;
    let mut vm = on_ipv6(&scene, "ipv6", "01-52-54-00-12-34-56.toml", "")?;
    vm.sees("no DHCP answer on eth0 after 1m")?;
    vm.sees(&format!("eth0 is {ANNOUNCED}/64 as IPv6 routers"))?;
    let folder = ANNOUNCED.replace(':', "-");
    backed_up_over_ipv6(&scene, &mut vm, "01-52-54-00-12-34-56.toml", &folder)
}

#[test]
fn auto6_asks_no_dhcp_and_the_address_names_the_host_file() -> Result<()> {
    let scene = Scene::new()?;
    let file = "FEC0000000000000505400FFFE123456.toml";
    let mut vm = on_ipv6(&scene, "ipv6-auto", file, "ip=auto6")?;
    vm.sees(&format!("eth0 is {ANNOUNCED}/64 as IPv6 routers"))?;
    let folder = ANNOUNCED.replace(':', "-");
    backed_up_over_ipv6(&scene, &mut vm, file, &folder)
}

#[test]
fn a_static_ipv6_address_needs_nobody() -> Result<()> {
    let scene = Scene::new()?;
    let file = "FEC00000000000000000000000000077.toml";
    let address = "ip=[fec0::77]::[fec0::2]:64::eth0:none";
    let mut vm = on_ipv6(&scene, "ipv6-static", file, address)?;
    vm.sees("eth0 is fec0::77 by ip=")?;
    backed_up_over_ipv6(&scene, &mut vm, file, "fec0--77")
}

/// A time server on the loopback: stratum 2, and the time of this computer (RFC 4330 5).
fn time_server() -> Result<u16> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        let mut question = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
            let seconds = since_1970.map_or(0, |time| time.as_secs());
            let mut answer = [0; 48];
            answer[..2].copy_from_slice(&[4 << 3 | 4, 2]);
            answer[24..32].copy_from_slice(&question[40..]);
            let stamp = ((seconds + 2_208_988_800) << 32).to_be_bytes();
            answer[32..40].copy_from_slice(&stamp);
            answer[40..].copy_from_slice(&stamp);
            // A machine that is gone needs no answer.
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(port)
}

/// The scene's machine with its clock at `rtc` and one time server.
fn with_clock(scene: &Scene, rtc: &str, port: u16) -> Result<Spec> {
    scene.job("refresh-info", "")?;
    let name = format!("clock-{}", &rtc[..4]);
    let spec = scene.spec_with(&name, &format!("pitstop.ntp={HOST}:{port}"))?;
    Ok(spec.extra(&["-rtc", &format!("base={rtc}")]))
}

/// The time of the last line in the share's log.
fn logged_time(scene: &Scene) -> Result<Timestamp> {
    let text = fs::read_to_string(scene.server.share().join("maintenance.log"))?;
    let line = text.lines().last().context("the log is empty")?;
    let (time, _) = line
        .split_once(": ")
        .context("a line begins with its time")?;
    Ok(time.parse()?)
}

#[test]
fn a_clock_at_1970_or_2099_is_set_by_a_time_server() -> Result<()> {
    let port = time_server()?;
    for rtc in ["1970-01-01T00:00:00", "2099-12-31T00:00:00"] {
        let scene = Scene::new()?;
        let mut vm = Vm::start(with_clock(&scene, rtc, port)?)?;
        let line = vm.sees("the clock is set to ")?;
        ensure!(line.contains(HOST), "{line}");
        // QEMU's own arithmetic makes 2063 of 2099.
        let before = if rtc < "2000" {
            "it said 202"
        } else {
            "it said 2063-"
        };
        ensure!(line.contains(before), "{line}");
        expect_success(&mut vm, "refresh-info")?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        let apart = logged_time(&scene)?.duration_since(Timestamp::now());
        ensure!(
            apart.unsigned_abs() < Duration::from_secs(300),
            "with its clock at {rtc} the machine was wrong by {apart:?}"
        );
    }
    Ok(())
}

/// The scene's machine with its clock at `rtc`, a time server that says nothing, and a host file over HTTPS.
fn told_over_https(scene: &Scene, https: &Https, rtc: &str, silent: u16) -> Result<Vm> {
    let share = scene.url("/share");
    fs::write(
        https.files().join("host.toml"),
        format!("version = 1\naction = \"refresh-info\"\nshare = \"{share}\"\n"),
    )?;
    let mut spec = scene.spec(&format!("https-{}", &rtc[..4]))?;
    let host = https.url("host.toml");
    let parameters = format!("pitstop.host={host} pitstop.ntp={HOST}:{silent}");
    spec.boot = match payload(&parameters)? {
        Boot::Direct {
            kernel,
            command_line,
            ..
        } => Boot::Direct {
            kernel,
            initrd: https.initramfs()?,
            command_line,
        },
        other => other,
    };
    Vm::start(spec.extra(&["-rtc", &format!("base={rtc}")]))
}

/// A clock that is dead is at least at the time of the build, which is enough for certificates.
#[test]
fn https_works_with_a_clock_at_1970_and_tells_one_in_2099() -> Result<()> {
    let silent = UdpSocket::bind(("127.0.0.1", 0))?;
    let port = silent.local_addr()?.port();
    let scene = Scene::new()?;
    let https = Https::start()?;
    let mut vm = told_over_https(&scene, &https, "1970-01-01T00:00:00", port)?;
    vm.sees("no answer in time; the clock stays at 20")?;
    expect_success(&mut vm, "refresh-info")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let logged = logged_time(&scene)?;
    // When the code was committed that the machine runs.
    ensure!(
        logged > "2026-01-01T00:00:00Z".parse()? && logged < Timestamp::now(),
        "the machine believed it to be {logged}"
    );
    ensure!(
        !https.files().join("host.toml").exists(),
        "the configuration is still there"
    );
    drop(vm);
    // QEMU's own arithmetic makes 2063 of 2099; the certificate ends in 2050.
    let mut vm = told_over_https(&scene, &https, "2099-12-31T00:00:00", port)?;
    let wanted = ["expired", "this machine's clock says 2063-"];
    expect_failure(&mut vm, "unknown", &wanted)?;
    scene.disk_untouched()
}
