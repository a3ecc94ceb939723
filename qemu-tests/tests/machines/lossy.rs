//! Networks that lose frames: slower, and nothing else.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::lossy::LossyWire;
use qemu_tests::scene::{IMAGE, expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:00:58";
const ADDRESS: &str = "10.77.0.58";
const HEX_ADDRESS: &str = "0A4D003A";

/// A disk, and a server behind a bad cable which has everything of DHCP, TFTP and HTTP.
struct BadCable {
    disk: Disk,
    server: Server,
    _dnsmasq: Dnsmasq,
    namespace: Namespace,
    _root: tempfile::TempDir,
}

impl BadCable {
    fn new() -> Result<BadCable> {
        let namespace = Namespace::new()?;
        let root = tempfile::tempdir()?;
        namespace.tap("tap0")?;
        Ok(BadCable {
            disk: Disk::noise(16 << 20, 58)?,
            server: Server::start_in(root.path(), Some(&namespace))?,
            _dnsmasq: Dnsmasq::start(&namespace, MAC, ADDRESS, None, "none")?,
            namespace,
            _root: root,
        })
    }

    /// Does one job while so many per cent of the frames are lost. Its host file comes by TFTP, in two dozen blocks.
    fn job(&self, action: &str, percent: u64) -> Result<()> {
        let url = format!("http://{}:8080", Namespace::ADDRESS);
        let file = format!("hosts/{HEX_ADDRESS}.toml");
        fs::write(
            self.server.root().join(&file),
            format!(
                "version = 1\naction = \"{action}\"\nattempts = 1\nshare = \"{url}/share\"\n\
                 delete = [\"{url}/{file}\"]\n{}",
                "# a comment of thirty-two bytes\n".repeat(1000)
            ),
        )?;
        let hosts = format!("tftp://{}/hosts/", Namespace::ADDRESS);
        let boot = payload(&format!("pitstop.host={hosts}"))?;
        let network = Network::Tap {
            namespace: self.namespace.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        };
        let wire = LossyWire::lay(&network, percent, percent)?;
        let spec = Spec::new(&format!("loss-{percent}-{action}"), boot)
            .disk(&self.disk, Bus::Virtio, "LOSSY001")
            .plugged(wire.card());
        let mut vm = Vm::start(spec)?;
        vm.sees(&format!("the host file is {hosts}{HEX_ADDRESS}.toml"))?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
        // Half of the acknowledgements may be saved; the data is 12,000 frames.
        let least = 12_000 * percent / 200;
        ensure!(
            wire.lost() > least,
            "no more than {} frames were lost",
            wire.lost()
        );
        Ok(())
    }
}

#[test]
fn a_backup_through_1_percent_of_loss_and_a_restore_through_5_are_right() -> Result<()> {
    let cable = BadCable::new()?;
    let before = cable.disk.digest()?;
    cable.job("backup", 1)?;
    let image = cable.server.share().join(ADDRESS).join(IMAGE);
    compare::zcat_equals(&image, cable.disk.path())?;
    cable.disk.wreck()?;
    cable.job("restore", 5)?;
    ensure!(
        cable.disk.digest()? == before,
        "the disk is not what it was"
    );
    Ok(())
}
