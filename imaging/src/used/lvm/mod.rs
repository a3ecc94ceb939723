//! LVM2: a physical volume whose logical volumes are linear is looked into, volume by volume.
//!
//! Labels, metadata areas and what is in front of and behind the extents are kept whole; extents of no
//! volume are left out. Anything but linear volumes (thin, RAID, snapshots, caches) keeps every block.
//!
//! LVM writes the copies of a group's metadata one after another, and goes on with the newest one: copies that differ in age
//! are no map.

mod group;
mod text;

use super::bytes::Fields;
use super::claims::Contested;
use super::neighbours::is_hashed;
use super::probe::{self, Found};
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
pub use group::{LogicalVolume, Piece, VolumeGroup, volume_group};
use std::io;
use std::ops::Range;
use text::{Section, Value};

const SECTOR: u64 = 512;
/// The label may be in any of the first four sectors.
const LABEL_SECTORS: u64 = 4;
const METADATA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
const METADATA_MAX: u64 = 16 << 20;
const SEGMENTS_MAX: usize = 1 << 16;
/// LVM2's own starting value; reflected, as the crate wants it.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::Algorithm {
    init: 0xf597_a6cf_u32.reverse_bits(),
    xorout: 0,
    ..crc::CRC_32_ISO_HDLC
});

/// What the label and the metadata say of one physical volume.
struct Physical {
    group: String,
    uuid: String,
    state: GroupState,
    /// Whether the group has no other physical volume.
    alone: bool,
    /// Bytes on the volume where extents begin and end.
    extents: Range<u64>,
    volumes: Vec<Logical>,
}

/// Of which group the metadata is, and how new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupState {
    id: String,
    seqno: u64,
}

impl GroupState {
    /// Whether one of both is older than the group is now.
    pub(super) fn differs_in_age(&self, other: &Self) -> bool {
        self.id == other.id && self.seqno != other.seqno
    }
}

/// A logical volume.
struct Logical {
    name: String,
    /// Those of its segments that are on this physical volume.
    segments: Vec<Segment>,
    /// Whether all of it is.
    whole: bool,
}

#[derive(Clone)]
struct Segment {
    /// Byte within the logical volume.
    logical: u64,
    /// Byte within the physical volume.
    physical: u64,
    length: u64,
}

/// What is kept, and a remark for each logical volume that could not be looked into.
pub(super) struct Mapped {
    pub(super) kept: Extents,
    pub(super) remarks: Vec<String>,
    pub(super) state: GroupState,
}

impl Physical {
    /// Bytes of its extents that belong to no volume.
    fn in_no_volume(&self) -> Vec<Range<u64>> {
        let mut taken: Vec<&Segment> = self.volumes.iter().flat_map(|it| &it.segments).collect();
        taken.sort_by_key(|segment| segment.physical);
        let mut at = self.extents.start;
        let mut free = Vec::new();
        for segment in taken {
            free.push(at..segment.physical);
            at = segment.physical + segment.length;
        }
        free.push(at..self.extents.end);
        free.retain(|range| !range.is_empty());
        free
    }
}

fn label_sector(volume: &dyn ReadAt) -> Option<u64> {
    (0..LABEL_SECTORS).find(|sector| {
        volume
            .bytes_at(sector * SECTOR, 32)
            .is_ok_and(|head| head.starts_with(b"LABELONE") && head.ends_with(b"LVM2 001"))
    })
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let physical = read(volume)?;
    Ok(Label {
        label: physical.group,
        uuid: physical.uuid,
    })
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Mapped, Untrusted> {
    let size = volume.size();
    let physical = read(volume)?;
    let mut keep = RangeCollector::new();
    keep.add(0..physical.extents.start);
    keep.add(physical.extents.end..size);
    let mut remarks = Vec::new();
    if !physical.alone {
        for range in physical.in_no_volume() {
            keep.add(range);
        }
        remarks.push(
            "extents of no volume are kept: the group has other physical volumes, whose metadata may be newer".into(),
        );
    }
    for (logical, found) in physical
        .volumes
        .iter()
        .zip(look_into_all(volume, &physical))
    {
        let kept = match found.map {
            Ok(kept) => kept,
            Err(doubt) => {
                remarks.push(format!("every block of {} is kept: {doubt}", logical.name));
                Extents::single(0..u64::MAX)
            }
        };
        for segment in &logical.segments {
            for range in kept.within(segment.logical..segment.logical + segment.length) {
                let start = segment.physical + (range.start - segment.logical);
                keep.add(start..start + (range.end - range.start));
            }
        }
    }
    Ok(Mapped {
        kept: keep.finish(size),
        remarks,
        state: physical.state,
    })
}

/// What is in each volume, in their order. What one claims of the others is settled.
fn look_into_all(volume: &dyn ReadAt, physical: &Physical) -> Vec<Found> {
    let volumes = physical.volumes.iter();
    let mut all: Vec<Found> = volumes.map(|logical| look_into(volume, logical)).collect();
    if all.iter().any(Found::is_verity) {
        for other in all.iter_mut().filter(|found| is_hashed(found)) {
            let why = "the hashes of dm-verity in a volume beside it may be of all its blocks, free ones too";
            other.dispute(why.into(), Contested::by("dm-verity"));
        }
    }
    all
}

fn look_into(volume: &dyn ReadAt, logical: &Logical) -> Found {
    if !logical.whole {
        let doubt = Untrusted::new("parts of it are on other disks");
        return Found::whole("", doubt, Vec::new());
    }
    probe::look_within(&Linear { volume, logical })
}

/// A logical volume, read through its segments.
struct Linear<'a> {
    volume: &'a dyn ReadAt,
    logical: &'a Logical,
}

