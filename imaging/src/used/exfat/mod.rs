//! exFAT: the clusters that the allocation bitmap calls used.
//!
//! Microsoft's "exFAT file system specification". Trusted when the boot region's checksum is right, the volume is
//! not marked dirty, and the bitmap has every cluster that a file says is its own. Both boot regions and the FAT
//! are kept whole.

mod entries;
mod files;

use super::bitmap::Bitmap;
use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
use std::ops::Range;

const OEM: &[u8] = b"EXFAT   ";
/// `VolumeDirty` and `MediaFailure`.
const DOUBTFUL: u16 = 0x2 | 0x4;
const BITMAP_ENTRY: u8 = 0x81;
const LABEL_ENTRY: u8 = 0x83;
/// The bitmap and label entries are the first ones that a formatter makes.
const ROOT_CLUSTERS_MAX: u64 = 1024;
/// Clusters of the root directory looked at, in bytes.
const ROOT_BYTES_MAX: u64 = 1 << 20;

/// What the boot sector says, in bytes.
struct Geometry {
    cluster: u64,
    clusters: u64,
    fat: u64,
    fat_size: u64,
    heap: u64,
    root: u64,
    end: u64,
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let boot = volume.bytes_at(0, 512)?;
    let serial = Fields(&boot).u32(100)?;
    let geometry = Geometry::parse(&boot, volume.size())?;
    let label = match geometry.root_entry(volume, LABEL_ENTRY)? {
        Some(entry) => {
            let units: Vec<u16> = (0..usize::from(Fields(&entry).u8(1)?.min(11)))
                .map(|index| Fields(&entry).u16(2 + index * 2))
                .collect::<Result<_, _>>()?;
            String::from_utf16_lossy(&units)
        }
        None => String::new(),
    };
    Ok(Label {
        uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
        label,
    })
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let size = volume.size();
    let boot = volume.bytes_at(0, 512)?;
    let geometry = Geometry::parse(&boot, size)?;
    check_boot_region(volume, &boot)?;
    let entry = geometry
        .root_entry(volume, BITMAP_ENTRY)?
        .ok_or_else(|| Untrusted::new("it has no allocation bitmap"))?;
    let entry = Fields(&entry);
    if entry.u64(24)? < geometry.clusters.div_ceil(8) {
        return Err(Untrusted::new("its allocation bitmap is too short"));
    }
    let runs = geometry.bitmap_runs(volume, u64::from(entry.u32(20)?))?;
    let mut bitmap = Bitmap::new(runs, geometry.clusters)?;
    files::check(volume, &geometry, &mut bitmap)?;
    let mut keep = RangeCollector::new();
    keep.add(0..geometry.heap);
    bitmap.places().for_each(|place| keep.add(place));
    bitmap.used(volume, |used| {
        let place = |index| geometry.heap + index * geometry.cluster;
        keep.add(place(used.start)..place(used.end));
    })?;
    keep.add(geometry.heap + geometry.clusters * geometry.cluster..size);
    Ok(keep.finish(size))
}

/// Section 3.4: the sum over eleven sectors, but for the fields that change while mounted, fills the
/// twelfth.
fn check_boot_region(volume: &dyn ReadAt, boot: &[u8]) -> Result<(), Untrusted> {
    let sector = 1usize << Fields(boot).u8(108)?.clamp(9, 12);
    let region = volume.bytes_at(0, sector * 12)?;
    let (covered, sums) = (
        Fields(&region).slice(0, sector * 11)?,
        Fields(&region).slice(sector * 11, sector)?,
    );
    let sum = covered
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 106 | 107 | 112))
        .fold(0u32, |sum, (_, byte)| {
            sum.rotate_right(1).wrapping_add(u32::from(*byte))
        });
    if sums.chunks(4).any(|stored| stored != sum.to_le_bytes()) {
        return Err(Untrusted::new("the checksum of its boot region is wrong"));
    }
    if Fields(boot).u16(106)? & DOUBTFUL != 0 {
        return Err(Untrusted::new("it was not unmounted cleanly"));
    }
    Ok(())
}

