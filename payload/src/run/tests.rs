//! Whole runs, from the command line to the result line.

use super::reach::is_file_name;
use super::site::{Console, HOME, MIB, Site, names_below, noise};
use super::*;
use pitstop_protocol::fake::lease;
use pitstop_protocol::job::After;
use std::fs;

#[test]
fn a_disk_is_backed_up_wrecked_and_restored() {
    let content = noise(1, 3 * MIB);
    let site = Site::with_disk(&content);
    site.set("backup", "");
    let ended = site.succeeds("backup");
    assert_eq!(ended.finish.then, After::Reboot);
    assert!(!site.host_file().exists(), "the job is done once");
    assert!(
        ended
            .console
            .contains("read sda (QEMU HARDDISK, serial QM00001, 3.0 MiB) into sda.raw.gz")
    );
    for file in [
        "testbox7",
        "0A00020F",
        "testbox-info.txt",
        "testbox-info.zip",
        "inventory.json",
        "sda.raw.gz.toml",
    ] {
        assert!(site.on_share(HOME).join(file).exists(), "{file}");
    }
    assert!(!site.on_share("10.0.2.15/attempts.toml").exists());
    assert!(
        site.text("maintenance.log")
            .contains("10.0.2.15: info: pitstop: result ok backup")
    );
    site.nothing_half_made();

    let node = site.fake.dev().join("sda");
    fs::write(&node, vec![0xee; 3 * MIB]).unwrap();
    site.set("restore", "on-success = \"poweroff\"\n");
    let ended = site.succeeds("restore");
    assert_eq!(ended.finish.then, After::Poweroff);
    assert!(
        ended.console.contains("everything on sda is lost"),
        "{}",
        ended.console
    );
    assert!(fs::read(&node).unwrap() == content, "the disk is back");
}

#[test]
fn backup_refuses_where_an_image_is_and_backup_again_keeps_it() {
    let site = Site::with_disk(&noise(1, MIB));
    site.set("backup", "");
    site.succeeds("backup");
    let first = fs::read(site.on_share("10.0.2.15/sda.raw.gz")).unwrap();

    site.set("backup", "");
    site.fails(
        "backup",
        &["has an image of sda", "sda.raw.gz", "use backup-again"],
    );
    assert!(fs::read(site.on_share("10.0.2.15/sda.raw.gz")).unwrap() == first);

    fs::write(site.fake.dev().join("sda"), noise(2, MIB)).unwrap();
    site.set("backup-again", "");
    site.succeeds("backup-again");
    assert!(fs::read(site.on_share("10.0.2.15/sda.raw.gz.old")).unwrap() == first);
    assert!(fs::read(site.on_share("10.0.2.15/sda.raw.gz")).unwrap() != first);
    assert!(site.on_share("10.0.2.15/sda.raw.gz.old.toml").exists());
    assert!(site.on_share("10.0.2.15/sda.raw.gz.toml").exists());
    site.nothing_half_made();
}

#[test]
fn images_that_are_missing_or_not_whole_end_a_restore_with_the_disk_as_it_was() {
    let content = noise(1, 2 * MIB);
    let site = Site::with_disk(&content);
    let node = site.fake.dev().join("sda");
    site.set("restore", "");
    site.fails(
        "restore",
        &["no image for sda (QEMU HARDDISK, serial QM00001, 2.0 MiB)"],
    );

    site.set("backup", "");
    site.succeeds("backup");
    let image = site.on_share("10.0.2.15/sda.raw.gz");
    let whole = fs::read(&image).unwrap();
    let toml = site.on_share("10.0.2.15/sda.raw.gz.toml");

    site.set("restore", "");
    fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    site.fails("restore", &["sda.raw.gz"]);
    assert!(
        fs::read(&node).unwrap() == content,
        "truncated: nothing is written"
    );

    fs::remove_file(&toml).unwrap();
    fs::write(&image, noise(9, 4096)).unwrap();
    site.set("restore", "delta = false\n");
    site.fails("restore", &["sda.raw.gz", "not a gzip file"]);
    assert!(
        fs::read(&node).unwrap() == content,
        "not gzip: nothing is written"
    );

    let mut flipped = whole.clone();
    flipped[MIB / 2] ^= 0x10;
    fs::write(&image, flipped).unwrap();
    fs::write(&node, noise(3, 2 * MIB)).unwrap();
    site.set("restore", "verify = true\n");
    site.fails("restore", &["restoring sda", "sda.raw.gz"]);
    let now = fs::read(&node).unwrap();
    let boots_nothing = now[..MIB].iter().all(|byte| *byte == 0);
    assert!(boots_nothing, "a disk that is not whole has a table");
}

