//! Whether the tree fits onto its filesystems, as far as it can be told before they are made. What is told exactly once they are
//! there, extraction tells before it writes a file.

use super::volumes::{Volume, Volumes};
use anyhow::{Context, bail, ensure};
use pitstop_imaging::layout::{ExtShape, Wanted};
use pitstop_imaging::units;
use pitstop_trees::entry::Kind;
use pitstop_trees::index::Index;
use rustix::fs::statfs;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Below this, ext has blocks of 1 KiB and four times as many inodes (`mke2fs.conf(5)`).
const EXT_SMALL: u64 = 512 << 20;
const EXT_INODE: u64 = 256;
/// Those that ext keeps, and `lost+found`.
const EXT_OWN: u64 = 11;
/// No cluster of FAT is smaller.
const FAT_SECTOR: u64 = 512;
/// Of filesystems whose tools do not tell theirs beforehand.
const BLOCK: u64 = 4096;
/// Filesystems on which a byte of a file takes a byte at least, by their numbers (linux/magic.h): ext, XFS, tmpfs.
const PLAIN: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a filesystem has room for at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    bytes: u64,
    /// `None`: as many as there is room for.
    files: Option<u64>,
}

/// `shape` is what its tool says that it would make.
fn room(filesystem: &str, size: u64, shape: Option<ExtShape>, features: &[String]) -> Room {
    let dynamic = |taken: u64| Room {
        bytes: size.saturating_sub(taken),
        files: None,
    };
    match filesystem {
        "ext2" | "ext3" | "ext4" => {
            let (block, ratio) = if size < EXT_SMALL {
                (KIB, 4 * KIB)
            } else {
                (4 * KIB, 16 * KIB)
            };
            let block = shape.map_or(block, |shape| shape.block);
            let files = shape.map_or(size / ratio, |shape| shape.inodes);
            let journal = if has_journal(filesystem, features) {
                journal(size / block) * block
            } else {
                0
            };
            Room {
                bytes: size.saturating_sub(files * EXT_INODE + journal),
                files: Some(match shape {
                    Some(shape) => shape.inodes.saturating_sub(EXT_OWN),
                    // mkfs rounds up to whole blocks of inodes in each group.
                    None => files + files / 64 + 64,
                }),
            }
        }
        "xfs" => dynamic(10 * MIB),
        "btrfs" => dynamic(16 * MIB),
        _ => dynamic(0),
    }
}

/// Those that are named are all that it has.
fn has_journal(filesystem: &str, features: &[String]) -> bool {
    let named = features.is_empty() || features.iter().any(|feature| feature == "has_journal");
    named && filesystem != "ext2"
}

/// The blocks of a journal, which mke2fs chooses by those of the filesystem: the fewest of all its versions
/// (`ext2fs_default_journal_size`).
fn journal(blocks: u64) -> u64 {
    match blocks {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        _ => 32_768,
    }
}

/// What goes onto one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub bytes: u64,
    pub files: u64,
}

/// How the ext filesystems among the layout's slots are made, whose sizes are `sizes`.
///
/// # Errors
/// What their tools say.
pub fn shapes(
    volumes: &Volumes,
    sizes: &[u64],
    sector: u64,
) -> anyhow::Result<Vec<Option<ExtShape>>> {
    let slots = volumes.layout.slots().into_iter().enumerate();
    slots
        .zip(sizes)
        .map(|((slot, (_, entry)), size)| {
            let on = volumes.shown(slot)?;
            let size = *size;
            Wanted { on, size, entry }.ext_shape(sector)
        })
        .collect()
}

/// Compares what the tree takes with what there is: `sizes` and `shapes` are those of the layout's slots.
///
/// # Errors
/// When it cannot fit, with the numbers.
pub fn check(
    index: &Index,
    volumes: &Volumes,
    sizes: &[u64],
    shapes: &[Option<ExtShape>],
) -> anyhow::Result<()> {
    for ((slot, (_, entry)), size) in volumes.layout.slots().into_iter().enumerate().zip(sizes) {
        let Some(filesystem) = entry.filesystem.as_deref() else {
            continue;
        };
        let here: Vec<&Volume> = volumes
            .all
            .iter()
            .filter(|volume| volume.index == slot)
            .collect();
        let Some(first) = here.first() else { continue };
        let shape = shapes.get(slot).copied().flatten();
        let room = room(filesystem, *size, shape, &entry.features);
        let block = match (filesystem, shape) {
            ("vfat", _) => FAT_SECTOR,
            (_, Some(shape)) => shape.block,
            (_, None) => BLOCK,
        };
        let load = load(index, volumes, slot, block);
        let mount = &first.mount;
        if load.bytes > room.bytes {
            bail!(
                "the files of {mount} take {}, and {} has room for {} at the most",
                units::bytes(load.bytes),
                volumes.shown(slot)?,
                units::bytes(room.bytes)
            );
        }
        if let Some(files) = room.files
            && load.files > files
        {
            bail!(
                "{mount} has {} files, and {filesystem} of {} has inodes for {files} at the most: give it more room",
                load.files,
                units::bytes(*size)
            );
        }
    }
    Ok(())
}

