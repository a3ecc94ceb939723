//! Rounds: a job that each machine does once, and that nobody takes away; machines without a network.

use super::site::{MIB, Site, noise};
use super::*;
use pitstop_protocol::job::After;
use std::fs;

/// The machine's folder on the share without a network.
const HOME: &str = "52-54-00-12-34-56";

/// A machine without a network, its disk, and an image of another disk that every machine is to get.
fn site() -> (Site, PathBuf) {
    let mut site = Site::new();
    site.lease = Lease::offline([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    let node = site.disk("sda", "A", &noise(1, MIB));
    site.set("backup", "image = \"golden\"\n");
    site.succeeds("backup");
    fs::write(&node, noise(2, MIB)).unwrap();
    (site, node)
}

const ROUND: &str = "image = \"golden\"\nround = \"autumn\"\ndelete = []\n";

#[test]
fn a_machine_without_a_network_is_called_by_its_card() {
    let (site, _node) = site();
    let log = site.text("maintenance.log");
    assert!(
        log.contains("52:54:00:12:34:56: info: hi from 52:54:00:12:34:56"),
        "{log}"
    );
    assert!(!log.contains("0.0.0.0"), "{log}");
    let info = site.text(&format!("{HOME}/testbox-info.txt"));
    assert!(
        info.contains("MAC: 52:54:00:12:34:56") && !info.contains("IP:"),
        "{info}"
    );
    assert!(!site.on_share(HOME).join("00000000").exists());
    site.set("backup", "");
    site.succeeds("backup");
    assert!(site.on_share(HOME).join("sda.raw.gz").exists());
    fs::write(
        site.host_file(),
        "version = 1\naction = \"backup\"\nshare = \"http://10.0.0.1/share\"\nattempts = 1\n",
    )
    .unwrap();
    let line = site.run().finish.result_line;
    assert!(line.contains("uses none (ip=off): write ip=dhcp"), "{line}");
}

#[test]
fn each_machine_does_its_part_of_a_round_once_and_again_only_where_that_is_chosen() {
    let (mut site, node) = site();
    site.set("restore", ROUND);
    site.succeeds("restore");
    assert!(fs::read(&node).unwrap() == noise(1, MIB));
    assert!(site.host_file().exists(), "the next machine needs it");

    // The machine works on, and somebody boots the stick again, oftener than a job is tried.
    fs::write(&node, noise(3, MIB)).unwrap();
    for _ in 0..4 {
        let ended = site.run();
        let line = &ended.finish.result_line;
        assert!(
            line.starts_with("pitstop: result cancelled restore: this machine was through"),
            "{line}"
        );
        assert_eq!(ended.finish.then, After::Rescue);
    }
    assert!(fs::read(&node).unwrap() == noise(3, MIB));

    site.again = true;
    site.succeeds("restore");
    assert!(fs::read(&node).unwrap() == noise(1, MIB));

    // Another machine has not done it; nor this one another round.
    site.again = false;
    site.set("restore", &format!("{ROUND}on-success = \"poweroff\"\n"));
    assert_eq!(site.run().finish.then, After::Poweroff);
    fs::write(&node, noise(3, MIB)).unwrap();
    site.set("restore", &ROUND.replace("autumn", "winter"));
    site.succeeds("restore");
    site.lease.mac[5] = 0x57;
    site.set("restore", ROUND);
    site.succeeds("restore");
}

#[test]
fn a_round_that_failed_is_tried_again() {
    let (site, node) = site();
    let image = site.on_share("golden/sda.raw.gz");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    site.set("restore", ROUND);
    let line = site.run().finish.result_line;
    assert!(
        line.starts_with("pitstop: result failed restore: "),
        "{line}"
    );
    assert!(fs::read(&node).unwrap() == noise(2, MIB));
    fs::write(&image, &whole).unwrap();
    site.succeeds("restore");
    assert!(fs::read(&node).unwrap() == noise(1, MIB));
}

#[test]
fn of_two_machines_with_one_uuid_the_second_is_neither_done_nor_told_as_done() {
    let (mut site, node) = site();
    let uuid = "03000200-0400-0500-0006-000700080009\n";
    site.fake.write_sys("class/dmi/id/product_uuid", uuid);
    site.set("restore", ROUND);
    site.succeeds("restore");
    fs::write(&node, noise(3, MIB)).unwrap();
    site.lease.mac[5] = 0x57;
    site.set("restore", &format!("{ROUND}attempts = 2\n"));
    for then in [After::Reboot, After::Rescue] {
        let finish = site.run().finish;
        let line = &finish.result_line;
        assert!(
            line.contains("nobody can tell which: nothing was touched"),
            "{line}"
        );
        assert_eq!(finish.then, then, "it is tried as often as any job");
    }
    assert!(fs::read(&node).unwrap() == noise(3, MIB));
    site.again = true;
    site.succeeds("restore");
    assert!(fs::read(&node).unwrap() == noise(1, MIB));
}
