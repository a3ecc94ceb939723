//! What a filesystem of Linux does not take though there is room for it, found in the tree before the disk is written.

use super::volumes::{Volume, Volumes, is_within};
use anyhow::{anyhow, bail};
use pitstop_imaging::layout::ExtShape;
use pitstop_imaging::units;
use pitstop_trees::entry::{Kind, Xattrs};
use pitstop_trees::index::Index;
use std::collections::HashMap;

/// `EXT4_LINK_MAX` (fs/ext4/ext4.h) and `BTRFS_LINK_MAX` (fs/btrfs/ctree.h).
const EXT_LINKS: u64 = 65_000;
const BTRFS_LINKS: u64 = 65_535;
/// `XFS_SYMLINK_MAXLEN` (`fs/xfs/libxfs/xfs_format.h`), its end among them.
const XFS_TARGET: usize = 1024;
/// A leaf of a Btrfs, and one where data and metadata are mixed.
const BTRFS_LEAF: usize = 16 << 10;
const BTRFS_MIXED: usize = 4 << 10;
/// What is not left of it: its own header and an item's; an attribute's; that of a symlink's target.
const BTRFS_HEADERS: usize = 101 + 25;
const BTRFS_ATTRIBUTE: usize = 30;
const BTRFS_TARGET: usize = 21;
/// The header of the block with the attributes of an ext inode and the word at its end (fs/ext4/xattr.h).
const EXT_HEADERS: usize = 32 + 4;
/// An attribute's own there; its name and its value are in words of four bytes.
const EXT_ATTRIBUTE: usize = 16;
/// More than the inode itself has room for beside its block.
const EXT_IN_INODE: usize = 128;
/// How the names of a file's ACLs begin.
const ACL: &[u8] = b"system.posix_acl_";
/// Blocks that a file without extents names in its inode, and words of four bytes.
const DIRECT: u64 = 12;
const WORD: u64 = 4;

/// A filesystem, as far as it says no.
struct Limits {
    /// For messages: `ext4 with blocks of 1024 bytes`.
    name: String,
    /// Bytes of a symlink's target.
    target: usize,
    /// Names of one file.
    links: u64,
    /// Bytes of a file, holes among them.
    size: u64,
    attributes: Attributes,
}

#[derive(Clone, Copy)]
enum Attributes {
    Any,
    /// Those of a file together, in a block of this many bytes.
    ExtBlock(usize),
    /// Each one's name and value, bytes.
    Each(usize),
}

impl Limits {
    fn of(filesystem: &str, features: &[String], shape: Option<ExtShape>) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        match filesystem {
            "xfs" => Self {
                name: filesystem.into(),
                target: XFS_TARGET - 1,
                links: u64::MAX,
                size: u64::MAX,
                attributes: Attributes::Any,
            },
            "btrfs" => {
                let leaf = if has("mixed-bg") {
                    BTRFS_MIXED
                } else {
                    BTRFS_LEAF
                };
                Self {
                    name: filesystem.into(),
                    target: leaf - BTRFS_HEADERS - BTRFS_TARGET,
                    links: BTRFS_LINKS,
                    size: u64::MAX,
                    attributes: Attributes::Each(leaf - BTRFS_HEADERS - BTRFS_ATTRIBUTE),
                }
            }
            _ => {
                // Without an answer of its tool it has the blocks that take more.
                let block = shape.map_or(4096, |shape| shape.block);
                let bytes = usize::try_from(block).unwrap_or(usize::MAX);
                let is_new = filesystem == "ext4" && features.is_empty();
                Self {
                    name: format!("{filesystem} with blocks of {block} bytes"),
                    target: bytes - 1,
                    links: EXT_LINKS,
                    size: if is_new || has("extent") {
                        (block << 32) - block
                    } else {
                        without_extents(block)
                    },
                    attributes: if has("ea_inode") {
                        Attributes::Any
                    } else {
                        Attributes::ExtBlock(bytes)
                    },
                }
            }
        }
    }

    /// Why it takes no such file, link or attributes.
    fn fault(&self, kind: &Kind, attributes: &Xattrs) -> Option<String> {
        let name = &self.name;
        match kind {
            Kind::Symlink(target) if target.len() > self.target => {
                let (length, most) = (target.len(), self.target);
                return Some(format!(
                    "it is a symlink whose target has {length} bytes, and {name} takes {most}"
                ));
            }
            Kind::File { size, .. } if *size > self.size => {
                let (size, most) = (units::bytes(*size), units::bytes(self.size));
                return Some(format!(
                    "it has {size}, holes among them, and a file on {name} has {most} at the most"
                ));
            }
            _ => {}
        }
        let fits = match self.attributes {
            Attributes::Any => true,
            Attributes::ExtBlock(block) => fit_on_ext(attributes, block),
            Attributes::Each(most) => {
                let mut pairs = attributes.pairs().iter();
                pairs.all(|(name, value)| name.len() + value.len() <= most)
            }
        };
        (!fits)
            .then(|| format!("its extended attributes or ACLs are more than {name} has room for"))
    }
}