impl ReadAt for Linear<'_> {
    fn size(&self) -> u64 {
        self.logical
            .segments
            .iter()
            .map(|segment| segment.logical + segment.length)
            .max()
            .unwrap_or(0)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let found = self
                .logical
                .segments
                .iter()
                .find(|segment| segment.logical <= at && at < segment.logical + segment.length);
            let Some(segment) = found else {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "reading logical volume {} at {at}: there is nothing",
                        self.logical.name
                    ),
                ));
            };
            let offset = at - segment.logical;
            let length = usize::try_from(segment.length - offset)
                .map_or(rest.len(), |left| left.min(rest.len()));
            let (part, after) = rest.split_at_mut(length);
            self.volume.read_exact_at(part, segment.physical + offset)?;
            at += u64::try_from(length).map_err(io::Error::other)?;
            rest = after;
        }
        Ok(())
    }
}

fn read(volume: &dyn ReadAt) -> Result<Physical, Untrusted> {
    let (text, uuid) = text_of(volume)?;
    physical(&text, &uuid, volume.size())
}

/// The name of the group that a text is of, and what it says of it.
fn group_in(text: &Section) -> Result<(&str, &Section), Untrusted> {
    let mut sections = text.sections();
    sections
        .next()
        .ok_or_else(|| Untrusted::new("its metadata names no volume group"))
}

fn state(text: &Section) -> Result<GroupState, Untrusted> {
    let (_, group) = group_in(text)?;
    Ok(GroupState {
        id: group.text("id")?.into(),
        seqno: group.number("seqno")?,
    })
}

/// The metadata on a physical volume, and the UUID that it has there.
fn text_of(volume: &dyn ReadAt) -> Result<(Section, String), Untrusted> {
    let (told, uuid) = copies(volume)?;
    let mut told = told.into_iter();
    let (state, text) = told
        .next()
        .ok_or_else(|| Untrusted::new("its metadata is on another disk"))?;
    if told.any(|(other, _)| other != state) {
        return Err(Untrusted::new(
            "one of the two copies of its metadata is older than the other",
        ));
    }
    Ok((text, uuid))
}

/// The newest state of its group that a physical volume tells of, whatever else is wrong with it.
pub(super) fn state_of(volume: &dyn ReadAt) -> Option<GroupState> {
    let (told, _) = copies(volume).ok()?;
    let states = told.into_iter().map(|(state, _)| state);
    states.max_by_key(|state| state.seqno)
}

/// The copies of the metadata, and the UUID of the physical volume.
fn copies(volume: &dyn ReadAt) -> Result<(Vec<(GroupState, Section)>, String), Untrusted> {
    let sector = label_sector(volume).ok_or_else(|| Untrusted::new("the label is gone"))?;
    let raw = volume.bytes_at(sector * SECTOR, 512)?;
    let label = Fields(&raw);
    if CRC.checksum(label.slice(20, 492)?) != label.u32(16)? || label.u64(8)? != sector {
        return Err(Untrusted::new("the checksum of its label is wrong"));
    }
    let at = usize::try_from(label.u32(20)?).unwrap_or(usize::MAX);
    let header = Fields(label.slice(at, raw.len().saturating_sub(at))?);
    let uuid = header.text(0, 32)?;
    if header.u64(32)? > volume.size() {
        return Err(Untrusted::new("it says it is larger than the partition"));
    }
    let mut told = Vec::new();
    for (start, size) in metadata_areas(header)? {
        if let Some(text) = metadata(volume, start, size)? {
            let text = text::parse(&text)?;
            told.push((state(&text)?, text));
        }
    }
    Ok((told, uuid))
}

/// `struct pv_header`: a list of data areas, then one of metadata areas, both ended by zeros.
fn metadata_areas(header: Fields<'_>) -> Result<Vec<(u64, u64)>, Untrusted> {
    let mut lists = [Vec::new(), Vec::new()];
    let mut at = 40;
    for list in &mut lists {
        loop {
            let area = (header.u64(at)?, header.u64(at + 8)?);
            at += 16;
            if area.0 == 0 {
                break;
            }
            list.push(area);
        }
    }
    let [_, metadata] = lists;
    Ok(metadata)
}

