//! An exFAT filesystem with the files of a folder, made without mounting anything (Microsoft's exFAT specification 1.00, whose
//! sections are cited). Every system reads and writes it, and it holds files of any size, which FAT32 does not.
//!
//! Everything is written in a row, so that files and folders need no chain in the FAT, which holds those of the three
//! things that must have one.

mod entries;
mod tree;
mod upcase;

use anyhow::{Context, Result, ensure};
use entries::Time;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tree::Volume;

pub use tree::Folder;
pub use upcase::table as capitals;

const SECTOR: u64 = 512;
const SECTOR_SHIFT: u8 = 9;

/// Sectors of the boot region, and of its copy behind it (3).
const REGION: u64 = 12;

/// Sectors before the FAT: what is written often begins at whole MiB, as flash likes it.
const FAT_OFFSET: u64 = 2048;

/// The first cluster has this number (4.1).
const FIRST: u64 = 2;

/// Entries of the FAT: what stands for the medium and for nothing (4.1.1), and the end of a chain.
const MEDIA: u32 = 0xFFFF_FFF8;
const END: u32 = 0xFFFF_FFFF;

/// The most clusters that there can be (3.1.9).
const MOST_CLUSTERS: u64 = 0xFFFF_FFF5;

/// Bytes of the smallest volume that is worth anything, and of the largest that a partition of an MBR holds.
const LEAST: u64 = 4 << 20;
const MOST: u64 = 2 << 40;

/// Bytes of clusters, and of volumes that have larger ones, as Microsoft's formatter chooses them.
const CLUSTERS: [(u64, u64); 3] = [
    (4 << 10, 256 << 20),
    (32 << 10, 32 << 30),
    (128 << 10, u64::MAX),
];

/// What names a volume.
pub struct Names<'a> {
    /// At most 11 characters.
    pub label: &'a str,
    pub serial: u32,
    /// When everything in it was made, in Unix seconds.
    pub time: i64,
}

/// Where everything lies.
struct Plan {
    /// Bytes in a cluster.
    cluster: u64,
    /// Of the whole volume.
    sectors: u64,
    fat_sectors: u64,
    /// Sectors before the first cluster.
    heap: u64,
    clusters: u64,
    /// First clusters of the allocation bitmap, the up-case table, the root folder, and of what is free.
    bitmap: u64,
    upcase: u64,
    root: u64,
    root_clusters: u64,
    free: u64,
}

/// Bytes of the root folder's entries that are not of files.
const ROOT_ENTRIES: u64 = 3 * entries::ENTRY as u64;

/// Writes a filesystem with what is in `root` to an empty `file`, of `size` bytes; without a size it has `spare` bytes beside
/// what it needs. Returns its size.
pub fn write(
    file: &File,
    root: &mut Folder,
    size: Option<u64>,
    spare: u64,
    names: &Names,
) -> Result<u64> {
    let capitals = upcase::table();
    let stored = upcase::compressed(&capitals);
    let plan = match size {
        Some(size) => plan_of(root, size, &stored)?,
        None => fitting(root, spare, &stored)?,
    };
    let size = plan.sectors * SECTOR;
    file.set_len(size).context("making room for the data")?;
    let volume = Volume {
        capitals: &capitals,
        time: Time::of(names.time),
    };
    let cluster = |number: u64| u32::try_from(number).context("too many clusters");
    let mut entries = Vec::new();
    entries.extend(entries::label(names.label));
    entries.extend(entries::bitmap(
        cluster(plan.bitmap)?,
        plan.clusters.div_ceil(8),
    ));
    entries.extend(entries::upcase(cluster(plan.upcase)?, &stored));
    entries.extend(root.bytes(&volume)?);
    file.write_all_at(&entries, plan.at(plan.root))?;
    file.write_all_at(&stored, plan.at(plan.upcase))?;
    file.write_all_at(&plan.allocated()?, plan.at(plan.bitmap))?;
    file.write_all_at(&plan.fat()?, FAT_OFFSET * SECTOR)?;
    root.write(file, &volume, &|cluster| plan.at(cluster))?;
    // Last: what is no whole filesystem is none.
    let region = plan.boot_region(names)?;
    file.write_all_at(&region, REGION * SECTOR)?;
    file.write_all_at(&region, 0)?;
    Ok(size)
}

/// The smallest volume with `spare` bytes to spare.
fn fitting(root: &mut Folder, spare: u64, stored: &[u8]) -> Result<Plan> {
    let mut size = LEAST;
    loop {
        let plan = plan_of(root, size, stored);
        match plan {
            Ok(plan) if (plan.clusters + FIRST - plan.free) * plan.cluster >= spare => {
                return Ok(plan);
            }
            Err(error) if size >= MOST - 1 => return Err(error),
            // Two steps are enough to come near; a size of whole MiB is as good as another.
            _ => size = (size + size / 64).next_multiple_of(1 << 20).min(MOST - 1),
        }
    }
}

