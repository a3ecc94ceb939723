//! Trees onto disks in files: what is there afterwards, file by file and byte by byte. As root, with loop devices.

#[path = "../common/mod.rs"]
mod common;
mod full;
mod links;
mod refused;

use common::disk_file::DiskFile;
use common::{
    BOOT, Golden, LOADER, MIB, ROOT, SWAP, boot_of, deploy, deploy_telling, differences, one_disk,
    planned,
};
use pitstop_deploy::wishes::BootWish;
use pitstop_imaging::disk::{LoopDevice, lock};
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::layout::Layout;
use pitstop_imaging::source::{ReadAt as _, Window};
use pitstop_imaging::used;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;

fn recognised(disk: &DiskFile, number: u32) -> used::Contents {
    let mut file = fs::File::open(&disk.path).unwrap();
    let size = file.metadata().unwrap().len();
    let whole = pitstop_imaging::source::Disk::new(&mut file, size);
    assert_eq!(whole.size(), size);
    let table = disk.table();
    let part = table
        .partitions
        .iter()
        .find(|part| part.number == number)
        .unwrap();
    used::recognise(&Window::new(&whole, part.start, part.size))
}

#[test]
fn a_tree_is_on_ext4_xfs_and_btrfs_as_it_was_and_boots_by_both_firmwares() {
    let _one = one_disk();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    for filesystem in ["ext4", "xfs", "btrfs"] {
        let golden = Golden::gpt(filesystem).capture(&image);
        assert!(
            boot_of(&image)
                .unwrap()
                .loaders
                .contains(&format!("/{LOADER}"))
        );
        // Larger and smaller than the disk that it came from.
        let disk = DiskFile::new(if filesystem == "ext4" { 4000 } else { 1200 } * MIB);
        let done = deploy(&image, &disk.path, |_| {}).unwrap();
        assert_eq!(done.entries, golden.entries.len() as u64);
        let table = disk.table();
        assert_eq!(
            table.id.to_uppercase(),
            "AAAAAAAA-2222-4333-8444-555555555555"
        );
        let sizes: Vec<u64> = table
            .partitions
            .iter()
            .map(|part| part.size / MIB)
            .collect();
        let rest = fs::metadata(&disk.path).unwrap().len() / MIB - 1 - 1 - 40 - 16 - 1;
        assert_eq!(sizes, [1, 40, rest, 16]);
        let root = recognised(&disk, 3);
        assert_eq!(
            (
                root.filesystem.as_str(),
                root.uuid.as_str(),
                root.label.as_str()
            ),
            (filesystem, ROOT, "root")
        );
        assert_eq!(recognised(&disk, 4).uuid, SWAP);
        check_grub(&disk, disk.start_of(1));
        check_esp(&disk);
        if filesystem == "btrfs" {
            check_again(&image, &disk);
        }
        let mounted = match filesystem {
            "btrfs" => disk.mount(&[(3, "/", "subvol=/@"), (3, "/home", "subvol=/@home")]),
            "xfs" => disk.mount(&[(3, "/", "nouuid")]),
            _ => disk.mount(&[(3, "/", "rw")]),
        };
        let found = differences(
            &golden.entries,
            &mounted.path,
            &["boot/efi", "home", "var/lib/pitstop"],
        );
        assert_eq!(found, [""; 0], "{filesystem}");
        assert_eq!(
            fs::read(mounted.path.join("home/user/file")).unwrap(),
            b"at home"
        );
        let below = fs::read_dir(mounted.path.join("boot/efi")).unwrap();
        assert_eq!(
            below.count(),
            0,
            "the files of the firmware are on its own filesystem"
        );
    }
}

/// A disk that has the tree's Btrfs already gets it once more; another one does not while that one is here.
fn check_again(image: &std::path::Path, disk: &DiskFile) {
    let table = disk.table();
    let part = table.partitions.iter().find(|part| part.number == 3);
    let _seen = LoopDevice::new(&disk.path, &part.unwrap().range(), 512).unwrap();
    planned(image, &disk.path, |_| {}).unwrap();
    let other = DiskFile::new(1200 * MIB);
    let error = planned(image, &other.path, |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("another disk of this computer has a filesystem"),
        "{error}"
    );
    planned(image, &other.path, |it| it.new_ids = true).unwrap();
}

/// The tree's own images are where `grub-bios-setup` would put them.
fn check_grub(disk: &DiskFile, at: u64) {
    let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap();
    let sector = disk.bytes(0, 512);
    assert_eq!(sector[..3], boot[..3]);
    assert_eq!(sector[0x5c..0x64], (at / 512).to_le_bytes());
    assert_eq!(sector[0x68..0x1b8], boot[0x68..0x1b8]);
    let first = disk.bytes(at, 512);
    assert_eq!(first[0x1f4..0x1fc], (at / 512 + 1).to_le_bytes());
    let core = disk.bytes(at + 512, 512);
    assert!(core.iter().any(|byte| *byte != 0));
}

