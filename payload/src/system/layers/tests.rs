use super::*;
use crate::system::fake::{LoopDisk, Part, plant, run};
use crate::system::{System, mount_to_read};
use pitstop_imaging::event::{Event, Silent};
use pitstop_imaging::inventory::fake::FakeMachine;
use pitstop_imaging::layout::Layout;
use pitstop_imaging::layout::stack::On;
use pitstop_imaging::used::md::fake::mirror;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Where an array has its data in its members, and a group its first extent in its part.
const FIRST: u64 = MIB;
/// Of the array.
const SIZE: u64 = 48 * MIB;
/// As the tool rounds it.
const ROOT: u64 = 24 * MIB;

const FILES: &[(&str, &str)] = &[
    ("etc/os-release", "PRETTY_NAME=\"Testix 1\"\n"),
    ("usr/bin/tool", "tool"),
    ("home/", ""),
];

#[derive(Default)]
struct Told(Mutex<String>);

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            self.0.lock().unwrap().push_str(text);
        }
    }
}

/// A name of a group that this computer has not.
fn group(name: &str) -> String {
    format!("pitstop{}{name}", std::process::id())
}

/// The bytes of an ext4 with these files.
fn ext4(size: u64, label: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let (tree, file) = (
        tempfile::tempdir().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    plant(tree.path(), files);
    file.as_file().set_len(size).unwrap();
    let (tree, path) = (tree.path().to_str().unwrap(), file.path().to_str().unwrap());
    run("mkfs.ext4", &["-q", "-F", "-L", label, "-d", tree, path]);
    fs::read(path).unwrap()
}

/// The bytes of the part of a group with the volumes `root` and `home`, made by lvm, which each lie in one piece; `root` has `bytes`.
fn part_of(group: &str, bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(SIZE).unwrap();
    let device = LoopDevice::new(file.path(), &(0..SIZE), 512).unwrap();
    let node = device.path().to_str().unwrap();
    let lvm = |words: &[&str]| {
        let filter = format!("devices {{ filter=[\"a|^{node}$|\", \"r|.*|\"] use_devicesfile=0 }}");
        // Metadata alone: not every kernel has a device mapper.
        let all = [
            &words[..1],
            &["--driverloaded", "n", "--config", filter.as_str()],
            &words[1..],
        ];
        run("lvm", &all.concat());
    };
    lvm(&["pvcreate", "-ff", "-y", "--dataalignment", "1m", node]);
    lvm(&["vgcreate", "-s", "4m", group, node]);
    for (name, size) in [("root", "24m"), ("home", "8m")] {
        lvm(&[
            "lvcreate", "-y", "-an", "-Zn", "-Wn", "-L", size, "-n", name, group,
        ]);
    }
    device.finish().unwrap();
    file.as_file().write_all_at(bytes, FIRST).unwrap();
    let home = ext4(8 * MIB, "home", &[("me", "here")]);
    file.as_file().write_all_at(&home, FIRST + ROOT).unwrap();
    fs::read(file.path()).unwrap()
}

/// A disk whose one partition is the member at `place` of a mirror of two, which has these bytes.
fn member(fake: &FakeMachine, disk: &str, place: u16, events: u64, bytes: &[u8]) -> LoopDisk {
    let parts = [Part {
        size: SIZE + 2 * MIB,
        filesystem: "",
        label: "",
        files: &[],
    }];
    let made = LoopDisk::add(fake, disk, &parts);
    let sectors = FIRST / SECTOR..(FIRST + SIZE) / SECTOR;
    made.write(
        0,
        4096,
        &mirror("golden:mirror", place, 2, &sectors, events),
    );
    made.write(0, FIRST, bytes);
    made
}

fn mounted(fake: &FakeMachine, reporter: &dyn Reporter) -> anyhow::Result<System> {
    let machine = fake.machine();
    let disks = pitstop_imaging::inventory::read(&machine).unwrap().disks;
    mount_to_read(&machine, &disks, &disks, None, reporter)
}

#[test]
fn a_system_on_volumes_of_a_mirror_is_read_and_not_a_byte_of_its_disks_changes() {
    let fake = FakeMachine::new();
    let name = group("read");
    let fstab = format!(
        "/dev/mapper/{name}-root / ext4 defaults 0 1\n/dev/{name}/home /home ext4 defaults 0 2\n"
    );
    let files = [FILES, &[("etc/fstab", fstab.as_str())]].concat();
    let bytes = part_of(&name, &ext4(ROOT, "root", &files));
    let disks = [
        member(&fake, "sda", 0, 9, &bytes),
        member(&fake, "sdb", 1, 9, &bytes),
    ];
    let before = disks.each_ref().map(|disk| fs::read(&disk.file).unwrap());
    let system = mounted(&fake, &Silent).unwrap();
    assert_eq!(system.name, "Testix 1");
    let places = ["/", "/home"].map(|path| {
        let volume = if path == "/" { "root" } else { "home" };
        format!("{path} is {name}/{volume} (ext4)")
    });
    assert_eq!(system.places, places);
    assert_eq!(system.disks.len(), 2);
    let text = |path: &str| fs::read_to_string(system.root().join(path)).unwrap();
    assert_eq!(
        (text("usr/bin/tool"), text("home/me")),
        ("tool".into(), "here".into())
    );

    // What is recorded is what a deploy reads.
    let layout = system.layout(&fake.machine()).unwrap().unwrap();
    let layout = Layout::parse(&layout.to_toml().unwrap()).unwrap();
    assert_eq!(
        (layout.raid[0].name.as_str(), layout.raid[0].on),
        ("mirror", 1)
    );
    let [vg] = &layout.lvm[..] else {
        panic!("{layout:?}");
    };
    assert_eq!(
        (&vg.name, &vg.on[..]),
        (&name, &[On::Name("mirror".into())][..])
    );
    let root = &vg.volumes[0];
    assert_eq!(
        (root.name.as_str(), root.entry.size.as_str()),
        ("root", "25165824")
    );
    assert_eq!(root.entry.filesystem.as_deref(), Some("ext4"));
    assert_eq!(
        (root.entry.label.as_str(), root.entry.uuid.len()),
        ("root", 36)
    );

    let opened: Vec<PathBuf> = system
        .layers
        .volumes
        .iter()
        .map(|it| it.node.clone())
        .collect();
    system.unmount().unwrap();
    let backing = |node: &PathBuf| {
        let folder = Path::new("/sys/block").join(node.file_name().unwrap());
        fs::read_to_string(folder.join("loop/backing_file")).unwrap_or_default()
    };
    // It may be another test's by now, but it is none of these disks any more. The kernel lets it go when the last one who looks at
    // it has closed it, which may be udev.
    let is_ours = |node: &PathBuf| {
        let shown = backing(node);
        let mut parts = disks.iter().flat_map(|disk| &disk.parts);
        parts.any(|part| shown.trim() == part.0.display().to_string())
    };
    let began = std::time::Instant::now();
    while opened.iter().any(is_ours) {
        assert!(began.elapsed().as_secs() < 60, "{opened:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for (disk, before) in disks.iter().zip(before) {
        assert!(fs::read(&disk.file).unwrap() == before);
    }
}

#[test]
fn of_a_mirror_that_is_not_whole_the_newest_member_is_read_and_that_is_told() {
    let fake = FakeMachine::new();
    let files = [
        FILES,
        &[("etc/fstab", "/dev/md/mirror / ext4 defaults 0 1\n")],
    ]
    .concat();
    let old = ext4(
        SIZE,
        "root",
        &[("etc/os-release", "PRETTY_NAME=\"Testix 0\"\n")],
    );
    let _sda = member(&fake, "sda", 0, 8, &old);
    let _sdb = member(&fake, "sdb", 1, 9, &ext4(SIZE, "root", &files));
    let told = Told::default();
    let system = mounted(&fake, &told).unwrap();
    assert_eq!(system.name, "Testix 1");
    assert_eq!(system.places, ["/ is array mirror (ext4)"]);
    let told = told.0.into_inner().unwrap();
    assert!(
        told.contains("the array mirror has 1 of its 2 disks here, and sda1 is old or not whole: it is read from sdb1"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_opened_is_told_with_the_reason_where_the_system_is_looked_for() {
    let fake = FakeMachine::new();
    let name = group("closed");
    let bytes = part_of(&name, &[]);
    let copy = |disk: &str| {
        let part = Part {
            size: SIZE,
            filesystem: "",
            label: "",
            files: &[],
        };
        let made = LoopDisk::add(&fake, disk, &[part]);
        made.write(0, 0, &bytes);
        made
    };
    let _copies = [copy("sda"), copy("sdb")];
    let luks = LoopDisk::add(
        &fake,
        "sdc",
        &[Part {
            size: 8 * MIB,
            filesystem: "",
            label: "",
            files: &[],
        }],
    );
    // LUKS 1: its magic and version.
    luks.write(0, 0, b"LUKS\xba\xbe\x00\x01");
    let error = format!("{:#}", mounted(&fake, &Silent).unwrap_err());
    for told in [
        "no system was found",
        "; sdc1 is LUKS, which is not opened here: name the file with its passphrase, luks-key, in the job",
        &format!(
            "; sda1, sdb1 is LVM, which is not opened here: a part of the group {name} is here twice"
        ),
    ] {
        assert!(error.contains(told), "{told:?} is not in {error}");
    }
}

#[test]
fn what_is_encrypted_has_the_name_of_its_systems_crypttab() {
    let node = PathBuf::from("/dev/mapper/x");
    let inside = Volume {
        node: node.clone(),
        ..Volume::default()
    };
    let mut layers = Layers {
        volumes: vec![inside.clone()],
        luks: vec![Luks {
            uuid: "AB-1".into(),
            name: String::new(),
            on: Base::Partition(3),
            inside: inside.clone(),
        }],
        ..Layers::default()
    };
    layers.name_encrypted("other UUID=cd-2 none luks\nsystem UUID=ab-1 none luks\n");
    assert_eq!(layers.luks[0].name, "system");
    let mut all = [inside, Volume::default()];
    layers.rename(&mut all);
    assert_eq!(all[0].names, ["/dev/mapper/system"]);
    assert!(all[1].names.is_empty());
}
