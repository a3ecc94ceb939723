//! Machines and disks that are not what the folder's name or the disk's name make believe.

use super::site::{HOME, MIB, Site, names_below, noise};
use std::fs;
use std::path::Path;

const A: &str = "4c4c4544-0044-4210-8053-b7c04f4d3132";
const B: &str = "33221100-5544-7766-8899-aabbccddeeff";

fn machine(uuid: &str, serial: &str, content: &[u8]) -> Site {
    let site = Site::new();
    site.fake.write_sys("class/dmi/id/product_uuid", uuid);
    site.disk("sda", serial, content);
    site
}

/// The folder of one machine becomes another's, which got its address.
fn hand_over(from: &Site, to: &Site) {
    fs::create_dir_all(to.on_share(HOME)).unwrap();
    for file in names_below(&from.on_share(HOME)) {
        fs::copy(&file, to.on_share(HOME).join(file.file_name().unwrap())).unwrap();
    }
}

fn backed_up(uuid: &str) -> Site {
    let site = machine(uuid, "DISK-A", &noise(1, MIB));
    site.set("backup", "");
    site.succeeds("backup");
    site
}

fn content(site: &Site, name: &str) -> Vec<u8> {
    fs::read(site.fake.dev().join(name)).unwrap()
}

/// A disk with a partition, told by its table's signature alone.
fn twin(signature: [u8; 4], seed: u64) -> Vec<u8> {
    let mut disk = noise(seed, 2 * MIB);
    disk[..512].fill(0);
    disk[440..444].copy_from_slice(&signature);
    disk[446 + 4] = 0x83;
    disk[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).unwrap() == bytes
}

#[test]
fn a_machine_with_anothers_address_neither_restores_nor_replaces_its_images() {
    let a = backed_up(A);
    let b = machine(B, "DISK-B", &noise(2, MIB));
    hand_over(&a, &b);
    let image = b.on_share("10.0.2.15/sda.raw.gz");
    let of_a = fs::read(&image).unwrap();
    let refused = [
        "10.0.2.15/sda.raw.gz belongs to another machine (UUID 4c4c4544-0044-4210-8053-b7c04f4d3132",
        "set image = \"10.0.2.15\" in the host file",
    ];
    for action in ["restore", "backup-again", "backup"] {
        b.set(action, "");
        b.fails(action, &refused);
    }
    // Even where the folder tells of B alone by now.
    b.set("refresh-info", "");
    b.succeeds("refresh-info");
    b.set("restore", "");
    b.fails("restore", &refused);
    assert!(content(&b, "sda") == noise(2, MIB));
    assert!(holds(&image, &of_a));

    b.set("restore", "image = \"10.0.2.15\"\n");
    b.succeeds("restore");
    assert!(content(&b, "sda") == noise(1, MIB), "who names it gets it");
    b.set("backup-again", "image = \"10.0.2.15\"\n");
    b.succeeds("backup-again");
    b.set("backup-again", "");
    b.succeeds("backup-again");
}

#[test]
fn a_machine_whose_disk_was_replaced_gets_its_image() {
    let a = backed_up(A);
    let same = machine(A, "NEW-DISK", &vec![0; MIB]);
    hand_over(&a, &same);
    same.set("restore", "");
    same.succeeds("restore");
    assert!(content(&same, "sda") == noise(1, MIB));
    same.set("backup-again", "");
    same.succeeds("backup-again");

    // A new board with the old disk: the disk tells.
    let board = machine(B, "DISK-A", &vec![0; MIB]);
    hand_over(&a, &board);
    board.set("restore", "");
    board.succeeds("restore");
    assert!(content(&board, "sda") == noise(1, MIB));
}

#[test]
fn shares_of_older_versions_and_of_the_script_go_on_working() {
    let a = backed_up(A);
    let older = |uuid: &str, serial: &str| {
        let site = machine(uuid, serial, &vec![0; MIB]);
        hand_over(&a, &site);
        fs::remove_file(site.on_share("10.0.2.15/machine.toml")).unwrap();
        // Without a description, as the script left its images; inflated, for what is inside an image tells too.
        fs::remove_file(site.on_share("10.0.2.15/sda.raw.gz.toml")).unwrap();
        fs::remove_file(site.on_share("10.0.2.15/sda.raw.gz")).unwrap();
        fs::write(site.on_share("10.0.2.15/sda.raw"), noise(1, MIB)).unwrap();
        site
    };
    let same = older(A, "NEW-DISK");
    same.set("restore", "");
    same.succeeds("restore");
    assert!(content(&same, "sda") == noise(1, MIB));

    let other = older(B, "DISK-B");
    other.set("restore", "");
    other.fails("restore", &["belongs to another machine", A]);

    let untold = older(B, "DISK-B");
    fs::remove_file(untold.on_share("10.0.2.15/testbox-info.txt")).unwrap();
    untold.set("restore", "");
    untold.succeeds("restore");
}