/// Blocks are named by an inode, and by blocks of names, of names of those, and once more.
fn without_extents(block: u64) -> u64 {
    let names = block / WORD;
    let blocks = DIRECT + names + names.pow(2) + names.pow(3);
    blocks.saturating_mul(block)
}

/// Whether attributes go into an inode and the one block that it has for them. What only just does not may be found by the kernel
/// alone.
fn fit_on_ext(attributes: &Xattrs, block: usize) -> bool {
    let room = block - EXT_HEADERS;
    let sizes = attributes.pairs().iter().map(|(name, value)| {
        if name.starts_with(b"btrfs.") {
            return 0;
        }
        // The first word of a name is a number there; ACLs have no other, and are written in a shorter form.
        let (name, value) = if name.starts_with(ACL) {
            (0, acl_on_ext(value.len()))
        } else {
            let dot = name.iter().position(|byte| *byte == b'.');
            (name.len() - dot.map_or(0, |dot| dot + 1), value.len())
        };
        EXT_ATTRIBUTE + name.next_multiple_of(4) + value.next_multiple_of(4)
    });
    let sizes: Vec<usize> = sizes.collect();
    sizes.iter().all(|size| *size <= room) && sizes.iter().sum::<usize>() <= room + EXT_IN_INODE
}

/// Of the kernel's own form, a word and 8 bytes an entry: four entries have no id, and take half of that (fs/ext4/acl.h).
fn acl_on_ext(length: usize) -> usize {
    let entries = length.saturating_sub(4) / 8;
    4 + 8 * entries - 4 * entries.min(4)
}