fn plan_of(root: &mut Folder, size: u64, stored: &[u8]) -> Result<Plan> {
    ensure!(
        size >= LEAST,
        "{size} bytes are too few for a filesystem: give 4M at least"
    );
    ensure!(
        size < MOST,
        "a partition of an MBR is smaller than 2 TiB: take less"
    );
    let [small, middle, large] = CLUSTERS;
    let (cluster, _) = [small, middle]
        .into_iter()
        .find(|(_, below)| size <= *below)
        .unwrap_or(large);
    let sectors = size / SECTOR;
    // As many as there could be without a FAT: it may be a little too large, and never too small.
    let most = (sectors - FAT_OFFSET) * SECTOR / cluster + FIRST;
    let fat_sectors = (most * 4).div_ceil(SECTOR);
    let heap = (FAT_OFFSET + fat_sectors).next_multiple_of(FAT_OFFSET);
    let clusters = sectors.saturating_sub(heap) * SECTOR / cluster;
    ensure!(
        clusters <= MOST_CLUSTERS,
        "there are more clusters than exFAT can count"
    );
    let mut next = FIRST;
    let mut take = |bytes: u64| {
        let first = next;
        next += bytes.div_ceil(cluster);
        first
    };
    let bitmap = take(clusters.div_ceil(8).max(1));
    let upcase = take(stored.len() as u64);
    let root_at = take(ROOT_ENTRIES + root.entries());
    root.place(&mut next, cluster);
    ensure!(
        next <= clusters + FIRST,
        "the data needs {} MiB, and the filesystem has {}: give a larger --data-size",
        ((next - FIRST) * cluster).div_ceil(1 << 20),
        (clusters * cluster) >> 20
    );
    Ok(Plan {
        cluster,
        sectors,
        fat_sectors,
        heap,
        clusters,
        bitmap,
        upcase,
        root: root_at,
        root_clusters: (ROOT_ENTRIES + root.entries()).div_ceil(cluster),
        free: next,
    })
}

impl Plan {
    /// Where a cluster begins, in bytes.
    fn at(&self, cluster: u64) -> u64 {
        self.heap * SECTOR + cluster.saturating_sub(FIRST) * self.cluster
    }

    /// A bit for each cluster that is taken: the first ones, all in a row.
    fn allocated(&self) -> Result<Vec<u8>> {
        let taken = self.free - FIRST;
        let mut bits = vec![0xFF; usize::try_from(taken / 8)?];
        let rest = u8::try_from(taken % 8)?;
        bits.push((1 << rest) - 1);
        bits.resize(usize::try_from(self.clusters.div_ceil(8))?, 0);
        Ok(bits)
    }

    /// The FAT up to the last chain: bitmap, up-case table and root folder.
    fn fat(&self) -> Result<Vec<u8>> {
        let mut fat = [MEDIA, END].map(u32::to_le_bytes).concat();
        let last = self.root_end() - 1;
        for cluster in FIRST..=last {
            let is_end = [self.upcase, self.root, last + 1].contains(&(cluster + 1));
            let next = if is_end {
                END
            } else {
                u32::try_from(cluster + 1)?
            };
            fat.extend(next.to_le_bytes());
        }
        Ok(fat)
    }

    /// The cluster behind the root folder.
    fn root_end(&self) -> u64 {
        self.root + self.root_clusters
    }

    /// Boot sector, extended boot sectors, parameters and their sum (3).
    fn boot_region(&self, names: &Names) -> Result<Vec<u8>> {
        let sector = usize::try_from(SECTOR)?;
        let mut region = vec![0; usize::try_from(REGION * SECTOR)?];
        let per_cluster = (self.cluster / SECTOR).trailing_zeros();
        let used = (self.free - FIRST) * 100 / self.clusters.max(1);
        let mut put = |at: usize, value: &[u8]| region[at..at + value.len()].copy_from_slice(value);
        put(0, &[0xEB, 0x76, 0x90]);
        put(3, b"EXFAT   ");
        put(72, &self.sectors.to_le_bytes());
        for (at, value) in [
            (80, FAT_OFFSET),
            (84, self.fat_sectors),
            (88, self.heap),
            (92, self.clusters),
            (96, self.root),
        ] {
            put(at, &u32::try_from(value)?.to_le_bytes());
        }
        put(100, &names.serial.to_le_bytes());
        put(104, &0x0100u16.to_le_bytes());
        put(
            108,
            &[
                SECTOR_SHIFT,
                u8::try_from(per_cluster)?,
                1,
                0x80,
                u8::try_from(used)?,
            ],
        );
        put(120, &[0xF4; 390]);
        for index in 0..9 {
            put(index * sector + 510, &[0x55, 0xAA]);
        }
        let summed = region.iter().take(11 * sector).enumerate();
        // What changes while the volume is used is left out (3.4).
        let summed = summed.filter(|(at, _)| !matches!(at, 106 | 107 | 112));
        let sum = upcase::checksum(summed.map(|(_, byte)| *byte)).to_le_bytes();
        for place in region[11 * sector..].chunks_mut(4) {
            place.copy_from_slice(&sum);
        }
        Ok(region)
    }
}

#[cfg(test)]
mod tests;