/// Whether the filesystem that a disk in a file is on has room for the tree. What the file takes already is written over.
///
/// # Errors
/// When it has not, with the numbers.
pub fn check_file(disk: &Path, index: &Index) -> anyhow::Result<()> {
    let doing = || format!("asking how much is free where {} is", disk.display());
    let found = fs::metadata(disk).with_context(doing)?;
    let free = statfs(disk).with_context(doing)?;
    // Some architectures have a signed number there.
    if u64::try_from(free.f_type).is_ok_and(|kind| !PLAIN.contains(&kind)) {
        return Ok(());
    }
    let block = u64::try_from(free.f_bsize).unwrap_or_default();
    let (free, taken) = (free.f_bfree.saturating_mul(block), found.blocks() * 512);
    let needed = index.data_bytes();
    ensure!(
        needed <= free.saturating_add(taken),
        "the files of the tree take {}, and the filesystem that {} is on has {} free",
        units::bytes(needed),
        disk.display(),
        units::bytes(free)
    );
    Ok(())
}

/// What waits for a FAT until the end stands in the filesystem around it, too. The filesystem has blocks of `block` bytes.
pub fn load(index: &Index, volumes: &Volumes, slot: usize, block: u64) -> Load {
    let mut load = Load::default();
    for (number, entry) in index.entries().enumerate() {
        let path = entry.path.as_bytes();
        let holds = |volume: &&Volume| is_within(path, volume.mount.as_bytes());
        let mut holders = volumes.all.iter().rev().filter(holds);
        let waits = |volume: &&Volume| volumes.filesystem(volume) == "vfat";
        let mut on_it = false;
        for (depth, volume) in holders.by_ref().enumerate() {
            let waits = waits(&volume);
            // Of FATs one in the other each gets its own alone.
            on_it |= volume.index == slot && (depth == 0 || !waits);
            if !waits {
                break;
            }
        }
        if on_it {
            load.bytes += index.blocks_of(number, block);
            load.files += u64::from(!matches!(entry.kind, Kind::HardLink(_)));
        }
    }
    load
}

/// Whether a stored path is `mount`, or in it.
fn is_within(path: &[u8], mount: &[u8]) -> bool {
    let mount = mount.strip_prefix(b"/").unwrap_or(mount);
    let rest = path.strip_prefix(mount);
    mount.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::layout::Entry;

    #[test]
    fn no_estimate_is_below_what_mkfs_leaves() {
        for (program, filesystem, mib) in [
            ("mkfs.ext4", "ext4", 100),
            ("mkfs.ext4", "ext4", 230),
            ("mkfs.ext4", "ext4", 511),
            ("mkfs.ext4", "ext4", 513),
            ("mkfs.ext4", "ext4", 3000),
            ("mkfs.ext2", "ext2", 700),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(mib * MIB).unwrap();
            let made = std::process::Command::new(program)
                .args(["-q", "-F"])
                .arg(file.path())
                .status()
                .unwrap();
            assert!(made.success());
            let read = |at: u64| {
                let mut word = [0; 4];
                std::os::unix::fs::FileExt::read_exact_at(file.as_file(), &mut word, 1024 + at)
                    .unwrap();
                u64::from(u32::from_le_bytes(word))
            };
            // s_free_blocks_count_lo, s_log_block_size, s_free_inodes_count.
            let free = read(0x0c) * (KIB << read(0x18));
            let told = room(filesystem, mib * MIB, None, &[]);
            assert!(told.bytes >= free, "{mib}: {} {free}", told.bytes);
            assert!(
                told.bytes <= free + free / 40,
                "{mib}: {} {free}",
                told.bytes
            );
            let inodes = read(0x10);
            let files = told.files.unwrap();
            assert!(
                files >= inodes && files <= inodes + inodes / 8 + 64,
                "{mib}: {files} {inodes}"
            );
            let entry = Entry {
                filesystem: Some(filesystem.into()),
                ..Entry::default()
            };
            let wanted = Wanted {
                on: "partition 1".into(),
                size: mib * MIB,
                entry: &entry,
            };
            let told = room(filesystem, mib * MIB, wanted.ext_shape(512).unwrap(), &[]);
            assert_eq!(told.files, Some(inodes), "{mib}");
            assert!(told.bytes >= free, "{mib}: {} {free}", told.bytes);
        }
    }

    #[test]
    fn paths_are_within_their_mount_points() {
        assert!(is_within(b"boot/grub", b"/boot") && is_within(b"boot", b"/boot"));
        assert!(!is_within(b"bootx", b"/boot") && is_within(b"x", b"/"));
    }
}
