//! A room gets what one machine of it has, and each of its machines goes on from its own disk.

use anyhow::{Result, bail, ensure};
use qemu_tests::disks::{Disk, HOME};
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::servers::{Namespace, Server};
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const ROOM: u8 = 3;
/// Of each machine's line, in both directions; that of the one whose image it is has less.
const MBIT: u32 = 40;
const MBIT_GOLDEN: u32 = 20;
/// Three rounds of the image, the last with its end.
const SIZE: u64 = 48 << 20;
const ROUND: u64 = 16 << 20;
const FLEET: &str = "version = 1\n[network.\"10.77.0.0/24\"]\nrange = \"10.77.0.100-10.77.0.120\"\n\
    [group.room]\n\
    [host.golden]\nmac = \"52:54:00:77:03:09\"\nip = \"10.77.0.20\"\ngroups = [\"room\"]\n\
    [host.\"room-[1-3]\"]\nmac = \"52:54:00:77:03:[01-03]\"\nip = \"10.77.0.[21-23]\"\ngroups = [\"room\"]\n";

/// A machine of 256 MB with this disk.
fn machine(network: &Namespace, name: &str, boot: Boot, disk: &Disk, number: u8) -> Spec {
    Spec::new(name, boot)
        .memory(256)
        .disk(disk, Bus::Virtio, &format!("ROOM{number}"))
        .network(Network::Tap {
            namespace: network.path(),
            interface: format!("tap{number}"),
            mac: format!("52:54:00:77:03:{number:02}"),
        })
}

/// Waits until there is so much of a file.
fn wait_for_size(path: &Path, size: u64) -> Result<()> {
    let began = Instant::now();
    while fs::metadata(path).map_or(0, |file| file.len()) < size {
        ensure!(
            began.elapsed() < PATIENCE,
            "{} does not grow",
            path.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Its image does not exist when the room is told to restore it: the machines wait for it. They write what is there of it while
/// it is still being made, and have it from each other.
#[test]
fn three_machines_follow_a_fourth_from_the_network_to_their_own_disks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("fleet.toml"), FLEET)?;
    let network = Namespace::new()?;
    let server = Server::start_with_dhcp(&root, &network, "server")?;
    // All of it is noise, which no table and no filesystem speaks for.
    server.host(&["set", "golden", "backup", "--exact"])?;
    let told = server.host(&["set", "@room", "restore", "--from", "golden", "--follow"])?;
    ensure!(
        told.contains("room-3") && told.contains("each waits until golden"),
        "{told}"
    );

    let disks = (1..=ROOM)
        .map(|_| Disk::blank(SIZE))
        .collect::<Result<Vec<_>>>()?;
    let host = format!("pitstop.host=http://{}:8080/hosts/", Namespace::ADDRESS);
    let mut machines: Vec<Vm> = Vec::new();
    for (number, disk) in (1..).zip(&disks) {
        network.slow_tap(&format!("tap{number}"), MBIT)?;
        let name = format!("room-{number}");
        let machine = |boot| machine(&network, &name, boot, disk, number);
        machines.push(match machines.first() {
            None => Vm::start(machine(Boot::SeaBios).keep_going())?,
            // What firmware does with the others is the same.
            Some(first) => first.start_beside(machine(payload(&host)?))?,
        });
    }
    for vm in &mut machines {
        vm.sees("waiting: golden is to be backed up first")?;
    }
    let golden = Disk::noise_that_boots(SIZE, 15)?;
    network.slow_tap("tap9", MBIT_GOLDEN)?;
    let spec = machine(&network, "room-golden", payload(&host)?, &golden, 9);
    let mut vm = machines[0].start_beside(spec)?;
    let upload = root.join("share/10.77.0.20/vda.raw.gz.new.part");
    wait_for_size(&upload, ROUND + (1 << 20))?;
    vm.stands_still()?;
    for vm in &mut machines {
        vm.sees("MiB of it are on this machine's disk")?;
    }
    ensure!(upload.exists(), "the backup was done before its time");
    vm.goes_on()?;
    expect_success(&mut vm, "backup")?;
    for vm in &mut machines {
        expect_success(vm, "restore")?;
    }
    let [first, others @ ..] = machines.as_mut_slice() else {
        bail!("nobody is in the room");
    };
    for vm in others {
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    }
    first.wait_for_reset(PATIENCE)?;
    first.sees("Pitstop: no job")?;
    first.sees(HOME)?;
    for (number, disk) in (1..).zip(&disks) {
        ensure!(
            disk.digest()? == golden.digest()?,
            "room-{number} has another disk"
        );
    }
    let log = fs::read_to_string(server.root().join("serve.log"))?;
    ensure!(
        log.matches(" takes part").count() >= 3,
        "not all took part:\n{log}"
    );
    let mut ends = log.lines().filter(|line| line.contains(" has all: "));
    ensure!(
        ends.any(|line| !line.ends_with("; 0 B sent on")),
        "nobody sent anything on:\n{log}"
    );
    Ok(())
}