#[test]
fn a_serial_that_every_virtual_machine_has_is_no_ones() {
    let a = machine(A, "QM00001", &noise(1, MIB));
    a.set("backup", "");
    a.succeeds("backup");
    let b = machine(B, "QM00001", &noise(2, MIB));
    hand_over(&a, &b);
    let image = b.on_share("10.0.2.15/sda.raw.gz");
    let of_a = fs::read(&image).unwrap();
    for action in ["restore", "backup-again"] {
        b.set(action, "");
        b.fails(
            action,
            &["10.0.2.15/sda.raw.gz belongs to another machine", A],
        );
    }
    assert!(content(&b, "sda") == noise(2, MIB));
    assert!(holds(&image, &of_a));
    // Where nothing tells whose they are, a serial is better than a name.
    let text = b.text("10.0.2.15/sda.raw.gz.toml");
    let mut untold: toml::Table = toml::from_str(&text).unwrap();
    assert!(untold.remove("origin").is_some(), "{text}");
    fs::remove_file(&image).unwrap();
    for told in ["machine.toml", "testbox-info.txt", "sda.raw.gz.toml"] {
        fs::remove_file(b.on_share("10.0.2.15").join(told)).unwrap();
    }
    fs::write(b.on_share("10.0.2.15/sda.raw"), noise(1, MIB)).unwrap();
    fs::write(b.on_share("10.0.2.15/sda.raw.toml"), untold.to_string()).unwrap();
    b.set("restore", "");
    b.succeeds("restore");
    assert!(content(&b, "sda") == noise(1, MIB));
}

#[test]
fn twins_that_their_tables_tell_apart_may_still_be_anothers() {
    let with_twins = |uuid: &str| {
        let site = Site::new();
        site.fake.write_sys("class/dmi/id/product_uuid", uuid);
        site.disk("vda", "", &twin(*b"ONE!", 1));
        site.disk("vdb", "", &twin(*b"TWO!", 2));
        site
    };
    let a = with_twins(A);
    a.set("backup", "exact = true\n");
    a.succeeds("backup");
    let b = with_twins(B);
    hand_over(&a, &b);
    b.set("restore", "");
    b.fails("restore", &["belongs to another machine", A]);
}

#[test]
fn a_folder_that_is_made_of_the_address_is_named_by_nobody() {
    let of_address = "image = \"lab3/{ip}\"\n";
    let a = machine(A, "DISK-A", &noise(1, MIB));
    a.set("backup", of_address);
    a.succeeds("backup");
    let b = machine(B, "DISK-B", &noise(2, MIB));
    hand_over(&a, &b);
    // An image that tells nothing: `machine.toml` does, which is in the machine's own folder.
    let image = b.on_share("lab3/10.0.2.15/sda.raw");
    fs::create_dir_all(b.on_share("lab3/10.0.2.15")).unwrap();
    fs::write(&image, noise(1, MIB)).unwrap();
    b.set("restore", of_address);
    let refused = [
        "lab3/10.0.2.15/sda.raw belongs to another machine (UUID 4c4c4544",
        "set image = \"lab3/10.0.2.15\" in the host file",
    ];
    b.fails("restore", &refused);
    assert!(content(&b, "sda") == noise(2, MIB));
    b.set("restore", "image = \"lab3/10.0.2.15\"\n");
    b.succeeds("restore");
    assert!(content(&b, "sda") == noise(1, MIB));
}

#[test]
fn an_image_of_another_disk_in_a_folder_that_tells_no_machine_is_for_the_job_to_name() {
    let site = machine(B, "DISK-B", &vec![0; MIB]);
    let toml = "format = 1\npitstop = '1'\ncreated = ''\ndevice = 'sda'\nmodel = ''\nserial = 'DISK-A'\nwwn = ''\n\
                size = 1048576\nlogical-sector-size = 512\nphysical-sector-size = 512\nchunk-size = 1048576\n\
                exact = true\nkept = 1\nblake3 = ''\n";
    fs::create_dir_all(site.on_share(HOME)).unwrap();
    fs::write(site.on_share("10.0.2.15/sda.raw"), noise(1, MIB)).unwrap();
    fs::write(site.on_share("10.0.2.15/sda.raw.toml"), toml).unwrap();
    site.set("restore", "");
    let refused = [
        "10.0.2.15/sda.raw is of sda (serial DISK-A, 1.0 MiB), not of sda (QEMU HARDDISK, serial DISK-B",
        "set image = \"10.0.2.15\"",
    ];
    site.fails("restore", &refused);
    site.set("restore", "image = \"10.0.2.15\"\n");
    site.succeeds("restore");
}

