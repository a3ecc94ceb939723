//! The links of `/dev/disk`, which udev makes and an initramfs has not: without them `grub-mkconfig` writes
//! `root=/dev/sda2`, which is another disk tomorrow.

use crate::devices;
use anyhow::Context;
use pitstop_imaging::disk::{DiskInput, Input as _};
use pitstop_imaging::image::FileSource;
use pitstop_imaging::source::{Disk, Window};
use pitstop_imaging::table::{self, TableKind};
use pitstop_imaging::used::{self, Contents};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Links by their paths below `/dev/disk`, and where they lead.
pub type Links = BTreeMap<String, String>;

/// Those of the disks that the devices `nodes` are on.
///
/// # Errors
/// When a disk cannot be read.
pub fn of_devices(sysfs: &Path, nodes: &[PathBuf]) -> anyhow::Result<Links> {
    let folders: BTreeSet<PathBuf> = nodes
        .iter()
        .filter_map(|node| devices::folder_of(sysfs, node))
        .flat_map(|folder| devices::down(&folder))
        .collect();
    let mut links = Links::new();
    for folder in &folders {
        let Some(name) = devices::name(folder) else {
            continue;
        };
        if folder.join("partition").exists() {
            // With its disk.
            continue;
        }
        let node = Path::new("/dev").join(&name);
        let reading = || format!("looking at {}", node.display());
        if let Ok(whole) = FileSource::open(&node) {
            of_contents(&mut links, &name, &used::recognise(&whole));
        }
        of_partitions(&mut links, folder, &name, &node).with_context(reading)?;
    }
    Ok(links)
}

fn of_partitions(links: &mut Links, folder: &Path, name: &str, node: &Path) -> anyhow::Result<()> {
    let there = partitions(folder);
    if there.is_empty() {
        return Ok(());
    }
    let input = DiskInput::open(node)?;
    let (sector, _) = input.sector_sizes();
    let mut file = input.file();
    let disk = Disk::new(&mut file, input.size());
    // A disk without a table that can be read has no such names.
    let Ok(table) = table::read(&disk, sector) else {
        return Ok(());
    };
    for part in &table.partitions {
        let Some(part_name) = there.get(&part.number) else {
            continue;
        };
        let device = match name.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{part_name}"),
            None => part_name.clone(),
        };
        let window = Window::new(&disk, part.start, part.size);
        of_contents(links, &device, &used::recognise(&window));
        add(links, "by-partuuid", &part.id.to_ascii_lowercase(), &device);
        if table.kind == TableKind::Gpt {
            add(links, "by-partlabel", &part.name, &device);
        }
    }
    Ok(())
}

/// Partitions of a disk as the kernel has them: number and name.
fn partitions(folder: &Path) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number = devices::fact(&entry.path().join("partition")).parse();
        Some((number.ok()?, entry.file_name().into_string().ok()?))
    });
    numbered.collect()
}

fn of_contents(links: &mut Links, device: &str, contents: &Contents) {
    add(links, "by-uuid", &contents.uuid, device);
    add(links, "by-label", &contents.label, device);
}

fn add(links: &mut Links, folder: &str, name: &str, device: &str) {
    if !name.is_empty() {
        links.insert(
            format!("{folder}/{}", encoded(name)),
            format!("../../{device}"),
        );
    }
}

/// As udev writes names (`udev_node_escape_path`, `blkid_encode_string`): what could be misread becomes `\x20`.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_alphanumeric()
            || "#+-.:=@_".contains(character)
            || !character.is_ascii()
        {
            text.push(character);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{:02x}", u32::from(character));
        }
    }
    text
}

/// Links that are there already, such as those by path and serial, but for the kinds that are made here: after a disk was
/// written, udev's may be old.
#[must_use]
pub fn of_udev(folder: &Path) -> Links {
    let mut links = Links::new();
    for kind in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind_name = kind.file_name().to_string_lossy().into_owned();
        for link in fs::read_dir(kind.path()).into_iter().flatten().flatten() {
            let name = link.file_name().into_string();
            let target = fs::read_link(link.path()).map(PathBuf::into_os_string);
            if let (Ok(name), Ok(Ok(target))) = (name, target.map(std::ffi::OsString::into_string))
            {
                links.insert(format!("{kind_name}/{name}"), target);
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_udev_has_them() {
        for (name, written) in [
            ("6a7b-CD", "6a7b-CD"),
            ("my disk", "my\\x20disk"),
            ("a/b", "a\\x2fb"),
            ("Größe", "Größe"),
        ] {
            assert_eq!(encoded(name), written);
        }
    }

    #[test]
    fn what_is_in_a_device_names_it() {
        let mut links = Links::new();
        let contents = Contents {
            filesystem: "ext4".into(),
            label: "root fs".into(),
            uuid: "0a1b".into(),
        };
        of_contents(&mut links, "sda2", &contents);
        of_contents(&mut links, "sda3", &Contents::default());
        let expected = [
            ("by-label/root\\x20fs", "../../sda2"),
            ("by-uuid/0a1b", "../../sda2"),
        ];
        assert_eq!(
            links,
            Links::from(expected.map(|(name, target)| (name.into(), target.into())))
        );
    }

    #[test]
    fn links_that_are_there_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("by-id")).unwrap();
        std::os::unix::fs::symlink("../../sda", folder.path().join("by-id/ata-X_1")).unwrap();
        let links = of_udev(folder.path());
        assert_eq!(links["by-id/ata-X_1"], "../../sda");
    }
}