#[test]
fn a_disk_that_is_too_small_is_told_in_numbers_and_not_touched() {
    let site = Site::with_disk(&partitioned(1));
    site.set("backup", "");
    site.succeeds("backup");

    let smaller = Site::new();
    let node = smaller.disk("sda", "NEW", &noise(5, MIB));
    fs::create_dir_all(smaller.on_share(HOME)).unwrap();
    for file in ["sda.raw.gz", "sda.raw.gz.toml"] {
        fs::copy(
            site.on_share(HOME).join(file),
            smaller.on_share(HOME).join(file),
        )
        .unwrap();
    }
    smaller.set("restore", "");
    smaller.fails(
        "restore",
        &[
            "too small",
            "has 1048576 bytes",
            "its partition 2, contents unknown, ends at byte 3145728",
        ],
    );
    assert!(fs::read(&node).unwrap() == noise(5, MIB));
}

/// A disk of 4 MiB whose MBR has two partitions of a MiB each.
fn partitioned(seed: u64) -> Vec<u8> {
    let mut disk = noise(seed, 4 * MIB);
    disk[..512].fill(0);
    disk[3 * MIB..].fill(0);
    for (number, start) in [(0, 2048u32), (1, 4096)] {
        let entry = 446 + number * 16;
        disk[entry + 4] = 0x83;
        disk[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
        disk[entry + 12..entry + 16].copy_from_slice(&2048u32.to_le_bytes());
    }
    disk[440..444].copy_from_slice(b"disk");
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn what_becomes_of_single_partitions_is_told_or_refused_before_the_first_write() {
    let site = Site::with_disk(&partitioned(1));
    site.set("backup", "");
    site.succeeds("backup");
    let node = site.fake.dev().join("sda");
    let other = partitioned(2);
    fs::write(&node, &other).unwrap();

    site.set("restore", "keep = [3]\n");
    let there = "there are 1 (1.0 MiB at 1048576), 2 (1.0 MiB at 2097152)";
    site.fails(
        "restore",
        &[
            "restoring sda (",
            "from sda.raw.gz: ",
            "sda has no partition 3: ",
            there,
        ],
    );
    assert!(fs::read(&node).unwrap() == other);
    let published = site.text("10.0.2.15/plan.json");
    assert!(published.contains("\"do\": \"read\""), "{published}");

    site.set("restore", "keep = [2]\n");
    let ended = site.succeeds("restore");
    let told = "\n    partition 2 (1.0 MiB at 2097152) stays as it is\n";
    assert!(ended.console.contains(told), "{}", ended.console);
    let published = site.text("10.0.2.15/plan.json");
    assert!(
        published.contains("2 (1.0 MiB at 2097152) stays"),
        "{published}"
    );
    let now = fs::read(&node).unwrap();
    assert!(now[2 * MIB..3 * MIB] == other[2 * MIB..3 * MIB]);
    assert!(now[MIB..2 * MIB] == partitioned(1)[MIB..2 * MIB]);
    let when = |path: &std::path::Path| fs::metadata(path).unwrap().modified().unwrap();
    let info = site.on_share("10.0.2.15/testbox-info.txt");
    assert!(
        when(&info) >= when(&node),
        "the text is of the disk as it is now"
    );

    site.set("restore", "partitions = [1]\n");
    let ended = site.succeeds("restore");
    let told =
        "partition 1 (1.0 MiB at 1048576) of the image goes to partition 1 (1.0 MiB at 1048576)";
    assert!(ended.console.contains(told), "{}", ended.console);
}

#[test]
fn after_the_last_attempt_the_machine_holds_and_the_count_is_gone() {
    let site = Site::new();
    site.set("backup", "attempts = 2\nfailure-delay = \"7s\"\n");
    let first = site.fails("backup", &["no fixed disk"]);
    assert_eq!(
        (first.finish.then, first.finish.wait),
        (After::Reboot, Duration::from_secs(7))
    );
    assert!(site.text("10.0.2.15/attempts.toml").contains("begun = 1"));
    let second = site.fails("backup", &["no fixed disk"]);
    assert_eq!(
        (second.finish.then, second.finish.wait),
        (After::Rescue, Duration::ZERO)
    );
    assert!(
        !site.on_share("10.0.2.15/attempts.toml").exists(),
        "a power cycle tries afresh"
    );
    let policy = site.policies.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (policy.attempt, policy.attempts, policy.action.as_str()),
        (2, 2, "backup")
    );
    assert!(policy.share.is_some());
}

#[test]
fn disks_that_changed_names_get_their_own_images() {
    let (a, b) = (noise(1, MIB), noise(2, MIB));
    let before = Site::new();
    before.disk("sda", "A", &a);
    before.disk("sdb", "B", &b);
    before.set("backup", "");
    before.succeeds("backup");

    let after = Site::new();
    after.disk("sda", "B", &vec![0; MIB]);
    after.disk("sdb", "A", &vec![0; MIB]);
    fs::create_dir_all(after.on_share(HOME)).unwrap();
    for file in names_below(&before.on_share(HOME)) {
        fs::copy(&file, after.on_share(HOME).join(file.file_name().unwrap())).unwrap();
    }
    after.set("restore", "");
    after.succeeds("restore");
    assert!(fs::read(after.fake.dev().join("sda")).unwrap() == b);
    assert!(fs::read(after.fake.dev().join("sdb")).unwrap() == a);

    // Descriptions that were exchanged change nothing: the images know what they are of.
    let beside =
        ["sda", "sdb"].map(|name| after.on_share(HOME).join(format!("{name}.raw.gz.toml")));
    let texts = beside.each_ref().map(|file| fs::read(file).unwrap());
    fs::write(&beside[0], &texts[1]).unwrap();
    fs::write(&beside[1], &texts[0]).unwrap();
    after.set("restore", "");
    after.succeeds("restore");
    assert!(fs::read(after.fake.dev().join("sda")).unwrap() == b);
    assert!(fs::read(after.fake.dev().join("sdb")).unwrap() == a);
    let log = after.text("10.0.2.15/maintenance.log");
    assert!(log.contains("sda.raw.gz.toml is of another image"), "{log}");
}

#[test]
fn the_list_on_the_share_keeps_a_disk_out_of_a_backup() {
    let site = Site::with_disk(&noise(1, MIB));
    site.disk("sdb", "DATA", &noise(2, MIB));
    fs::create_dir_all(site.on_share(HOME)).unwrap();
    fs::write(
        site.on_share("10.0.2.15/disk-devices.lst"),
        "# system only\nQM00001\n",
    )
    .unwrap();
    site.set("backup", "");
    let ended = site.succeeds("backup");
    assert!(
        ended.console.contains("not in disk-devices.lst"),
        "{}",
        ended.console
    );
    assert!(!site.on_share("10.0.2.15/sdb.raw.gz").exists());
}

#[test]
fn refresh_info_writes_the_files_and_rescue_deletes_nothing() {
    let site = Site::with_disk(&noise(1, MIB));
    site.set("refresh-info", "");
    site.succeeds("refresh-info");
    assert!(
        site.text("10.0.2.15/testbox-info.txt")
            .contains("serial QM00001")
    );
    assert!(!site.host_file().exists());

    site.set("rescue", "");
    let ended = site.succeeds("rescue");
    assert_eq!(ended.finish.then, After::Rescue);
    assert!(site.host_file().exists());
}

#[test]
fn a_crash_is_logged_where_the_policy_says() {
    let site = Site::new();
    fs::create_dir_all(site.on_share(HOME)).unwrap();
    fs::write(
        site.on_share("10.0.2.15/attempts.toml"),
        "digest = 'x'\nbegun = 3\n",
    )
    .unwrap();
    let policy = CrashPolicy {
        action: "restore".into(),
        attempt: 3,
        share: Some(format!("file://{}", site.on_share("").display())),
        ..CrashPolicy::default()
    };
    let console = Console::default();
    let finish = after_crash(&lease(), &policy, "killed by signal 9", &console);
    assert_eq!(
        finish.result_line,
        "pitstop: result failed restore: killed by signal 9"
    );
    assert_eq!(finish.then, After::Rescue);
    assert!(site.text("maintenance.log").contains(&finish.result_line));
    assert!(
        site.text("10.0.2.15/maintenance.log")
            .contains(&finish.result_line)
    );
    assert!(!site.on_share("10.0.2.15/attempts.toml").exists());
    assert_eq!(*console.0.lock().unwrap(), "");
}

#[test]
fn a_host_name_from_the_network_cannot_choose_any_file() {
    for name in ["testbox7", "a.example.org", "x_1"] {
        assert!(is_file_name(name), "{name}");
    }
    for name in [
        "",
        "..",
        ".x",
        "a/b",
        "a\\b",
        "maintenance.log",
        "sda.raw.gz",
        "x\n",
        "attempts.toml",
    ] {
        assert!(!is_file_name(name), "{name}");
    }
}
