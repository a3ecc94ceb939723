use super::fake::{LoopDisk, Part, run};
use super::*;
use pitstop_imaging::event::{Event, Silent};
use pitstop_imaging::inventory::fake::FakeMachine;
use pitstop_imaging::inventory::read as inventory;
use pitstop_imaging::used::Swap;
use std::sync::Mutex;

const MIB: u64 = 1 << 20;

const ROOT: &[(&str, &str)] = &[
    ("etc/os-release", "PRETTY_NAME=\"Testix 1\"\n"),
    (
        "etc/fstab",
        "LABEL=root / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\nUUID=77 /srv ext4 nofail 0 2\n",
    ),
    ("boot/", ""),
    ("srv/", ""),
];

const BOOT: &[(&str, &str)] = &[("vmlinuz", "kernel")];

fn ext4<'a>(label: &'a str, files: &'a [(&'a str, &'a str)]) -> Part<'a> {
    Part {
        size: 8 * MIB,
        filesystem: "ext4",
        label,
        files,
    }
}

#[derive(Default)]
struct Told(Mutex<String>);

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            self.0.lock().unwrap().push_str(text);
        }
    }
}

fn mounted(fake: &FakeMachine, access: Access, reporter: &dyn Reporter) -> anyhow::Result<System> {
    let disks = inventory(&fake.machine()).unwrap().disks;
    mount(&fake.machine(), &disks, &disks, access, reporter)
}

