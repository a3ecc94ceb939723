//! Arrays and groups of the same names on other disks: the new system would find both, and take one.

use super::{Stack, commands};
use crate::devices::{fact, folder_of};
use anyhow::{Context, bail};
use pitstop_imaging::disk::{DiskInput, Input as _};
use pitstop_imaging::source::{Disk, ReadAt, Window};
use pitstop_imaging::table;
use pitstop_imaging::used;
use pitstop_imaging::used::md::{Member, member};
use std::fs;
use std::path::{Path, PathBuf};

const BLOCK: &str = "/sys/block";
/// As imaging names a physical volume of LVM; its label is its group.
const PHYSICAL: &str = "LVM2_member";

/// Arrays within arrays are looked into so deep.
const DEPTH: u32 = 3;

/// Looks at the disks that are not to be written. Reads a few sectors of each; none of them is opened by a tool.
///
/// # Errors
/// When something has a name that the new system is to have.
pub fn check(stack: &Stack, targets: &[&Path]) -> anyhow::Result<()> {
    for luks in &stack.luks {
        let node = commands::opened(&luks.name);
        if node.exists() {
            bail!(
                "{} exists on this computer: give [[luks]] {:?} another name, or close the other one (cryptsetup close {})",
                node.display(),
                luks.name,
                luks.name
            );
        }
    }
    for group in &stack.groups {
        let folder = Path::new("/dev").join(&group.name);
        let nodes = group.volumes.iter();
        let nodes = nodes.map(|it| commands::node(group, &it.name));
        if let Some(taken) = nodes.chain([folder]).find(|node| node.exists()) {
            bail!(
                "{} exists on this computer: give the group {:?} another name, or let the other one go",
                taken.display(),
                group.name
            );
        }
    }
    let sysfs = Path::new("/sys");
    let ours: Vec<PathBuf> = targets
        .iter()
        .filter_map(|it| folder_of(sysfs, it))
        .collect();
    let entries = fs::read_dir(BLOCK).with_context(|| format!("listing the disks in {BLOCK}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing the disks in {BLOCK}"))?;
        let name = entry.file_name().to_string_lossy().replace('!', "/");
        let folder = fs::canonicalize(entry.path()).unwrap_or_default();
        // What is made of others is found on them; a loop device, on its file.
        let is_disk = folder.join("device").exists();
        if !is_disk || ours.contains(&folder) || fact(&folder.join("size")) == "0" {
            continue;
        }
        let node = Path::new("/dev").join(&name);
        // A disk that cannot be read, as an empty drive, has no names.
        if let Ok(input) = DiskInput::open(&node) {
            check_disk(stack, &node, &input)?;
        }
    }
    Ok(())
}

fn check_disk(stack: &Stack, node: &Path, input: &DiskInput) -> anyhow::Result<()> {
    let mut file = input.file();
    let disk = Disk::new(&mut file, input.size());
    check_one(stack, node, &disk)?;
    let table = table::read(&disk, input.sector_sizes().0);
    for part in table.map(|table| table.partitions).unwrap_or_default() {
        check_one(stack, node, &Window::new(&disk, part.start, part.size))?;
    }
    Ok(())
}

fn check_one(stack: &Stack, node: &Path, volume: &dyn ReadAt) -> anyhow::Result<()> {
    check_within(stack, node, volume, DEPTH)
}