#[test]
fn a_write_protected_disk_ends_a_wipe_and_a_restore_of_every_disk_before_the_first_write() {
    let (a, b) = (noise(1, MIB), noise(2, MIB));
    let site = Site::with_disk(&a);
    site.disk("sdb", "B", &b);
    let protect = site.fake.machine().sysfs.join("block/sdb/ro");
    fs::write(protect, "1\n").unwrap();
    site.set("backup", "");
    site.succeeds("backup");
    fs::write(site.fake.dev().join("sda"), noise(3, MIB)).unwrap();
    let refused = ["sdb (", "is read-only", "name the disks that are meant in"];
    site.set("wipe", "method = \"zero\"\n");
    site.fails("wipe", &refused);
    site.set("restore", "");
    site.fails("restore", &refused);
    assert!(content(&site, "sda") == noise(3, MIB));

    site.set("restore", "disks = [\"sda\"]\n");
    site.succeeds("restore");
    assert!(content(&site, "sda") == a && content(&site, "sdb") == b);
}

#[test]
fn a_lun_by_two_paths_is_backed_up_once_and_restored() {
    let site = Site::new();
    let lun = noise(1, MIB);
    for name in ["sda", "sdb"] {
        site.disk(name, "LUN1", &lun);
        let device = site.fake.machine().sysfs.join("block").join(name);
        fs::write(device.join("device/wwid"), "naa.60014050000000aa\n").unwrap();
    }
    // Both nodes are one disk.
    let nodes = ["sda", "sdb"].map(|name| site.fake.dev().join(name));
    fs::remove_file(&nodes[1]).unwrap();
    fs::hard_link(&nodes[0], &nodes[1]).unwrap();
    site.set("backup", "");
    let ended = site.succeeds("backup");
    let told = "another path to sda: one disk, done once";
    assert!(ended.console.contains(told), "{}", ended.console);
    assert!(!site.on_share("10.0.2.15/sdb.raw.gz").exists());
    fs::write(&nodes[0], vec![0; MIB]).unwrap();
    site.set("restore", "");
    site.succeeds("restore");
    assert!(content(&site, "sda") == lun);
}

#[test]
fn a_restore_without_a_disk_that_the_last_run_knew_is_no_success() {
    let site = Site::with_disk(&noise(1, MIB));
    site.disk("sdb", "B", &noise(2, MIB));
    site.set("backup", "");
    site.succeeds("backup");
    site.fake.remove("sdb");
    site.set("restore", "");
    site.fails(
        "restore",
        &["sdb.raw.gz is of sdb (", "which is not on this machine"],
    );
    site.set("wipe", "method = \"zero\"\n");
    let ended = site.succeeds("wipe");
    assert!(
        ended
            .console
            .contains("the last run on this machine knew sdb ("),
        "{}",
        ended.console
    );
}

#[test]
fn twins_without_serials_that_changed_places_keep_their_content() {
    let (first, second) = (twin(*b"ONE!", 1), twin(*b"TWO!", 2));
    let before = Site::new();
    before.disk("vda", "", &first);
    before.disk("vdb", "", &second);
    before.set("backup", "exact = true\n");
    before.succeeds("backup");

    let after = Site::new();
    after.disk("vda", "", &second);
    after.disk("vdb", "", &first);
    hand_over(&before, &after);
    after.set("restore", "");
    after.succeeds("restore");
    assert!(content(&after, "vda") == second && content(&after, "vdb") == first);

    for name in ["vda", "vdb"] {
        fs::write(after.fake.dev().join(name), vec![0; 2 * MIB]).unwrap();
    }
    after.set("restore", "");
    after.fails(
        "restore",
        &["could be restored from any of vda.raw.gz, vdb.raw.gz"],
    );
    after.set("restore", "disks = [\"vda\", \"vdb\"]\n");
    after.succeeds("restore");
    assert!(content(&after, "vda") == first && content(&after, "vdb") == second);
}
