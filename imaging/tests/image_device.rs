//! Images restored onto a block device: a loop device, which promises zeros for what it discards.

mod image_common;
mod used_common;

use image_common::{Bench, MIB, disk_of, plain, source};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, Delta, RestoreOptions, restore};
use pitstop_testing::mounts::Mounted;
use std::fs;
use std::os::unix::fs::MetadataExt;
use used_common::{Loop, run};

const CHUNKS: usize = 11;
/// Of these, `disk_of` leaves four all zero.
const ZERO_CHUNKS: usize = 4;

#[test]
fn a_device_comes_back_and_its_zeros_take_no_room() {
    for delta in [Delta::Off, Delta::On] {
        let bench = Bench::new();
        let raw = disk_of(CHUNKS, 0);
        let disk = bench.write("disk", &raw);
        let (image, _) = bench.capture(&disk, &CaptureOptions::default());
        let backing = bench.write("backing", &vec![9; CHUNKS * MIB]);
        let device = Loop::new(&backing);
        let options = RestoreOptions {
            delta,
            verify: true,
            ..plain()
        };
        let restored = restore(&source(&image), &device.device, &options, &Silent).unwrap();
        assert!(restored.verified, "{delta:?}");
        drop(device);
        assert!(fs::read(&backing).unwrap() == raw, "{delta:?}");
        let kept = fs::metadata(&backing).unwrap().blocks() * 512;
        let most = (CHUNKS - ZERO_CHUNKS) * MIB + MIB / 2;
        assert!(kept <= most as u64, "{delta:?}: {kept} bytes are allocated");
    }
}

#[test]
fn a_damaged_image_leaves_a_device_without_boot_sector() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(CHUNKS, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let mut bytes = fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let image = bench.write("bad.raw.gz", &bytes);
    let backing = bench.write("backing", &vec![9; CHUNKS * MIB]);
    let device = Loop::new(&backing);
    let err = restore(&source(&image), &device.device, &plain(), &Silent).unwrap_err();
    let text = format!("{err:#}");
    assert!(text.contains("its CRC-32 is wrong"), "{text}");
    drop(device);
    assert!(fs::read(&backing).unwrap()[..MIB].iter().all(|b| *b == 0));
}

#[test]
fn a_write_protected_device_is_refused_before_anything_is_compared() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(CHUNKS, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let device = Loop::new(&bench.write("backing", &vec![9; CHUNKS * MIB]));
    let name = device.device.to_str().unwrap();
    run("blockdev", &["--setro", name]);
    let error = restore(&source(&image), &device.device, &plain(), &Silent).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains(&format!("{name} is write-protected")),
        "{text}"
    );
    run("blockdev", &["--setrw", name]);
    restore(&source(&image), &device.device, &plain(), &Silent).unwrap();
}

#[test]
fn what_holds_a_device_is_named_and_nothing_is_written() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(CHUNKS, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let backing = bench.write("backing", &vec![0; CHUNKS * MIB]);
    run("mkfs.ext4", &["-q", backing.to_str().unwrap()]);
    let device = Loop::new(&backing);
    let folder = bench.path("mounted");
    fs::create_dir(&folder).unwrap();
    let mounted = Mounted::new(&[&device.device], &folder);
    let result = restore(&source(&image), &device.device, &plain(), &Silent);
    drop(mounted);
    let name = device.device.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        result.unwrap_err().to_string(),
        format!(
            "{} is in use ({name} is mounted at {}): unmount its filesystems, stop swap, LVM and RAID on it, then try again",
            device.device.display(),
            folder.display()
        )
    );
    drop(device);
    run("e2fsck", &["-fn", backing.to_str().unwrap()]);
}
