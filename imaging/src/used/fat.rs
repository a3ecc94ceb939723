//! FAT12, FAT16 and FAT32: a cluster is used when its FAT entry is not zero.
//!
//! Microsoft's "FAT: General Overview of On-Disk Format" 1.03. Reserved sectors, every FAT and the root
//! directory of FAT12 and FAT16 are kept whole.

use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;

/// Bytes of a FAT read at once: a multiple of 3, so that no FAT12 entry is cut.
const PIECE: u64 = 3 * 65536;
const FAT12_MAX: u64 = 4085;
const FAT16_MAX: u64 = 65525;
const FAT32_MAX: u64 = 0x0fff_fff5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

impl Width {
    fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }
}

/// What the BIOS parameter block says, in bytes.
struct Geometry {
    width: Width,
    media: u8,
    cluster: u64,
    fat_start: u64,
    fat_size: u64,
    fats: u64,
    data_start: u64,
    clusters: u64,
    end: u64,
}

impl Geometry {
    /// `None` when this is no FAT at all: other boot sectors share the signature.
    fn parse(boot: &[u8]) -> Result<Option<Self>, Untrusted> {
        let bpb = Fields(boot);
        let sector = u64::from(bpb.u16(11)?);
        let per_cluster = u64::from(bpb.u8(13)?);
        let reserved = u64::from(bpb.u16(14)?);
        let fats = u64::from(bpb.u8(16)?);
        let media = bpb.u8(21)?;
        let jumps = matches!(bpb.u8(0)?, 0xeb | 0xe9);
        let sane = jumps
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && matches!(fats, 1..=4)
            && (media == 0xf0 || media >= 0xf8)
            && bpb.u16(510)? == 0xaa55;
        if !sane {
            return Ok(None);
        }
        let short_fat = u64::from(bpb.u16(22)?);
        let fat_sectors = match short_fat {
            0 => u64::from(bpb.u32(36)?),
            size => size,
        };
        let sectors = match u64::from(bpb.u16(19)?) {
            0 => u64::from(bpb.u32(32)?),
            sectors => sectors,
        };
        let root = u64::from(bpb.u16(17)?) * 32;
        let overhead = reserved + fats * fat_sectors + root.div_ceil(sector);
        let Some(data_sectors) = sectors.checked_sub(overhead).filter(|_| fat_sectors > 0) else {
            return Ok(None);
        };
        let clusters = data_sectors / per_cluster;
        let width = match clusters {
            // As Linux does: the field that only FAT32 leaves empty counts, not the cluster count.
            _ if short_fat == 0 => Width::Fat32,
            0..FAT12_MAX => Width::Fat12,
            _ => Width::Fat16,
        };
        Ok(Some(Self {
            width,
            media,
            cluster: per_cluster * sector,
            fat_start: reserved * sector,
            fat_size: fat_sectors * sector,
            fats,
            data_start: overhead * sector,
            clusters,
            end: sectors * sector,
        }))
    }

