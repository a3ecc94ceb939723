//! Which filesystems of a disk somebody may write to while it is read.

use nix::sys::stat::{major, makedev, minor};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Devices stand on others; more levels than this are a circle.
const LEVELS: usize = 16;

/// What bytes are on: a device by its number, a file by filesystem and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    Device(u64),
    File(u64, u64),
}

/// Where a filesystem is mounted for writing that lies on `disk`: on a device, its partitions or what is made of them,
/// or on a file through a loop device.
///
/// # Errors
/// When the kernel does not tell what is mounted, or `disk` cannot be looked at.
pub fn mounted_for_writing(disk: &Path) -> io::Result<Vec<String>> {
    let found = fs::metadata(disk)?;
    let mut own = BTreeSet::new();
    if found.file_type().is_block_device() {
        own.insert(Ground::Device(found.rdev()));
        own.extend(backing_file(&folder_of(found.rdev())));
    } else {
        own.insert(Ground::File(found.dev(), found.ino()));
    }
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut places: Vec<String> = mounts(&table)
        .filter(|mount| mount.is_for_writing)
        .filter(|mount| {
            let mut below = BTreeSet::new();
            if let Some(device) = mount.device() {
                stands_on(device, LEVELS, &mut below);
            }
            !below.is_disjoint(&own)
        })
        .map(|mount| mount.at)
        .collect();
    places.sort();
    places.dedup();
    Ok(places)
}

struct Mount<'a> {
    number: u64,
    at: String,
    source: &'a str,
    is_for_writing: bool,
}

impl Mount<'_> {
    /// Some filesystems, as Btrfs, have a number of their own: what they are mounted from is the device.
    fn device(&self) -> Option<u64> {
        if major(self.number) != 0 {
            return Some(self.number);
        }
        let found = fs::metadata(self.source).ok()?;
        found.file_type().is_block_device().then(|| found.rdev())
    }
}

/// The lines of `mountinfo` (`proc_pid_mountinfo(5)`): id, parent, device, root, place, options, further fields up to a
/// `-`, then type, source and the options of the filesystem itself, which tell whether anybody writes to it.
fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (high, low) = left.next()?.split_once(':')?;
        let at = left.nth(1)?;
        let mut right = right.split(' ').skip(1);
        let source = right.next()?;
        let options = right.next()?;
        Some(Mount {
            number: makedev(high.parse().ok()?, low.parse().ok()?),
            at: unescaped(at),
            source,
            is_for_writing: options.split(',').any(|option| option == "rw"),
        })
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(place: &str) -> String {
    let characters = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let mut place = place.to_owned();
    for (escaped, character) in characters {
        place = place.replace(escaped, character);
    }
    place
}

fn folder_of(device: u64) -> PathBuf {
    let number = format!("{}:{}", major(device), minor(device));
    Path::new("/sys/dev/block").join(number)
}

/// The device and all that it stands on: the disk of a partition, the parts of a volume, the file of a loop device.
fn stands_on(device: u64, levels: usize, below: &mut BTreeSet<Ground>) {
    if levels == 0 || !below.insert(Ground::Device(device)) {
        return;
    }
    let folder = folder_of(device);
    below.extend(backing_file(&folder));
    let mut under = Vec::new();
    if folder.join("partition").exists() {
        under.extend(number(&folder.join("../dev")));
    }
    let parts = fs::read_dir(folder.join("slaves"));
    for part in parts.into_iter().flatten().flatten() {
        under.extend(number(&part.path().join("dev")));
    }
    for device in under {
        stands_on(device, levels - 1, below);
    }
}

/// `8:1`, as sysfs spells it.
fn number(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let (high, low) = text.trim().split_once(':')?;
    Some(makedev(high.parse().ok()?, low.parse().ok()?))
}

fn backing_file(folder: &Path) -> Option<Ground> {
    let text = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    let found = fs::metadata(text.trim_end_matches('\n')).ok()?;
    Some(Ground::File(found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_odd_names_and_optional_fields() {
        let table = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
30 22 0:30 / /mnt/a\\040b ro,relatime - btrfs /dev/sdb rw,space_cache
31 22 8:3 / /ro rw - xfs /dev/sda3 ro
a line of rubbish
";
        let told: Vec<_> = mounts(table)
            .map(|mount| (major(mount.number), mount.at.clone(), mount.is_for_writing))
            .collect();
        let wanted = [
            (8, "/".to_owned(), true),
            (0, "/mnt/a b".to_owned(), true),
            (8, "/ro".to_owned(), false),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_file_that_nobody_mounts_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, [0; 512]).unwrap();
        assert_eq!(mounted_for_writing(&path).unwrap(), Vec::<String>::new());
    }
}
