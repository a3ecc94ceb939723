//! A tree in memory: whether it fits, and unpacking it there.

use super::root::NewRoot;
use crate::system::Volume;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::units;
use pitstop_trees::TreeImage;
use pitstop_trees::index::Index;
use std::fs;
use std::path::Path;

/// What a name takes in memory beside its data: an inode and an entry of a folder.
const NAME: u64 = 1 << 10;

/// Memory has files in pages.
const PAGE: u64 = 4 << 10;

/// What programs need beside the files: less, and the machine would only kill them.
const RESERVE: u64 = 96 << 20;

/// Memory that is free, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub memory: u64,
    /// Of the partitions that will be swapped to.
    pub swap: u64,
}

/// How much a tree takes, and may grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub tree: u64,
    pub most: u64,
}

impl Free {
    /// # Errors
    /// The kernel does not tell.
    pub fn read(procfs: &Path, swap: &[Volume]) -> anyhow::Result<Self> {
        let path = procfs.join("meminfo");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let memory = available(&text)
            .with_context(|| format!("{} does not tell MemAvailable", path.display()))?;
        Ok(Self {
            memory,
            swap: swap.iter().map(|volume| volume.size).sum(),
        })
    }

    pub fn all(self) -> u64 {
        self.memory.saturating_add(self.swap)
    }
}

/// `MemAvailable` of `/proc/meminfo` (proc(5)), in bytes.
fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// Whether the tree fits.
///
/// # Errors
/// It does not: how much is missing.
pub fn size(index: &Index, free: Free) -> anyhow::Result<Size> {
    let entries = index.placed().len();
    let data: u64 = (0..entries)
        .map(|number| index.blocks_of(number, PAGE))
        .sum();
    judge(data.saturating_add(entries as u64 * NAME), free)
}

fn judge(tree: u64, free: Free) -> anyhow::Result<Size> {
    let needed = tree.saturating_add(RESERVE);
    let missing = needed.saturating_sub(free.all());
    if missing > 0 {
        bail!(
            "the tree takes {} of memory and programs at least {}, and {} are free: {} are missing; a partition labelled \
             scratch would hold the tree",
            units::bytes(tree),
            units::bytes(RESERVE),
            units::bytes(free.all()),
            units::bytes(missing)
        );
    }
    Ok(Size {
        tree,
        most: free.all() - RESERVE,
    })
}

/// Unpacks the tree to memory at `at`; `feed` brings it, where there is one.
///
/// # Errors
/// It cannot be fetched, is damaged, or does not fit after all.
pub fn unpack(
    image: &TreeImage,
    size: Size,
    at: &Path,
    feed: Option<&dyn Feed>,
    reporter: &dyn Reporter,
) -> anyhow::Result<NewRoot> {
    let mut new = NewRoot::new(at)?;
    new.memory(at, size.most)?;
    pitstop_trees::extract_fed(image, at, 0, feed, reporter)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_available_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:  2035536 kB\nMemFree: 1 kB\nMemAvailable:    1048576 kB\n";
        assert_eq!(available(text), Some(1 << 30));
        for none in [
            "",
            "MemAvailable: many kB",
            "MemAvailable: 18446744073709551615 kB",
        ] {
            assert_eq!(available(none), None, "{none}");
        }
    }

    #[test]
    fn a_tree_that_does_not_fit_says_how_much_is_missing() {
        let free = |memory: u64, swap: u64| Free {
            memory: memory * MIB,
            swap: swap * MIB,
        };
        let fits = judge(100 * MIB, free(200, 0)).unwrap();
        assert_eq!(fits.most, 104 * MIB);
        // Swap counts.
        assert!(judge(100 * MIB, free(100, 96)).is_ok());
        let error = judge(100 * MIB, free(150, 6)).unwrap_err().to_string();
        assert!(
            error.contains("156.0 MiB are free: 40.0 MiB are missing"),
            "{error}"
        );
    }
}