    fn check(&self, volume: u64) -> Result<(), Untrusted> {
        let limit = match self.width {
            Width::Fat12 => FAT12_MAX,
            Width::Fat16 => FAT16_MAX,
            Width::Fat32 => FAT32_MAX,
        };
        if self.end > volume {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        let needed = ((self.clusters + 2) * self.width.bits()).div_ceil(8);
        if self.clusters == 0 || self.clusters >= limit || needed > self.fat_size {
            return Err(Untrusted::new("its FAT does not fit its cluster count"));
        }
        if self.fats < 2 {
            return Err(Untrusted::new(
                "it has no second FAT to check the first with",
            ));
        }
        Ok(())
    }
}

fn boot_sector(volume: &dyn ReadAt) -> Result<Vec<u8>, Untrusted> {
    Ok(volume.bytes_at(0, 512)?)
}

/// The width in bits, when the first sector is a FAT's.
pub(super) fn probe(volume: &dyn ReadAt) -> Option<Width> {
    let boot = boot_sector(volume).ok()?;
    Geometry::parse(&boot).ok()?.map(|geometry| geometry.width)
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let boot = boot_sector(volume)?;
    let bpb = Fields(&boot);
    let extended = if bpb.u16(22)? == 0 { 66 } else { 38 };
    if bpb.u8(extended)? != 0x29 {
        return Ok(Label::default());
    }
    let serial = bpb.u32(extended + 1)?;
    let label = bpb.text(extended + 5, 11)?;
    let own = root_label(volume, &boot).unwrap_or_default();
    Ok(Label {
        uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
        label: match own {
            Some(label) => label,
            None if label == "NO NAME" => String::new(),
            None => label,
        },
    })
}

/// What the root folder calls the volume, in its first cluster: Windows changes that, and leaves the boot sector's alone.
fn root_label(volume: &dyn ReadAt, boot: &[u8]) -> Result<Option<String>, Untrusted> {
    const ENTRY: usize = 32;
    const LARGEST: u64 = 1 << 16;
    const DELETED: u8 = 0xe5;
    /// Attributes: of a volume's label, and of a part of a long name, which has this bit too.
    const LABEL: u8 = 0x08;
    const LONG_NAME: u8 = 0x0f;
    let Some(geometry) = Geometry::parse(boot)? else {
        return Ok(None);
    };
    let bpb = Fields(boot);
    let (start, size) = match geometry.width {
        Width::Fat32 => {
            let first = u64::from(bpb.u32(44)?).saturating_sub(2);
            let start = geometry.data_start + first * geometry.cluster;
            (start, geometry.cluster)
        }
        Width::Fat12 | Width::Fat16 => {
            let size = u64::from(bpb.u16(17)?) * 32;
            let sector = u64::from(bpb.u16(11)?);
            let start = geometry
                .data_start
                .saturating_sub(size.next_multiple_of(sector));
            (start, size)
        }
    };
    let size = usize::try_from(size.min(LARGEST)).unwrap_or_default();
    let root = volume.bytes_at(start, size)?;
    for entry in root.chunks_exact(ENTRY) {
        let (first, attributes) = (entry[0], entry[11]);
        if first == 0 {
            break;
        }
        if first != DELETED && attributes & LABEL != 0 && attributes & LONG_NAME != LONG_NAME {
            return Ok(Some(Fields(entry).text(0, 11)?));
        }
    }
    Ok(None)
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let boot = boot_sector(volume)?;
    let geometry =
        Geometry::parse(&boot)?.ok_or_else(|| Untrusted::new("the boot sector is gone"))?;
    geometry.check(volume.size())?;
    check_clean(&boot, geometry.width)?;
    let mut keep = RangeCollector::new();
    keep.add(0..geometry.data_start);
    let data_end = geometry.data_start + geometry.clusters * geometry.cluster;
    let per_piece = PIECE * 8 / geometry.width.bits();
    let entries = geometry.clusters + 2;
    let mut first = 0;
    while first < entries {
        let count = per_piece.min(entries - first);
        let piece = read_piece(volume, &geometry, first, count)?;
        if first == 0 {
            check_first_entries(&piece, &geometry)?;
        }
        for index in first.max(2)..first + count {
            if entry(&piece, geometry.width, index - first)? != 0 {
                let start = geometry.data_start + (index - 2) * geometry.cluster;
                keep.add(start..start + geometry.cluster);
            }
        }
        first += count;
    }
    keep.add(data_end..volume.size());
    Ok(keep.finish(volume.size()))
}

/// Windows and Linux mark a mounted volume in its boot sector.
fn check_clean(boot: &[u8], width: Width) -> Result<(), Untrusted> {
    let bpb = Fields(boot);
    let state = if width == Width::Fat32 { 65 } else { 37 };
    if bpb.u8(state)? & 3 != 0 {
        return Err(Untrusted::new("it was not unmounted cleanly"));
    }
    if width == Width::Fat32 && bpb.u16(40)? & 0x80 != 0 {
        return Err(Untrusted::new("its FATs are not mirrored"));
    }
    Ok(())
}

/// `count` entries from `first` on, proven equal in every FAT.
fn read_piece(
    volume: &dyn ReadAt,
    geometry: &Geometry,
    first: u64,
    count: u64,
) -> Result<Vec<u8>, Untrusted> {
    let offset = first * geometry.width.bits() / 8;
    let length = usize::try_from((count * geometry.width.bits()).div_ceil(8))
        .map_err(|_| Untrusted::new("its FAT is too large"))?;
    let piece = volume.bytes_at(geometry.fat_start + offset, length)?;
    for copy in 1..geometry.fats {
        let start = geometry.fat_start + copy * geometry.fat_size + offset;
        if volume.bytes_at(start, length)? != piece {
            return Err(Untrusted::new("its FATs differ"));
        }
    }
    Ok(piece)
}

/// Entry 0 repeats the media byte; entry 1 has the flags of a clean shutdown (FAT16 and FAT32).
fn check_first_entries(piece: &[u8], geometry: &Geometry) -> Result<(), Untrusted> {
    let media = entry(piece, geometry.width, 0)?;
    if media & 0xff != u32::from(geometry.media) {
        return Err(Untrusted::new("its FAT does not begin with the media byte"));
    }
    let clean = match geometry.width {
        Width::Fat12 => 0,
        Width::Fat16 => 0xc000,
        Width::Fat32 => 0x0c00_0000,
    };
    if entry(piece, geometry.width, 1)? & clean != clean {
        return Err(Untrusted::new("it was not unmounted cleanly"));
    }
    Ok(())
}

fn entry(piece: &[u8], width: Width, index: u64) -> Result<u32, Untrusted> {
    let index = usize::try_from(index).map_err(|_| Untrusted::new("its FAT is too large"))?;
    let fields = Fields(piece);
    match width {
        Width::Fat12 => {
            let pair = u32::from(fields.u16(index + index / 2)?);
            Ok(if index % 2 == 0 {
                pair & 0xfff
            } else {
                pair >> 4
            })
        }
        Width::Fat16 => Ok(u32::from(fields.u16(index * 2)?)),
        // The upper four bits are reserved and no part of the entry.
        Width::Fat32 => Ok(fields.u32(index * 4)? & 0x0fff_ffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fat12_entries_share_bytes() {
        let piece = [0xf8, 0xff, 0xff, 0x34, 0x12, 0xab];
        let entries: Vec<_> = (0..4)
            .map(|index| entry(&piece, Width::Fat12, index).unwrap())
            .collect();
        assert_eq!(entries, [0xff8, 0xfff, 0x234, 0xab1]);
    }

    #[test]
    fn the_label_that_windows_gave_is_the_root_folders() {
        use crate::source::Disk;
        use std::fs::{self, File};
        use std::os::unix::fs::FileExt;
        for (bits, at) in [("16", 43), ("32", 71)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fat");
            File::create(&path).unwrap().set_len(40 << 20).unwrap();
            let mut mkfs = std::process::Command::new("mkfs.vfat");
            let made = mkfs
                .args(["-F", bits, "-n", "PITSTOPDATA"])
                .arg(&path)
                .output();
            assert!(made.unwrap().status.success());
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap();
            file.write_all_at(b"NO NAME    ", at).unwrap();
            let volume = Disk::new(&mut file, 40 << 20);
            assert_eq!(label(&volume).unwrap().label, "PITSTOPDATA", "FAT{bits}");
        }
    }

    #[test]
    fn a_boot_sector_of_another_kind_is_no_fat() {
        let mut boot = vec![0; 512];
        boot[510] = 0x55;
        boot[511] = 0xaa;
        assert!(Geometry::parse(&boot).unwrap().is_none());
    }
}