/// The current text of a metadata area, which is a ring behind a header of one sector; `None` where the group has it elsewhere.
fn metadata(volume: &dyn ReadAt, area: u64, size: u64) -> Result<Option<String>, Untrusted> {
    let raw = volume.bytes_at(area, 512)?;
    let header = Fields(&raw);
    let damaged = || Untrusted::new("its metadata area is damaged");
    if CRC.checksum(header.slice(4, 508)?) != header.u32(0)?
        || header.slice(4, 16)? != METADATA_MAGIC
        || header.u64(24)? != area
        || header.u64(32)? != size
    {
        return Err(damaged());
    }
    let (offset, length) = (header.u64(40)?, header.u64(48)?);
    let (checksum, flags) = (header.u32(56)?, header.u32(60)?);
    if flags != 0 || offset == 0 {
        return Ok(None);
    }
    if header.u64(64)? != 0 {
        return Err(Untrusted::new("its metadata was being changed"));
    }
    if offset < SECTOR || offset >= size || length > METADATA_MAX || length > size - SECTOR {
        return Err(damaged());
    }
    let first = length.min(size - offset);
    let part = |length: u64| usize::try_from(length).map_err(|_| damaged());
    let mut bytes = volume.bytes_at(area + offset, part(first)?)?;
    bytes.extend(volume.bytes_at(area + SECTOR, part(length - first)?)?);
    if CRC.checksum(&bytes) != checksum {
        return Err(Untrusted::new("the checksum of its metadata is wrong"));
    }
    let text = String::from_utf8(bytes).map_err(|_| damaged())?;
    Ok(Some(text.trim_end_matches('\0').to_owned()))
}

fn physical(text: &Section, uuid: &str, size: u64) -> Result<Physical, Untrusted> {
    let (name, group) = group_in(text)?;
    let extent = bytes_of(group.number("extent_size")?)?;
    let mut own = None;
    let mut count = 0;
    for (name, volume) in group.sections_in("physical_volumes") {
        count += 1;
        if volume.text("id")?.replace('-', "") == uuid {
            own = Some((name, volume));
        }
    }
    let (own_name, own) =
        own.ok_or_else(|| Untrusted::new("its metadata does not know this physical volume"))?;
    let start = bytes_of(own.number("pe_start")?)?;
    let end = own
        .number("pe_count")?
        .checked_mul(extent)
        .and_then(|length| length.checked_add(start))
        .filter(|end| *end <= size && extent > 0)
        .ok_or_else(|| Untrusted::new("its extents do not fit the partition"))?;
    let mut volumes = Vec::new();
    for (name, volume) in group.sections_in("logical_volumes") {
        volumes.push(logical(name, volume, own_name, extent, start..end)?);
    }
    check_apart(&volumes)?;
    Ok(Physical {
        group: name.into(),
        uuid: uuid.into(),
        state: state(text)?,
        alone: count == 1,
        extents: start..end,
        volumes,
    })
}

/// Metadata counts in sectors of 512 bytes.
fn bytes_of(sectors: u64) -> Result<u64, Untrusted> {
    sectors
        .checked_mul(SECTOR)
        .ok_or_else(|| Untrusted::new("its metadata has impossible sizes"))
}

fn logical(
    name: &str,
    volume: &Section,
    own: &str,
    extent: u64,
    extents: Range<u64>,
) -> Result<Logical, Untrusted> {
    let mut segments = Vec::new();
    let mut whole = true;
    for (_, segment) in volume.sections() {
        let linear = segment.text("type")? == "striped" && segment.number("stripe_count")? == 1;
        if !linear {
            return Err(not_linear(name));
        }
        let [Value::Text(physical), Value::Number(first)] = segment.list("stripes")? else {
            return Err(not_linear(name));
        };
        if physical != own {
            whole = false;
            continue;
        }
        let scaled = |extents: u64| extents.checked_mul(extent);
        let placed = scaled(*first)
            .and_then(|at| at.checked_add(extents.start))
            .zip(scaled(segment.number("start_extent")?))
            .zip(scaled(segment.number("extent_count")?))
            .filter(|((physical, logical), length)| {
                physical
                    .checked_add(*length)
                    .is_some_and(|end| end <= extents.end)
                    && logical.checked_add(*length).is_some()
            });
        let Some(((physical, logical), length)) = placed else {
            return Err(Untrusted::new(format!(
                "{name} has segments outside the extents"
            )));
        };
        segments.push(Segment {
            logical,
            physical,
            length,
        });
    }
    if segments.len() > SEGMENTS_MAX {
        return Err(Untrusted::new(format!("{name} has too many segments")));
    }
    segments.sort_by_key(|segment| segment.logical);
    Ok(Logical {
        name: name.into(),
        segments,
        whole,
    })
}

fn not_linear(name: &str) -> Untrusted {
    Untrusted::new(format!("logical volume {name} is not linear"))
}

/// No extent may belong to two volumes.
fn check_apart(volumes: &[Logical]) -> Result<(), Untrusted> {
    let mut all: Vec<_> = volumes.iter().flat_map(|volume| &volume.segments).collect();
    all.sort_by_key(|segment| segment.physical);
    let overlap = all.windows(2).any(
        |pair| matches!(pair, [before, after] if after.physical < before.physical + before.length),
    );
    if overlap {
        return Err(Untrusted::new("its logical volumes overlap"));
    }
    Ok(())
}
