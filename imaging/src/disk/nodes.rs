//! What the kernel calls a disk's partitions.

use anyhow::{Context, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a partition's node may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// The node of a partition of `disk`, waited for: `sda1`, `nvme0n1p1`.
///
/// # Errors
/// When the kernel makes none.
pub fn partition(disk: &Path, number: u32) -> anyhow::Result<PathBuf> {
    // Links to disks, by their serial for one, have other names than their partitions.
    let disk = disk
        .canonicalize()
        .with_context(|| format!("looking for {}", disk.display()))?;
    let node = named(&disk, number);
    let until = Instant::now() + PATIENCE;
    while File::open(&node).is_err() {
        if Instant::now() >= until {
            bail!("the kernel shows no {} for the partition", node.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(node)
}

fn named(disk: &Path, number: u32) -> PathBuf {
    let name = disk.display().to_string();
    let between = match name.chars().last() {
        Some(last) if last.is_ascii_digit() => "p",
        _ => "",
    };
    PathBuf::from(format!("{name}{between}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_p_sets_numbers_apart() {
        for (disk, node) in [
            ("/dev/sda", "/dev/sda5"),
            ("/dev/nvme0n1", "/dev/nvme0n1p5"),
            ("/dev/mmcblk0", "/dev/mmcblk0p5"),
        ] {
            assert_eq!(named(Path::new(disk), 5), Path::new(node));
        }
    }
}