fn check_esp(disk: &DiskFile) {
    let start = disk.start_of(2);
    let mut files = disk.list_fat(start);
    files.sort();
    assert_eq!(
        files,
        [
            "EFI/BOOT/BOOTX64.EFI",
            "EFI/BOOT/grubx64.efi",
            "EFI/BOOT/mmx64.efi",
            "EFI/debian/BOOTX64.CSV",
            "EFI/debian/grubx64.efi",
            "EFI/debian/mmx64.efi",
            "EFI/debian/shimx64.efi",
        ]
    );
    let shim = "shimx64.efi".repeat(100_000);
    assert_eq!(
        disk.read_fat(start, "EFI/BOOT/BOOTX64.EFI"),
        shim.as_bytes()
    );
}

/// A backup that would begin at any moment, and read until the deploy is done.
struct Reader<'a> {
    disk: &'a Path,
    got: Mutex<Vec<File>>,
}

impl Reporter for Reader<'_> {
    fn event(&self, _: &Event) {
        let file = File::open(self.disk).unwrap();
        if lock::share(&file) {
            self.got.lock().unwrap().push(file);
        }
    }
}

#[test]
fn an_mbr_keeps_its_kind_and_a_second_deploy_begins_anew_with_no_reader_in_between() {
    let _one = one_disk();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let golden = Golden {
        table: "mbr",
        has_boot: true,
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    let disk = DiskFile::new(900 * MIB);
    for _ in 0..2 {
        let reader = Reader {
            disk: &disk.path,
            got: Mutex::default(),
        };
        deploy_telling(&image, &disk.path, |_| {}, &reader).unwrap();
        assert!(reader.got.into_inner().unwrap().is_empty());
        assert_eq!(disk.table().id, "0x1a2b3c4d");
        check_grub(&disk, 512);
        assert_eq!(recognised(&disk, 1).uuid, BOOT);
        let mounted = disk.mount(&[(2, "/", "rw"), (1, "/boot", "rw")]);
        let found = differences(
            &golden.entries,
            &mounted.path,
            &["boot/lost+found", "var/lib/pitstop"],
        );
        assert_eq!(found, [""; 0]);
        // What the second one must not find.
        fs::write(mounted.path.join("old"), b"x").unwrap();
    }
}

#[test]
fn another_layout_has_its_own_filesystems_and_the_fstab_follows() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let golden = Golden {
        table: "mbr",
        has_boot: true,
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    // No /boot of its own, another kind of filesystem, and one that the tree had not.
    let layout = Layout::parse(
        "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"btrfs\"\nmount = \"/\"\n\
         [[partition]]\ntype = \"linux\"\nsize = \"64MiB\"\nfilesystem = \"ext4\"\nmount = \"/srv\"\nlabel = \"data\"\n\
         [[partition]]\ntype = \"swap\"\nsize = \"16MiB\"\nfilesystem = \"swap\"\n",
    )
    .unwrap();
    let disk = DiskFile::new(700 * MIB);
    deploy(&image, &disk.path, |deployment| {
        deployment.layout = Some(layout.clone());
        deployment.boot = BootWish::None;
    })
    .unwrap();
    let root = recognised(&disk, 1);
    assert!(root.filesystem == "btrfs" && root.uuid != ROOT);
    // The swap space of the tree's fstab is found again.
    assert_eq!(recognised(&disk, 3).uuid, SWAP);
    let data = recognised(&disk, 2);
    let mounted = disk.mount(&[(1, "/", "rw"), (2, "/srv", "rw")]);
    let fstab = fs::read_to_string(mounted.path.join("etc/fstab")).unwrap();
    assert_eq!(
        fstab,
        format!(
            "# made by hand\nUUID={}\t/\tbtrfs\tdefaults\t0 1\n# LABEL=boot /boot ext4 defaults 0 2\n\
             UUID={SWAP} none swap sw 0 0\nUUID={}\t/srv\text4\tdefaults\t0 2\n",
            root.uuid, data.uuid
        )
    );
    let but = ["etc/fstab", "srv", "var/lib/pitstop"];
    let found = differences(&golden.entries, &mounted.path, &but);
    assert_eq!(found, [""; 0]);
    assert!(!disk.boots());
}

#[test]
fn of_two_fats_one_in_the_other_each_gets_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    let layout = Layout::parse(
        "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"efi\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nmount = \"/boot/efi\"\n\
         [[partition]]\ntype = \"linux\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nmount = \"/boot\"\n\
         [[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nmount = \"/\"\n",
    )
    .unwrap();
    let disk = DiskFile::new(300 * MIB);
    deploy(&image, &disk.path, |deployment| {
        deployment.layout = Some(layout.clone());
        deployment.boot = BootWish::None;
    })
    .unwrap();
    let (esp, boot) = (disk.start_of(1), disk.start_of(2));
    let shim = "shimx64.efi".repeat(100_000);
    assert_eq!(
        disk.read_fat(esp, "EFI/debian/shimx64.efi"),
        shim.as_bytes()
    );
    let mut files = disk.list_fat(boot);
    files.sort();
    assert_eq!(
        files,
        [
            "grub/grub.cfg",
            "grub/i386-pc/boot.img",
            "grub/i386-pc/core.img"
        ]
    );
    let mounted = disk.mount(&[(3, "/", "rw")]);
    assert_eq!(fs::read_dir(mounted.path.join("boot")).unwrap().count(), 0);
}
