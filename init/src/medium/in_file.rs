//! A medium that is a file on another stick, as Ventoy and its like boot it: the loader showed it to the firmware as a disk,
//! and the kernel sees the file alone. It is found by its volume's name and put behind a loop device.

use super::volume_of;
use anyhow::{Context, bail};
use nix::errno::Errno;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{Machine, Standing, disks};
use pitstop_payload::system::{Access, Mounts, volumes};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What a stick with such files is formatted with.
const KINDS: [&str; 3] = ["exfat", "vfat", "ext4"];

/// How deep folders are looked into.
const DEPTH: u32 = 2;

/// Tries to get a loop device that nobody else takes meanwhile.
const TRIES: u32 = 5;

mod kernel {
    // linux/loop.h
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_int_bad!(loop_set_fd, 0x4C00);
}

/// The loop device of the file that is a medium of this name; `None` where no stick has one. Only sticks are looked into: a
/// machine's own disks are nobody's medium.
pub(super) fn find(
    machine: &Machine,
    label: &str,
    reporter: &dyn Reporter,
) -> anyhow::Result<Option<PathBuf>> {
    let mut sticks = disks::read(machine)?;
    sticks.retain(|disk| matches!(disk.unused, Standing::Usb | Standing::Removable));
    let mut found: Vec<(PathBuf, Mounts)> = Vec::new();
    for volume in volumes(machine, &sticks) {
        if !KINDS.contains(&volume.filesystem.as_str()) {
            continue;
        }
        let mut mounts = Mounts::new(Access::Read)?;
        if let Err(error) = mounts.add(Path::new(""), &volume, None) {
            reporter.debug(format!("{} is not looked into: {error:#}", volume.name));
            continue;
        }
        let mut files = media(mounts.root(), DEPTH, label);
        let Some(file) = files.pop() else {
            continue;
        };
        let other = files.pop().or_else(|| found.pop().map(|(file, _)| file));
        if let Some(other) = other {
            bail!(
                "{} and {} on the sticks are both images of {label}: leave one",
                name(&other),
                name(&file)
            );
        }
        reporter.info(format!(
            "the medium {label} is the file {} on {}",
            name(&file),
            volume.name
        ));
        found.push((file, mounts));
    }
    let Some((file, mounts)) = found.pop() else {
        return Ok(None);
    };
    let device = attach(&file, &machine.dev)
        .with_context(|| format!("opening the image {}", name(&file)))?;
    // For as long as the machine runs.
    mounts.keep();
    Ok(Some(device))
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The images of this name below a folder. What cannot be read holds none.
fn media(folder: &Path, depth: u32, label: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth > 1 {
            found.extend(media(&path, depth - 1, label));
        }
        let is_image = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("iso"));
        if kind.is_file() && is_image {
            let volume = File::open(&path).and_then(|file| volume_of(&file));
            if volume.is_ok_and(|volume| volume.as_deref() == Some(label)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Puts a file behind a loop device, for reading.
fn attach(file: &Path, dev: &Path) -> anyhow::Result<PathBuf> {
    let file = File::open(file)?;
    let control = File::open(dev.join("loop-control"))
        .context("opening loop-control: is the module loop in the initramfs?")?;
    for _ in 0..TRIES {
        // SAFETY: the descriptor is open; this ioctl takes no argument.
        let number = unsafe { kernel::loop_ctl_get_free(control.as_raw_fd()) }
            .context("asking for a loop device")?;
        let node = dev.join(format!("loop{number}"));
        let device = File::open(&node).with_context(|| format!("opening {}", node.display()))?;
        // SAFETY: both descriptors are open; the kernel takes a reference of its own to the file.
        match unsafe { kernel::loop_set_fd(device.as_raw_fd(), file.as_raw_fd()) } {
            Ok(_) => return Ok(node),
            // Somebody else has taken it meanwhile.
            Err(Errno::EBUSY) => {}
            Err(error) => return Err(error).context("setting the loop device up"),
        }
    }
    bail!("every loop device was taken by others")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn image(path: &Path, label: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut descriptor = vec![0; 40 << 10];
        descriptor[0x8000..0x8007].copy_from_slice(b"\x01CD001\x01");
        descriptor[0x8028..0x8048].fill(b' ');
        descriptor[0x8028..0x8028 + label.len()].copy_from_slice(label.as_bytes());
        fs::write(path, descriptor).unwrap();
    }

    #[test]
    fn images_are_found_by_what_is_in_them_and_not_too_deep() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        image(&root.join("debian.iso"), "DEBIAN");
        image(&root.join("a/b/pitstop.iso"), "PITSTOP");
        image(&root.join("pitstop.img"), "PITSTOP");
        fs::write(root.join("short.iso"), "").unwrap();
        assert_eq!(media(root, DEPTH, "PITSTOP"), Vec::<PathBuf>::new());
        image(&root.join("ISO/lab.ISO"), "PITSTOP");
        assert_eq!(media(root, DEPTH, "PITSTOP"), [root.join("ISO/lab.ISO")]);
    }

    #[test]
    fn a_file_is_read_through_a_loop_device() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.iso");
        image(&file, "PITSTOP");
        let node = attach(&file, Path::new("/dev")).unwrap();
        let volume = volume_of(&File::open(&node).unwrap()).unwrap();
        let detached = Command::new("losetup").arg("-d").arg(&node).status();
        assert_eq!(volume.as_deref(), Some("PITSTOP"));
        assert!(detached.unwrap().success());
    }
}
