//! What lies under a path: two names, a hard link, a partition or a loop device may be of the same bytes.

use super::ioctl;
use crate::inventory::disks;
use nix::sys::stat::{major, makedev, minor};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const SYSFS: &str = "/sys";
/// sysfs counts sectors of so many bytes.
const SYSFS_SECTOR: u64 = 512;
/// Loop devices may stand on loop devices, but nobody builds towers of them.
const DEPTH: usize = 8;

/// Who holds bytes in the end: a file by filesystem and inode, a whole device by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    File(u64, u64),
    Device(u64),
}

/// Which bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    base: Base,
    range: Range<u64>,
}

impl Place {
    fn whole(base: Base) -> Self {
        let range = 0..u64::MAX;
        Self { base, range }
    }

    /// `length` bytes from `start` on, both counted within this place; all the rest where the length is 0.
    fn part(self, start: u64, length: u64) -> Self {
        let start = self.range.start.saturating_add(start).min(self.range.end);
        let end = match length {
            0 => self.range.end,
            length => start.saturating_add(length).min(self.range.end),
        };
        Self {
            range: start..end,
            ..self
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.base == other.base
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }
}

/// Whether writing to one of two paths can change the other: the same file or device, a partition of it, a loop device
/// of it. What cannot be looked at is not the same.
pub fn same_bytes(one: &Path, other: &Path) -> bool {
    match (place(one), place(other)) {
        (Some(one), Some(other)) => one.meets(&other),
        _ => false,
    }
}

fn place(path: &Path) -> Option<Place> {
    let found = fs::metadata(path).ok()?;
    if found.file_type().is_block_device() {
        return place_of_device(found.rdev(), DEPTH);
    }
    Some(Place::whole(Base::File(found.dev(), found.ino())))
}

fn place_of_device(number: u64, depth: usize) -> Option<Place> {
    let depth = depth.checked_sub(1)?;
    let Ok(folder) = fs::canonicalize(sysfs_folder(number)) else {
        return Some(Place::whole(Base::Device(number)));
    };
    if let Some(start) = sectors(&folder, "start").filter(|_| folder.join("partition").exists()) {
        let whole = device_number(&fs::read_to_string(folder.parent()?.join("dev")).ok()?)?;
        let size = sectors(&folder, "size")?;
        return Some(place_of_device(whole, depth)?.part(start, size));
    }
    match under_loop(&folder, depth) {
        Some(place) => Some(place),
        None => Some(Place::whole(Base::Device(number))),
    }
}

/// What the loop device of this folder in sysfs shows; `None` if it is none, or shows nothing.
fn under_loop(folder: &Path, depth: usize) -> Option<Place> {
    let told = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join("loop").join(file)).ok()?;
        text.trim().parse().ok()
    };
    // The device itself knows better than the name of the file, which may be gone or another's by now.
    let node = Path::new("/dev").join(folder.file_name()?);
    let under = match File::open(node).and_then(|device| ioctl::loop_backing(&device)) {
        Ok(ioctl::Backing {
            device: 0,
            filesystem,
            inode,
        }) => {
            let filesystem = makedev(filesystem.0, filesystem.1);
            Place::whole(Base::File(filesystem, inode))
        }
        Ok(ioctl::Backing { device, .. }) => place_of_device(device, depth)?,
        // Without the right to open it, its name has to do.
        Err(_) => match fs::metadata(told.trim_end_matches('\n')).ok()? {
            file if file.file_type().is_block_device() => place_of_device(file.rdev(), depth)?,
            file => Place::whole(Base::File(file.dev(), file.ino())),
        },
    };
    Some(under.part(number("offset")?, number("sizelimit")?))
}

fn sysfs_folder(number: u64) -> PathBuf {
    let (major, minor) = (major(number), minor(number));
    Path::new(SYSFS).join(format!("dev/block/{major}:{minor}"))
}

/// The number that sysfs spells `8:0`.
fn device_number(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn sectors(folder: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(SYSFS_SECTOR)
}

/// A loop device that shows bytes of `path`, is not `path` itself, and is mounted or otherwise in use; with what uses
/// it, where the kernel tells. The kernel does not see that both are the same.
///
/// # Errors
/// When the devices cannot be listed.
pub fn busy_loop_of(path: &Path) -> io::Result<Option<String>> {
    let Some(wanted) = place(path) else {
        return Ok(None);
    };
    let own = fs::metadata(path).map_or(0, |found| found.rdev());
    let own = fs::canonicalize(sysfs_folder(own)).ok();
    let devices = match fs::read_dir(Path::new(SYSFS).join("block")) {
        // No sysfs, as in a bare chroot: the kernel tells of no loop devices there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        devices => devices?,
    };
    for device in devices {
        let device = device?;
        let name = device.file_name().to_string_lossy().into_owned();
        let folder = fs::canonicalize(device.path()).ok();
        // A partition of it is apart from its others, or is held by the kernel for one alone.
        let is_own = own.as_ref().zip(folder.as_ref());
        let is_own = is_own.is_some_and(|(own, folder)| own.starts_with(folder));
        let (Some(folder), false) = (folder, is_own) else {
            continue;
        };
        if !under_loop(&folder, DEPTH).is_some_and(|place| place.meets(&wanted)) {
            continue;
        }
        let number = fs::read_to_string(folder.join("dev")).unwrap_or_default();
        let users = disks::users_of(Path::new(SYSFS), Path::new("/proc"), number.trim());
        if !users.is_empty() {
            return Ok(Some(format!("/dev/{name} ({})", users.join(", "))));
        }
        if is_held(&Path::new("/dev").join(&name)) {
            return Ok(Some(format!("/dev/{name}")));
        }
    }
    Ok(None)
}

/// Opened for one alone, a device that is in use refuses.
fn is_held(node: &Path) -> bool {
    let mut exclusive = OpenOptions::new();
    exclusive.read(true).custom_flags(nix::libc::O_EXCL);
    let error = exclusive.open(node).err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_the_same_bytes_and_copies_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("disk"), [1; 512]).unwrap();
        fs::copy(at("disk"), at("copy")).unwrap();
        fs::hard_link(at("disk"), at("hard")).unwrap();
        std::os::unix::fs::symlink("disk", at("soft")).unwrap();
        for same in ["disk", "hard", "soft"] {
            assert!(same_bytes(&at("disk"), &at(same)), "{same}");
        }
        assert!(!same_bytes(&at("disk"), &at("copy")));
        assert!(!same_bytes(&at("disk"), &at("missing")));
        assert!(!same_bytes(&at("missing"), &at("missing")));
    }

    #[test]
    fn parts_meet_where_their_bytes_do() {
        let disk = || Place::whole(Base::Device(7));
        let first = disk().part(1 << 20, 8 << 20);
        let second = disk().part(9 << 20, 0);
        assert!(disk().meets(&first) && disk().meets(&second));
        assert!(!first.meets(&second));
        // A part of a part, and one that says it is longer than what it is a part of.
        assert!(first.clone().part(4 << 20, 1 << 30).meets(&first));
        assert!(!first.clone().part(4 << 20, 1 << 30).meets(&second));
        assert!(!Place::whole(Base::File(7, 7)).meets(&disk()));
        assert_eq!(first.clone().part(u64::MAX, 9).range, 9 << 20..9 << 20);
    }
}
