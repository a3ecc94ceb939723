//! Networks of their own in a namespace: frames larger than usual, and DHCPv6 with nothing of IPv4.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::scene::{IMAGE, expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use qemu_tests::wire::Wire;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MAC: &str = "52:54:00:77:00:59";
const ADDRESS: &str = "10.77.0.59";
const HEX_ADDRESS: &str = "0A4D003B";
const ADDRESS6: &str = "2001:db8:77::59";

fn tap(namespace: &Namespace) -> Network {
    Network::Tap {
        namespace: namespace.path(),
        interface: "tap0".into(),
        mac: MAC.into(),
    }
}

#[test]
fn dhcp_for_ipv6_alone_leads_from_the_address_to_the_deleted_host_file() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.add_ipv6()?;
    namespace.tap("tap0")?;
    let root = tempfile::tempdir()?;
    let server = Server::start_on_ipv6(root.path(), &namespace)?;
    let disk = Disk::noise(8 << 20, 59)?;
    let base = format!("http://[{}]:8080", Namespace::ADDRESS6);
    let configuration = server.hosts().join("20010DB8007700000000000000000059.toml");
    fs::write(
        &configuration,
        format!("version = 1\naction = \"backup\"\nshare = \"{base}/share\"\n"),
    )?;
    // A range, and not the router's word alone: its announcements say that addresses are managed (RFC 4861 4.2).
    let _dnsmasq = Dnsmasq::run(
        &namespace,
        &[
            "--enable-ra",
            "--ra-param=br0,4",
            &format!("--dhcp-range={ADDRESS6},{ADDRESS6},64,1h"),
            &format!("--dhcp-option=option6:bootfile-url,{base}/hosts/"),
        ],
    )?;
    let spec = Spec::new("ipv6-managed", payload("ip=dhcp6")?)
        .network(tap(&namespace))
        .disk(&disk, Bus::Virtio, "LINKS001");
    let mut vm = Vm::start(spec)?;
    vm.sees(&format!("eth0 is {ADDRESS6} by DHCPv6"))?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(!configuration.exists(), "the configuration is still there");
    let folder = server.share().join(ADDRESS6.replace(':', "-"));
    compare::zcat_equals(&folder.join(IMAGE), disk.path())
}

const JUMBO: u16 = 9000;

/// The length of an Ethernet header (IEEE 802.3 3.1.1).
const HEADER: usize = 14;

/// The longest frame seen, from the machine and to it.
type Longest = Arc<[AtomicUsize; 2]>;

/// A cable that lets everything through and notes the longest.
fn measuring(network: &Network, longest: &Longest) -> Result<Wire> {
    let measure = |direction: usize| {
        let longest = Arc::clone(longest);
        move |frame: &[u8]| {
            longest[direction].fetch_max(frame.len(), Ordering::Relaxed);
            Some(frame.to_vec())
        }
    };
    Wire::lay(network, measure(0), measure(1))
}

/// A job so long that it takes more than one large frame.
fn long_job(file: &Path, share: &str) -> Result<()> {
    let comment = "# a comment of thirty-two bytes\n".repeat(2000);
    let job = format!("version = 1\naction = \"backup\"\nshare = \"{share}\"\n{comment}");
    Ok(fs::write(file, job)?)
}

/// Backs a disk up over a network of jumbo frames, and sees that they were used in both directions.
fn backed_up_by_jumbo_frames(name: &str, option: &str, parameters: &str) -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.tap("tap0")?;
    namespace.set_mtu("tap0", JUMBO)?;
    let root = tempfile::tempdir()?;
    let server = Server::start_in(root.path(), Some(&namespace))?;
    let range = format!("--dhcp-range={ADDRESS},{ADDRESS},1h");
    let _dnsmasq = Dnsmasq::run(&namespace, &[&range, option])?;
    let base = format!("http://{}:8080", Namespace::ADDRESS);
    let file = server.hosts().join(format!("{HEX_ADDRESS}.toml"));
    long_job(&file, &format!("{base}/share"))?;
    let disk = Disk::noise(8 << 20, 60)?;
    let longest = Longest::default();
    let wire = measuring(&tap(&namespace), &longest)?;
    let boot = payload(&format!("pitstop.host={base}/hosts/ {parameters}"))?;
    let spec = Spec::new(name, boot)
        .disk(&disk, Bus::Virtio, "LINKS002")
        .plugged(wire.card());
    let mut vm = Vm::start(spec)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    for (direction, length) in ["from the machine", "to it"].iter().zip(&*longest) {
        let length = length.load(Ordering::Relaxed);
        ensure!(
            length == usize::from(JUMBO) + HEADER,
            "the longest frame {direction} had {length} bytes"
        );
    }
    compare::zcat_equals(&server.share().join(ADDRESS).join(IMAGE), disk.path())
}

#[test]
fn jumbo_frames_carry_the_work_where_dhcp_says_so() -> Result<()> {
    backed_up_by_jumbo_frames("jumbo-dhcp", "--dhcp-option=option:mtu,9000", "")
}

#[test]
fn jumbo_frames_carry_the_work_where_ip_says_so() -> Result<()> {
    let address = format!("ip={ADDRESS}::{}:24::eth0:none:{JUMBO}", Namespace::ADDRESS);
    backed_up_by_jumbo_frames("jumbo-ip", "--dhcp-option=option:mtu,1500", &address)
}
