//! The CD or USB stick that the machine booted from: found by its volume's name and mounted, read-only. What is
//! mounted is in use, so no job writes to it.

mod in_file;

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{MEDIUM, Machine};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Files of the medium are below it: `file:///run/medium/pitstop/host.toml`.
const MOUNT_POINT: &str = MEDIUM;

/// A CD drive spins up and a USB stick is found by then.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Then its image may be a file on another stick; and nobody waits longer who has a share already.
const SHORT: Duration = Duration::from_secs(5);

/// The primary volume descriptor (ECMA-119 8.4): where it begins, in bytes, and its volume identifier within.
const DESCRIPTOR: u64 = 16 * 2048;
const DESCRIPTOR_BEGIN: &[u8] = b"\x01CD001\x01";
const VOLUME: std::ops::Range<usize> = 40..72;

/// Waits for a medium with this volume name and mounts it, but not the disk called `taken`, a part of which is mounted already:
/// the kernel mounts a disk or its partitions, not both.
pub fn bring_up(
    machine: &Machine,
    label: &str,
    taken: Option<&str>,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let patience = if taken.is_some() { SHORT } else { PATIENCE };
    let begin = Instant::now();
    let mut looked_into_files = false;
    let node = loop {
        if let Some(node) = find(&machine.sysfs.join("block"), &machine.dev, label) {
            break node;
        }
        if begin.elapsed() >= SHORT && !looked_into_files {
            looked_into_files = true;
            if let Some(node) = in_file::find(machine, label, reporter)? {
                break node;
            }
        }
        if begin.elapsed() >= patience {
            bail!(
                "no medium named {label} (pitstop.medium) appeared within {} s: was it taken out, or is its \
                 driver missing from the initramfs?",
                patience.as_secs()
            );
        }
        thread::sleep(LOOK_EVERY);
    };
    if taken.is_some_and(|disk| node == machine.dev.join(disk)) {
        return Ok(());
    }
    let act = || format!("mounting the medium {} at {MOUNT_POINT}", node.display());
    fs::create_dir_all(MOUNT_POINT).with_context(act)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(&node),
        MOUNT_POINT,
        Some("iso9660"),
        flags,
        None::<&str>,
    )
    .with_context(act)
}

/// Whole devices only: the image of a stick begins at its first byte.
fn find(block: &Path, dev: &Path, label: &str) -> Option<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(block)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().replace('!', "/"))
        .collect();
    names.sort();
    let mut nodes = names.into_iter().map(|name| dev.join(name));
    nodes.find(|node| volume(node).is_ok_and(|volume| volume.as_deref() == Some(label)))
}

/// The volume's name, of an ISO 9660 file system. An empty drive is an error.
fn volume(node: &Path) -> io::Result<Option<String>> {
    volume_of(&File::open(node)?)
}

fn volume_of(medium: &File) -> io::Result<Option<String>> {
    let mut descriptor = [0; 2048];
    medium.read_exact_at(&mut descriptor, DESCRIPTOR)?;
    if !descriptor.starts_with(DESCRIPTOR_BEGIN) {
        return Ok(None);
    }
    let name = descriptor.get(VOLUME).unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(name).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medium_is_found_by_its_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (block, dev) = (folder.path().join("block"), folder.path().join("dev"));
        let device = |name: &str, content: &[u8]| {
            fs::create_dir_all(block.join(name)).unwrap();
            fs::create_dir_all(&dev).unwrap();
            fs::write(dev.join(name), content).unwrap();
        };
        let named = |name: &str| {
            let mut content = vec![0; 40 << 10];
            let at = usize::try_from(DESCRIPTOR).unwrap();
            content[at..at + 7].copy_from_slice(DESCRIPTOR_BEGIN);
            content[at + VOLUME.start..at + VOLUME.end].fill(b' ');
            content[at + VOLUME.start..at + VOLUME.start + name.len()]
                .copy_from_slice(name.as_bytes());
            content
        };
        device("sda", &vec![7; 40 << 10]);
        device("sdb", b"short");
        device("sr0", &named("DEBIAN"));
        assert_eq!(find(&block, &dev, "PITSTOP"), None);
        device("sr1", &named("PITSTOP"));
        assert_eq!(find(&block, &dev, "PITSTOP"), Some(dev.join("sr1")));
    }
}
