//! Runs that end before any work: the reason is told, nothing is touched, and the job stays.

use super::site::{MIB, Site, names_below, noise};
use std::fs;
use std::time::Duration;

#[test]
fn a_place_without_the_marker_is_not_written_to() {
    let site = Site::with_disk(&noise(1, MIB));
    fs::remove_file(site.on_share("pitstop-share")).unwrap();
    site.set("backup", "");
    let ended = site.run();
    let line = &ended.finish.result_line;
    assert!(
        line.contains("is not the share: it has no file pitstop-share"),
        "{line}"
    );
    assert!(
        names_below(&site.on_share("")).is_empty(),
        "nothing is written to it"
    );
    assert!(site.host_file().exists());

    fs::write(site.on_share("testbox-backup"), "").unwrap();
    site.succeeds("backup");
}

#[test]
fn a_configuration_that_cannot_be_deleted_ends_the_run_before_any_work() {
    let site = Site::with_disk(&noise(1, MIB));
    site.set(
        "backup",
        "delete = [\"tftp://10.0.2.2/hosts/0A00020F.toml\"]\n",
    );
    site.fails(
        "backup",
        &["tftp://10.0.2.2/hosts/0A00020F.toml", "cannot be deleted"],
    );
    assert!(!site.on_share("10.0.2.15/sda.raw.gz").exists());
}

#[test]
fn a_machine_without_a_disk_says_so() {
    let site = Site::new();
    site.set("backup", "");
    site.fails(
        "backup",
        &["no fixed disk to work on; this machine shows no disk at all"],
    );
}

#[test]
fn a_host_file_that_makes_no_sense_is_told_on_the_share_it_names() {
    let site = Site::with_disk(&noise(1, MIB));
    site.set("backup", "dsiks = [\"sda\"]\nfailure-delay = \"3s\"\n");
    let ended = site.fails("backup", &["0A00020F.toml", "dsiks"]);
    assert_eq!(ended.finish.wait, Duration::from_secs(3));
    assert!(!site.on_share("10.0.2.15/sda.raw.gz").exists());
}

#[test]
fn an_unknown_parameter_is_told_on_the_share_that_the_host_file_names() {
    let content = noise(1, MIB);
    let site = Site::with_disk(&content);
    site.set("wipe", "method = \"zero\"\n");
    let host = site.host_file().display().to_string();
    let ended = site.run_with(&format!("pitstop.host=file://{host} pitstop.hurry=yes"));
    let line = &ended.finish.result_line;
    assert!(
        line.starts_with("pitstop: result failed wipe: ") && line.contains("pitstop.hurry"),
        "{line}"
    );
    for log in ["maintenance.log", "10.0.2.15/maintenance.log"] {
        assert!(site.text(log).contains(line.as_str()), "{log}");
    }
    assert!(site.host_file().exists());
    assert!(fs::read(site.fake.dev().join("sda")).unwrap() == content);
}

/// Whoever has to correct the job needs to see what there is.
#[test]
fn a_selector_of_no_disk_or_of_two_ends_the_run_with_what_there_is() {
    let site = Site::new();
    let disks = [("sda", noise(1, MIB)), ("sdb", noise(2, 2 * MIB))];
    for (name, content) in &disks {
        site.disk(name, "SAME", content);
    }
    for serial in ["NOT-THERE", "SAME"] {
        let of = format!("disks = [{{ serial = \"{serial}\" }}]\nmethod = \"zero\"\n");
        site.set("wipe", &of);
        site.fails("wipe", &[serial, "sda (", "sdb ("]);
    }
    for (name, content) in &disks {
        assert!(fs::read(site.fake.dev().join(name)).unwrap() == *content);
    }
}