impl Geometry {
    fn parse(boot: &[u8], volume: u64) -> Result<Self, Untrusted> {
        let fields = Fields(boot);
        let sector_shift = u32::from(fields.u8(108)?);
        let cluster_shift = u32::from(fields.u8(109)?);
        if fields.slice(3, 8)? != OEM
            || !(9..=12).contains(&sector_shift)
            || cluster_shift > 25 - sector_shift
        {
            return Err(Untrusted::new("its boot sector contradicts itself"));
        }
        if fields.u8(110)? != 1 {
            return Err(Untrusted::new("it has more than one FAT"));
        }
        let sector = 1u64 << sector_shift;
        let geometry = Self {
            cluster: sector << cluster_shift,
            clusters: u64::from(fields.u32(92)?),
            fat: u64::from(fields.u32(80)?) * sector,
            fat_size: u64::from(fields.u32(84)?) * sector,
            heap: u64::from(fields.u32(88)?) * sector,
            root: u64::from(fields.u32(96)?),
            end: fields.u64(72)?.saturating_mul(sector),
        };
        let heap_end = geometry.heap + geometry.clusters * geometry.cluster;
        if geometry.end > volume || heap_end > geometry.end {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        let fits = geometry.clusters > 0
            && geometry.fat >= 24 * sector
            && geometry.fat + geometry.fat_size <= geometry.heap
            && geometry.fat_size >= (geometry.clusters + 2) * 4;
        if !fits {
            return Err(Untrusted::new("its boot sector contradicts itself"));
        }
        Ok(geometry)
    }

    /// First byte of a cluster; clusters are numbered from 2.
    fn byte_of(&self, cluster: u64) -> Result<u64, Untrusted> {
        match cluster.checked_sub(2) {
            Some(index) if index < self.clusters => Ok(self.heap + index * self.cluster),
            _ => Err(Untrusted::new("a cluster number is out of range")),
        }
    }

    /// The next cluster of a chain.
    fn next(&self, volume: &dyn ReadAt, cluster: u64) -> Result<Option<u64>, Untrusted> {
        self.byte_of(cluster)?;
        let entry = volume.bytes_at(self.fat + cluster * 4, 4)?;
        let next = Fields(&entry).u32(0)?;
        Ok((next != u32::MAX).then_some(u64::from(next)))
    }

    /// The first entry of a type in the root directory.
    fn root_entry(&self, volume: &dyn ReadAt, kind: u8) -> Result<Option<Vec<u8>>, Untrusted> {
        let mut at = self.root;
        for _ in 0..ROOT_CLUSTERS_MAX {
            let length = usize::try_from(self.cluster.min(ROOT_BYTES_MAX))
                .map_err(|_| Untrusted::new("clusters too large"))?;
            let bytes = volume.bytes_at(self.byte_of(at)?, length)?;
            for entry in bytes.chunks_exact(32) {
                match entry.first() {
                    Some(found) if *found == kind => return Ok(Some(entry.to_vec())),
                    Some(0) => return Ok(None),
                    _ => {}
                }
            }
            match self.next(volume, at)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Where enough of a bitmap is that begins with cluster `first`.
    fn bitmap_runs(&self, volume: &dyn ReadAt, first: u64) -> Result<Vec<Range<u64>>, Untrusted> {
        let count = self.clusters.div_ceil(8).div_ceil(self.cluster);
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = Some(first);
        for _ in 0..count {
            let cluster = at.ok_or_else(|| Untrusted::new("its allocation bitmap is cut short"))?;
            let start = self.byte_of(cluster)?;
            match runs.last_mut() {
                Some(last) if last.end == start => last.end += self.cluster,
                _ => runs.push(start..start + self.cluster),
            }
            at = self.next(volume, cluster)?;
        }
        Ok(runs)
    }
}
