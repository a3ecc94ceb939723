//! A machine with a BMC: one command, and no hand.

use anyhow::{Context, Result, ensure};
use qemu_tests::bmc::{Bmc, PASSWORD, USER};
use qemu_tests::disks::Disk;
use qemu_tests::paths::Payload;
use qemu_tests::scene::expect_success;
use qemu_tests::site::{Firmware, Site};
use qemu_tests::vm::{HEX_ADDRESS, Network, PATIENCE, Vm};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

#[test]
fn one_command_switches_a_machine_into_its_job() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = Site::new(
        &folder.path().join("root"),
        Firmware::SeaBiosIpxe,
        Payload::Cloud,
    )?;
    let bmc = Bmc::start(true)?;
    let root = site.server.root();
    let fleet = format!(
        "version = 1\n[network.\"10.0.2.0/24\"]\n[host.lab3-01]\nip = {:?}\npower = {:?}\n",
        site.address,
        bmc.url()
    );
    fs::write(root.join("fleet.toml"), fleet)?;
    let credentials = root.join("credentials.toml");
    fs::write(
        &credentials,
        format!("[default]\nuser = {USER:?}\npassword = {PASSWORD:?}\n"),
    )?;
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600))?;

    // It runs, by itself, and boots nothing from a network.
    let disk = Disk::noise(16 << 20, 7)?;
    let running = Vm::start(site.machine("bmc-before", &disk).network(Network::user()))?;
    let mut vm = thread::scope(|scope| -> Result<Vm> {
        let command = scope.spawn(|| {
            site.server
                .host(&["set", "lab3-01", "backup", "--power", "cycle"])
        });
        bmc.is_told(false)?;
        running.cut_power()?;
        bmc.is_now(false)?;
        bmc.is_told(true)?;
        ensure!(
            bmc.next_boot_is_from_the_network(),
            "it would boot its disk"
        );
        // As a BMC has it: power is on at once, whatever the machine does then. This one may have to wait for its turn.
        bmc.is_now(true)?;
        let vm = Vm::start(site.machine("bmc-job", &disk))?;
        let said = command.join().ok().context("the command panicked")??;
        ensure!(said.ends_with("lab3-01  on\n"), "{said}");
        Ok(vm)
    })?;
    expect_success(&mut vm, "backup")?;
    vm.wait_for_reset(PATIENCE)?;
    ensure!(
        site.folder().join("vda.raw.gz").is_file(),
        "there is no image"
    );
    ensure!(
        !site
            .server
            .hosts()
            .join(HEX_ADDRESS.to_owned() + ".toml")
            .exists(),
        "the job is done, and its configuration is still there"
    );
    Ok(())
}
