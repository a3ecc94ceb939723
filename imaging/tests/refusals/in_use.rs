//! Disks whose bytes somebody else has in use, by another name.

use super::{disk, full, ok_or_untouched};
use crate::image_common::image_of;
use crate::used_common::{Loop, MIB, run, sparse};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pitstop_imaging::disk::same_bytes;
use pitstop_imaging::image::{CaptureOptions, RestoreOptions};
use pitstop_testing::mounts::Mounted;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SIZE: u64 = 40 * MIB;
const PART: u64 = 30 * MIB;
const GPT: &str = "label: gpt\nstart=2048,size=61440\n";

fn part(file: &Path, start: u64, length: u64) -> Loop {
    let arguments = [
        "--find".to_owned(),
        "--show".to_owned(),
        format!("--offset={start}"),
        format!("--sizelimit={length}"),
        file.display().to_string(),
    ];
    let device = PathBuf::from(run("losetup", &arguments).trim());
    Loop { device }
}

/// What is mounted for writing changes by itself.
fn mounted(device: &Path) -> (Mounted, TempDir) {
    let folder = TempDir::new().unwrap();
    let arguments = [Path::new("-o"), Path::new("ro"), device];
    (Mounted::new(&arguments, folder.path()), folder)
}

fn image(dir: &TempDir) -> PathBuf {
    let from = disk(dir, "from", SIZE, "");
    image_of(dir.path(), &from, 512, &CaptureOptions::default())
}

fn refused(image: &Path, device: &Path, file: &Path) -> String {
    let done = ok_or_untouched(image, device, file, &RestoreOptions::default());
    format!("{:#}", done.unwrap_err())
}

#[test]
fn whatever_shows_the_bytes_of_a_mounted_filesystem_is_in_use() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir);
    let file = disk(&dir, "file", SIZE, GPT);
    let first = part(&file, MIB, PART);
    run("mke2fs", &["-q", first.device.to_str().unwrap()]);
    let mounted = mounted(&first.device);
    let hard = dir.path().join("hard");
    fs::hard_link(&file, &hard).unwrap();
    let soft = dir.path().join("soft");
    std::os::unix::fs::symlink(&file, &soft).unwrap();
    // The folder by another name.
    let bound = TempDir::new().unwrap();
    let by_another_name = Mounted::new(&[Path::new("--bind"), dir.path()], bound.path());
    let second = Loop::new(&file);
    let above = Loop::new(&second.device);
    let overlapping = part(&file, 0, 2 * MIB);
    let apart = part(&file, 32 * MIB, MIB);
    let first_name = first.device.to_str().unwrap();
    for path in [
        file.clone(),
        hard,
        soft,
        bound.path().join("file"),
        second.device.clone(),
        above.device.clone(),
        overlapping.device.clone(),
    ] {
        let error = refused(&image, &path, &file);
        assert!(error.contains("is in use"), "{}: {error}", path.display());
        assert!(error.contains(first_name), "{}: {error}", path.display());
        assert!(
            error.contains("is mounted at"),
            "{}: {error}",
            path.display()
        );
        assert!(same_bytes(&path, &first.device), "{}", path.display());
    }
    drop(by_another_name);
    // What has other bytes of the file is nobody's.
    assert!(!same_bytes(&apart.device, &first.device));
    let folder = TempDir::new().unwrap();
    let small = sparse(&folder, "small", MIB);
    let small = image_of(folder.path(), &small, 512, &CaptureOptions::default());
    ok_or_untouched(&small, &apart.device, &file, &RestoreOptions::default()).unwrap();
    drop(mounted);
    ok_or_untouched(&image, &second.device, &file, &RestoreOptions::default()).unwrap();
}

#[test]
fn swap_on_another_loop_device_is_in_use() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir);
    let file = disk(&dir, "file", SIZE, GPT);
    let first = part(&file, MIB, PART);
    let name = first.device.to_str().unwrap();
    run("mkswap", &[name]);
    let on = Command::new("/sbin/swapon").arg(name).status().unwrap();
    assert!(on.success());
    let second = Loop::new(&file);
    let done = std::panic::catch_unwind(|| refused(&image, &second.device, &file));
    run("swapoff", &[name]);
    let error = done.unwrap();
    assert!(error.contains("is used as swap"), "{error}");
}

#[test]
fn a_file_that_another_program_locked_is_in_use() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir);
    let target = full(&dir, "target", SIZE);
    let file = fs::File::open(&target).unwrap();
    // As QEMU does it: read locks on single bytes, one for each thing that it does to the image.
    let byte = libc::flock {
        l_type: libc::F_RDLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)).unwrap();
    let error = refused(&image, &target, &target);
    assert!(error.contains("has it locked"), "{error}");
    drop(file);
    ok_or_untouched(&image, &target, &target, &RestoreOptions::default()).unwrap();
}
