//! Disks of machines that never were.

use super::*;
use crate::inventory::fake::{FakeDisk, FakeMachine};

#[test]
fn what_is_no_disk_is_not_listed() {
    let fake = FakeMachine::new();
    for name in [
        "loop0",
        "sr0",
        "fd0",
        "zram0",
        "dm-0",
        "md127",
        "nbd3",
        "mmcblk0boot0",
    ] {
        fake.add(&FakeDisk::new(name, 1 << 20));
    }
    fake.add(&FakeDisk::new("sdz", 0));
    let cd = fake.add(&FakeDisk::new("sdy", 4096));
    fs::write(cd.join("device/type"), "5\n").unwrap();
    let path = fake.add(&FakeDisk::new("nvme0c0n1", 4096));
    fs::write(path.join("hidden"), "1\n").unwrap();
    fake.add(&FakeDisk::new("nvme0n1", 1 << 20));
    assert_eq!(fake.only_disk().identity.device, "nvme0n1");
}

#[test]
fn removable_usb_and_mounted_disks_stand_aside() {
    let fake = FakeMachine::new();
    fake.add(&FakeDisk::new("sdaa", 4096));
    let removable = fake.add(&FakeDisk::new("sdb", 4096));
    fs::write(removable.join("removable"), "1\n").unwrap();
    fake.add(&FakeDisk::new("sdc", 4096).on("pci0/usb1/1-1/host3"));
    let mounted = fake.add(&FakeDisk::new("sdd", 4096));
    fs::create_dir_all(mounted.join("sdd1")).unwrap();
    for (file, text) in [("partition", "1"), ("start", "2"), ("size", "4")] {
        fs::write(mounted.join("sdd1").join(file), text).unwrap();
    }
    fake.write_proc(
        "mounts",
        "proc /proc proc rw 0 0\n/dev/sdd1 /mnt ext4 rw 0 0\n",
    );
    let disks = read(&fake.machine()).unwrap();
    let seen: Vec<_> = disks
        .iter()
        .map(|d| (d.identity.device.as_str(), d.standing))
        .collect();
    assert_eq!(
        seen,
        [
            ("sdb", Standing::Removable),
            ("sdc", Standing::Usb),
            ("sdd", Standing::InUse),
            ("sdaa", Standing::Fixed),
        ]
    );
    assert_eq!(disks[2].used_by, ["sdd1 is mounted at /mnt"]);
    let partition = &disks[2].partitions[0];
    assert_eq!((partition.start, partition.size), (1024, 2048));
}

#[test]
fn what_the_machine_works_from_is_no_target() {
    let fake = FakeMachine::new();
    for name in ["sda", "sdb", "sdc"] {
        let block = fake.add(&FakeDisk::new(name, 1 << 20));
        let part = block.join(format!("{name}3"));
        fs::create_dir_all(&part).unwrap();
        for (file, text) in [("partition", "3"), ("start", "2"), ("size", "4")] {
            fs::write(part.join(file), text).unwrap();
        }
    }
    let mounts = format!("/dev/sdb {MEDIUM} iso9660 ro 0 0\n/dev/sdc3 {DATA} exfat ro 0 0\n");
    fake.write_proc("mounts", &mounts);
    let disks = read(&fake.machine()).unwrap();
    let seen: Vec<_> = disks.iter().map(|disk| disk.standing).collect();
    assert_eq!(seen, [Standing::Fixed, Standing::Medium, Standing::Medium]);
}

#[test]
fn what_stands_on_a_disk_is_named() {
    let fake = FakeMachine::new();
    let block = fake.add(&FakeDisk::new("sda", 1 << 20));
    for (part, holder) in [("sda1", "md127"), ("sda2", "dm-0"), ("sda3", "dm-1")] {
        fs::create_dir_all(block.join(part).join("holders").join(holder)).unwrap();
        for (file, text) in [("partition", "1"), ("start", "2"), ("size", "4")] {
            fs::write(block.join(part).join(file), text).unwrap();
        }
    }
    fake.write_sys("block/dm-0/dm/name", "vg-root\n");
    fake.write_sys("block/dm-0/dm/uuid", "LVM-abc\n");
    fake.write_sys("block/dm-1/dm/name", "secret\n");
    fake.write_sys("block/dm-1/dm/uuid", "CRYPT-LUKS2-x\n");
    fake.write_proc("swaps", "Filename Type Size\n/dev/sda partition 1 0 -2\n");
    fake.write_proc("mounts", "/dev/mapper/vg-root /srv ext4 rw 0 0\n");
    fs::create_dir_all(fake.machine().sysfs.join("dev/block")).unwrap();
    std::os::unix::fs::symlink(&block, fake.machine().sysfs.join("dev/block/8:0")).unwrap();
    let machine = fake.machine();
    let mut by_number = users_of(&machine.sysfs, &machine.procfs, "8:0");
    let disk = fake.only_disk();
    assert_eq!(disk.standing, Standing::InUse);
    let mut users = disk.used_by;
    users.sort();
    assert_eq!(
        users,
        [
            "sda is used as swap",
            "sda1 is part of the RAID md127",
            "sda2 holds the LVM volume vg-root (dm-0), which is mounted at /srv",
            "sda3 is part of secret (dm-1)",
        ]
    );
    by_number.sort();
    assert_eq!(by_number, users);
    assert!(users_of(&machine.sysfs, &machine.procfs, "8:16").is_empty());
}