/// Looks at a volume, and where it is a part of an array, at what is in that.
fn check_within(stack: &Stack, node: &Path, volume: &dyn ReadAt, depth: u32) -> anyhow::Result<()> {
    let found = used::recognise(volume);
    let is_group = found.filesystem == PHYSICAL;
    if is_group && stack.groups.iter().any(|group| group.name == found.label) {
        bail!(
            "{} has a group {:?} of LVM, and the new system would find both: give the new one another name, or take that disk away",
            node.display(),
            found.label
        );
    }
    let Some(Member { name, data, .. }) = member(volume) else {
        return Ok(());
    };
    if stack.arrays.iter().any(|array| array.name == name) {
        bail!(
            "{} has a part of an array {name:?}, and the new system would find both: give the new one another name, or take that disk \
             away",
            node.display()
        );
    }
    // A group begins where the data of a mirror begins, or that of the first disk of another array.
    if depth > 0 && data.start < data.end {
        let within = Window::new(volume, data.start, data.end - data.start);
        check_within(stack, node, &within, depth - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::stack::{Array, Group, commands};
    use pitstop_imaging::disk::LoopDevice;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::image::FileSource;
    use pitstop_imaging::tools;
    use pitstop_imaging::used::md::fake;
    use std::os::unix::fs::FileExt;

    fn with_array(name: &str) -> Stack {
        Stack {
            arrays: vec![Array {
                name: name.into(),
                uuid: String::new(),
                partition: 1,
                slot: 0,
            }],
            ..Stack::default()
        }
    }

    const SECTOR: u64 = 512;
    const VERSION_1_2: u64 = 4096;

    /// The superblock of an array with `count` sectors of data from `first` on.
    fn superblock(name: &str, first: u64, count: u64) -> Vec<u8> {
        fake::mirror(name, 0, 1, &(first..first.saturating_add(count)), 1)
    }

    #[test]
    fn an_array_of_the_same_name_is_found_where_its_superblock_is() {
        let stack = with_array("boot");
        for at in [0, 4096, (1 << 20) - 8192] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(1 << 20).unwrap();
            let head = superblock("oldie:boot", 0, 0);
            file.as_file().write_all_at(&head, at).unwrap();
            let place = (at / SECTOR).to_le_bytes();
            file.as_file().write_all_at(&place, at + 144).unwrap();
            let source = FileSource::open(file.path()).unwrap();
            let error = check_one(&stack, Path::new("/dev/sdc"), &source).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("/dev/sdc has a part of an array \"boot\""),
                "{error}"
            );
            // Another version of the format is not read.
            file.as_file().write_all_at(&[0], at + 4).unwrap();
            check_one(&stack, Path::new("/dev/sdc"), &source).unwrap();
        }
    }

    #[test]
    fn what_is_in_an_array_of_another_name_is_found() {
        let stack = with_array("boot");
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        let write = |head: &[u8], at: u64| file.as_file().write_all_at(head, at).unwrap();
        let checked = || {
            let source = FileSource::open(file.path()).unwrap();
            check_one(&stack, Path::new("/dev/sdc"), &source)
        };
        write(&superblock("any:other", 2048, 4096), 4096);
        checked().unwrap();
        write(&superblock("any:boot", 0, 0), (1 << 20) + 4096);
        let error = checked().unwrap_err().to_string();
        assert!(error.contains("a part of an array \"boot\""), "{error}");
        // One that says that its data is itself has an end, too.
        write(&superblock("any:other", 0, u64::MAX), 4096);
        checked().unwrap();
    }

    #[test]
    fn a_group_that_lvm_made_in_an_array_is_found() {
        const SIZE: u64 = 64 << 20;
        const FIRST: u64 = 1 << 20;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        let device = LoopDevice::new(file.path(), &(FIRST..SIZE), 512).unwrap();
        let devices = [device.path().to_owned()];
        let group = Group {
            name: format!("pitstop{}foreign", std::process::id()),
            on: Vec::new(),
            volumes: Vec::new(),
        };
        for made in [
            commands::physical(&devices),
            commands::group(&group, &devices),
        ] {
            let environment = &commands::WITHOUT_UDEV;
            tools::run_with(made.program, &made.arguments, environment, 0, &Silent).unwrap();
        }
        device.finish().unwrap();
        let head = superblock("any:other", FIRST / SECTOR, (SIZE - FIRST) / SECTOR);
        file.as_file().write_all_at(&head, VERSION_1_2).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        check_one(&with_array("boot"), Path::new("/dev/sdc"), &source).unwrap();
        let start = format!("/dev/sdc has a group {:?} of LVM", group.name);
        let stack = Stack {
            groups: vec![group],
            ..Stack::default()
        };
        let error = check_one(&stack, Path::new("/dev/sdc"), &source).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(&start), "{error}");
    }
}