#[test]
fn a_system_is_mounted_whole_and_not_a_byte_of_its_disk_changes() {
    let fake = FakeMachine::new();
    let disk = LoopDisk::add(&fake, "sda", &[ext4("root", ROOT), ext4("boot", BOOT)]);
    // As if its power had been cut: the kernel would replay the journal.
    let node = disk.parts[0].0.to_str().unwrap();
    run("debugfs", &["-w", "-R", "feature needs_recovery", node]);
    run("blockdev", &["--flushbufs", node]);
    let before = std::fs::read(&disk.file).unwrap();
    let told = Told::default();
    let system = mounted(&fake, Access::Read, &told).unwrap();
    assert_eq!(system.name, "Testix 1");
    assert_eq!(system.places, ["/ is sda1 (ext4)", "/boot is sda2 (ext4)"]);
    assert_eq!(system.disks.len(), 1);
    let kernel = system.root().join("boot/vmlinuz");
    assert_eq!(std::fs::read_to_string(kernel).unwrap(), "kernel");
    let error = std::fs::write(system.root().join("x"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let at = system.root().to_owned();
    system.unmount().unwrap();
    assert!(!at.exists());
    assert!(std::fs::read(&disk.file).unwrap() == before);
    let told = told.0.into_inner().unwrap();
    assert!(told.contains("sda1 was not unmounted"), "{told}");
    assert!(
        told.contains("/srv is left out: /etc/fstab names UUID=77"),
        "{told}"
    );
}

#[test]
fn what_is_written_to_a_mounted_system_is_there_afterwards() {
    let fake = FakeMachine::new();
    let _disk = LoopDisk::add(&fake, "sda", &[ext4("root", ROOT), ext4("boot", BOOT)]);
    let system = mounted(&fake, Access::Write, &Silent).unwrap();
    std::fs::write(system.root().join("boot/new"), "here").unwrap();
    system.unmount().unwrap();
    let system = mounted(&fake, Access::Read, &Silent).unwrap();
    assert!(system.root().join("boot/new").exists());
}

#[test]
fn several_systems_none_and_a_filesystem_that_is_gone_are_told_by_name() {
    let fake = FakeMachine::new();
    let other = &[("etc/os-release", "ID=other\n")];
    let _sda = LoopDisk::add(&fake, "sda", &[ext4("root", ROOT)]);
    let told = |fake: &FakeMachine| {
        let error = mounted(fake, Access::Read, &Silent).unwrap_err();
        format!("{error:#}")
    };
    assert_eq!(
        told(&fake),
        "/etc/fstab names LABEL=boot, which is not here, for /boot"
    );
    let _sdb = LoopDisk::add(&fake, "sdb", &[ext4("", other)]);
    assert_eq!(
        told(&fake),
        "there is more than one system: Testix 1 on sda1, a system on sdb1; name the disk of the one that is meant in disks"
    );
    let bare = FakeMachine::new();
    let none = &[("home/me", "")];
    let disk = LoopDisk::add(
        &bare,
        "sda",
        &[
            ext4("", none),
            Part {
                filesystem: "",
                ..ext4("", none)
            },
        ],
    );
    // LUKS 1: its magic and version.
    let mut bytes = std::fs::read(&disk.file).unwrap();
    let at = usize::try_from(9 * MIB).unwrap();
    bytes[at..at + 8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
    std::fs::write(&disk.file, bytes).unwrap();
    let error = told(&bare);
    assert!(error.starts_with("no system was found"), "{error}");
}

#[test]
fn an_array_whose_superblock_is_at_its_end_is_no_system_and_is_told() {
    let volume = |name: &str, filesystem: &str| Volume {
        name: name.into(),
        filesystem: filesystem.into(),
        ..Volume::default()
    };
    let here = [
        volume("sda1", "md member or ext4"),
        volume("sdb1", "md member"),
        volume("sdc1", "LVM2_member"),
    ];
    let error = find(&here, &Layers::closed(&here))
        .err()
        .unwrap()
        .to_string();
    for told in ["; sda1, sdb1 is RAID,", "; sdc1 is LVM,"] {
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn of_two_copies_of_a_disk_the_one_that_is_meant_is_mounted_whole() {
    let fake = FakeMachine::new();
    let parts = [ext4("root", ROOT), ext4("boot", BOOT)];
    let _sda = LoopDisk::add(&fake, "sda", &parts);
    let _sdb = LoopDisk::add(&fake, "sdb", &parts);
    let all = inventory(&fake.machine()).unwrap().disks;
    let of = |name: &str| {
        let mut disks = all.clone();
        disks.retain(|disk| disk.identity.device == name);
        let system = mount(&fake.machine(), &disks, &all, Access::Write, &Silent).unwrap();
        system.places
    };
    assert_eq!(of("sda"), ["/ is sda1 (ext4)", "/boot is sda2 (ext4)"]);
    assert_eq!(of("sdb"), ["/ is sdb1 (ext4)", "/boot is sdb2 (ext4)"]);
}

#[test]
fn a_kernels_name_of_another_disk_is_no_name_and_neither_is_one_of_two() {
    let volume = |name: &str, disk: &str, label: &str| Volume {
        name: name.into(),
        node: format!("/dev/{name}").into(),
        disk: disk.into(),
        label: label.into(),
        ..Volume::default()
    };
    let here = [
        volume("sda1", "sda", "boot"),
        volume("sdb1", "sdb", "root"),
        volume("sdc1", "sdc", "boot"),
    ];
    let told = |names_are_true, line: &str| {
        let around = Around {
            root: &here[1],
            names_are_true,
            here: &here,
            layers: &Layers::default(),
        };
        let entry = fstab::parse(&format!("{line} /boot ext4 defaults 0 2")).remove(0);
        let found = around.of_entry(&entry, &Silent);
        found.map_or_else(
            |error| error.to_string(),
            |found| found.unwrap().name.clone(),
        )
    };
    assert_eq!(told(true, "/dev/sda1"), "sda1");
    let error = told(false, "/dev/sda1");
    assert!(error.contains("another disk than the root"), "{error}");
    let error = told(true, "LABEL=boot");
    assert!(error.contains("both sda1 and sdc1"), "{error}");
}

#[test]
fn a_system_that_hibernates_is_not_written_to() {
    let volume = |swap| Volume {
        name: "sda3".into(),
        swap,
        ..Volume::default()
    };
    assert!(check_awake(&[volume(None), volume(Some(Swap::Free))]).is_ok());
    let error = check_awake(&[volume(Some(Swap::Hibernated))]).unwrap_err();
    assert!(
        error.to_string().starts_with("sda3 holds the memory"),
        "{error}"
    );
}

#[test]
fn a_system_that_hibernates_into_a_file_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    std::fs::create_dir(at("etc")).unwrap();
    std::fs::create_dir(at("swap")).unwrap();
    let fstab = "UUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n/gone none swap sw 0 0\n/swap/file none swap sw 0 0\n";
    std::fs::write(at("etc/fstab"), fstab).unwrap();
    let mut swap = vec![0; 64 << 10];
    let mut check = |signature: &[u8; 10]| {
        swap[4086..4096].copy_from_slice(signature);
        std::fs::write(at("swap/file"), &swap).unwrap();
        check_files_awake(root.path())
    };
    assert!(check(b"SWAPSPACE2").is_ok());
    let error = check(b"S1SUSPEND\0").unwrap_err().to_string();
    assert!(error.starts_with("/swap/file holds the memory"), "{error}");
}