/// # Errors
/// Names the first path of the tree that its filesystem would refuse. `shapes` are those of the layout's slots.
pub fn check(index: &Index, volumes: &Volumes, shapes: &[Option<ExtShape>]) -> anyhow::Result<()> {
    // What waits for a FAT until the end is in the filesystem around it.
    let kept: Vec<(&Volume, Limits)> = volumes
        .all
        .iter()
        .filter(|volume| volumes.filesystem(volume) != "vfat")
        .map(|volume| {
            let entry = volumes.entry(volume);
            let shape = shapes.get(volume.index).copied().flatten();
            let limits = Limits::of(volumes.filesystem(volume), &entry.features, shape);
            (volume, limits)
        })
        .collect();
    let at = |path: &str| {
        let within = |it: &(&Volume, Limits)| is_within(path, &it.0.mount);
        kept.iter().rposition(within)
    };
    let mut names: HashMap<&[u8], u64> = HashMap::new();
    for entry in index.entries() {
        let path = entry.path.to_string();
        let Some(place) = at(&path) else { continue };
        let (volume, limits) = &kept[place];
        let refused = |why: String| {
            let mount = &volume.mount;
            anyhow!(
                "{path} of the tree cannot be on {mount} of the new system: {why}. Give {mount} another filesystem or more room, or leave \
                 {path} out of the tree"
            )
        };
        if let Some(why) = limits.fault(&entry.kind, &entry.attributes.xattrs) {
            return Err(refused(why));
        }
        let Kind::HardLink(to) = &entry.kind else {
            continue;
        };
        if at(&to.to_string()) != Some(place) {
            bail!(
                "{path} and {to} of the tree are names of one file, and the new system has them on two filesystems: have both on one, or \
                 make a file of its own of one of them"
            );
        }
        let names = names.entry(to.as_bytes()).or_insert(1);
        *names += 1;
        if *names > limits.links {
            let (name, most) = (&limits.name, limits.links);
            return Err(refused(format!(
                "it is one of more than {most} names of one file, which is all that {name} takes"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_testing::mounts::Mounted;
    use rustix::fs::{XattrFlags, setxattr};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    /// A new filesystem, mounted, and what is said of it.
    fn made(filesystem: &str, mib: u64, features: &[&str]) -> (tempfile::TempDir, Mounted, Limits) {
        let folder = tempfile::tempdir().unwrap();
        let (file, at) = (folder.path().join("disk"), folder.path().join("at"));
        fs::File::create(&file).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let mut mkfs = Command::new(format!("mkfs.{filesystem}"));
        mkfs.arg("-q");
        if features == ["mixed-bg"] {
            mkfs.arg("--mixed");
        } else if !features.is_empty() {
            mkfs.args(["-O", &features.join(",")]);
        }
        assert!(mkfs.arg(&file).status().unwrap().success());
        let shape = filesystem.starts_with("ext").then_some(ExtShape {
            block: if mib < 512 { 1024 } else { 4096 },
            inodes: 0,
        });
        let features: Vec<String> = features.iter().map(|it| (*it).to_owned()).collect();
        let limits = Limits::of(filesystem, &features, shape);
        let mounted = Mounted::new(&["-o", "loop", &file.display().to_string()], &at);
        (folder, mounted, limits)
    }

    fn acl(users: u32) -> Vec<u8> {
        let entry = |tag: u16, id: u32| {
            [
                &tag.to_le_bytes()[..],
                &7u16.to_le_bytes(),
                &id.to_le_bytes(),
            ]
            .concat()
        };
        let mut value = 2u32.to_le_bytes().to_vec();
        value.extend(entry(1, u32::MAX));
        for user in 0..users {
            value.extend(entry(2, 1000 + user));
        }
        for tag in [4, 0x10, 0x20] {
            value.extend(entry(tag, u32::MAX));
        }
        value
    }

    fn sets(at: &Path, name: &[u8], value: &[u8]) -> bool {
        setxattr(at, name, value, XattrFlags::empty()).is_ok()
    }

    /// What is refused beforehand is refused by the kernel, and of symlinks and single attributes nothing else is.
    #[test]
    fn the_kernel_refuses_what_is_refused_here() {
        let none = Xattrs::default();
        for (filesystem, mib, features) in [
            ("ext4", 64, &[][..]),
            ("ext4", 600, &[]),
            ("ext3", 64, &["none", "has_journal", "ext_attr", "filetype"]),
            ("xfs", 300, &[]),
            ("btrfs", 128, &[]),
            ("btrfs", 128, &["mixed-bg"]),
        ] {
            let (folder, _mounted, limits) = made(filesystem, mib, features);
            let at = folder.path().join("at");
            // No path is longer than 4095 bytes.
            for length in [1023, 1024, 3949, 3950, 4095] {
                let link = at.join(format!("link-{length}"));
                let target = "x".repeat(length);
                let kind = Kind::Symlink(target.clone().into_bytes());
                let taken = symlink(&target, &link).is_ok();
                let fault = limits.fault(&kind, &none);
                assert_eq!(fault.is_none(), taken, "{filesystem} {length} {fault:?}");
            }
            let single = |name: &str, value: Vec<u8>| {
                let file = at.join("file");
                fs::write(&file, "").unwrap();
                let taken = sets(&file, name.as_bytes(), &value);
                fs::remove_file(&file).unwrap();
                let told = Xattrs::new(vec![(name.into(), value)]);
                let fault = limits.fault(&Kind::Fifo, &told);
                (taken, fault.is_none())
            };
            for length in [900, 980, 1024, 3900, 3930, 4060, 4200, 16_200, 16_300] {
                let (taken, judged) = single("user.some", vec![b'x'; length]);
                assert_eq!(taken, judged, "{filesystem} of {mib} {length}");
            }
            for users in [60, 110, 490, 520, 2000] {
                let (taken, judged) = single("system.posix_acl_access", acl(users));
                assert_eq!(taken, judged, "{filesystem} of {mib} {users} users");
            }
        }
    }

    #[test]
    fn a_file_has_no_more_bytes_than_its_blocks_have_names() {
        for (filesystem, mib, features) in [
            (
                "ext2",
                64,
                &["none", "ext_attr", "filetype", "large_file"][..],
            ),
            ("ext4", 64, &[]),
        ] {
            let (folder, _mounted, limits) = made(filesystem, mib, features);
            let file = fs::File::create(folder.path().join("at/file")).unwrap();
            assert!(file.set_len(limits.size + 1).is_err(), "{filesystem}");
            assert!(
                file.set_len(limits.size - (64 << 20)).is_ok(),
                "{filesystem}"
            );
        }
    }
}
