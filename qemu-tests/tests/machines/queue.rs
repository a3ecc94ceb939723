//! Several machines, set by one command, that take turns.

use anyhow::{Context, Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, Network, PATIENCE, Spec, Vm};
use std::fs;

const MACHINES: u8 = 4;
const FLEET: &str = "version = 1\n[server]\nslots = 2\n[network.\"10.77.0.0/24\"]\n[group.lab]\nmatch = \"lab-*\"\n\
    [host.\"lab-[1-4]\"]\nmac = \"52:54:00:77:02:[01-04]\"\n";

fn machine(network: &Namespace, disk: &Disk, number: u8) -> Result<Spec> {
    let interface = format!("tap{number}");
    network.tap(&interface)?;
    let host = format!("pitstop.host=http://{}:8080/hosts/", Namespace::ADDRESS);
    Ok(Spec::new(&format!("queue-{number}"), payload(&host)?)
        .memory(256)
        .disk(disk, Bus::Virtio, &format!("QUEUE{number}"))
        .network(Network::Tap {
            namespace: network.path(),
            interface,
            mac: format!("52:54:00:77:02:{number:02}"),
        }))
}

#[test]
fn four_machines_take_turns_on_two_slots() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("fleet.toml"), FLEET)?;
    let network = Namespace::new()?;
    let _dnsmasq = Dnsmasq::run(&network, &["--dhcp-range=10.77.0.50,10.77.0.60,1h"])?;
    let server = Server::start_in(&root, Some(&network))?;
    // Slow enough that the last ones come while the first ones work: a minute and a half each.
    let job = ["set", "@lab", "backup", "--image", "{hostname}"];
    server.host(&[&job[..], &["--rate-limit", "256KiB/s"]].concat())?;
    let disks = (1..=MACHINES)
        .map(|number| Disk::noise(24 << 20, number.into()))
        .collect::<Result<Vec<_>>>()?;
    let mut specs = Vec::new();
    for (number, disk) in (1..).zip(&disks) {
        specs.push(machine(&network, disk, number)?);
    }

    let mut specs = specs.into_iter();
    let mut next = || specs.next().context("there are four machines");
    let first = Vm::start(next()?)?;
    let mut machines = vec![first];
    for _ in 1..MACHINES {
        machines.push(machines[0].start_beside(next()?)?);
    }
    // Which of them come first is theirs.
    let mut waiting = 0;
    for vm in &mut machines {
        let come = ["attempt 1 of 3", "waiting for a slot: "];
        let line = vm.console.wait_for_any(&come, PATIENCE)?;
        waiting += usize::from(line.contains(come[1]));
    }
    ensure!(waiting == 2, "{waiting} wait for a slot");
    let list = server.pitstop("job", &["list", "@lab"])?;
    ensure!(list.matches(" running ").count() == 2, "{list}");
    ensure!(list.matches(" queued ").count() == 2, "{list}");
    for vm in &mut machines {
        expect_success(vm, "backup")?;
    }
    server.pitstop("job", &["wait", "@lab", "--timeout", "10m"])?;
    for number in 1..=MACHINES {
        let image = server.share().join(format!("lab-{number}/vda.raw.gz"));
        ensure!(image.is_file(), "there is no {}", image.display());
    }
    ensure!(
        fs::read_dir(server.hosts())?.next().is_none(),
        "a job is done, and its host file is still there"
    );
    Ok(())
}
