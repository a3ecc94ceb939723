//! NTFS: the clusters that `$Bitmap` calls used. The `ntfs` crate reads the files.
//!
//! Trusted when the volume is not marked dirty, `$LogFile` was closed or emptied, Windows did not
//! hibernate on it, and the bitmap has every cluster that a file says is its own. What page files hold, and a hibernation file that was woken from, is left out.

mod boot_files;
pub(crate) mod directory;
mod files;
mod record;

use super::bitmap::Bitmap;
use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::{ReadAt, Stream};
use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::structured_values::NtfsVolumeFlags;
use ntfs::{KnownNtfsFileRecordNumber as Known, Ntfs, NtfsError, NtfsReadSeek};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};

/// Fragments of `$Bitmap`; a healthy volume has one or two.
const RUNS_MAX: usize = 1 << 16;
const LOG_PAGE: u64 = 4096;
/// `RESTART_VOLUME_IS_CLEAN`.
const LOG_IS_CLEAN: u16 = 0x2;
/// `LOGFILE_NO_CLIENT`.
const NO_CLIENT: u16 = 0xffff;

impl From<NtfsError> for Untrusted {
    fn from(err: NtfsError) -> Self {
        Self::new(format!("its metadata is damaged: {err}"))
    }
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    contained(|| read_label(volume))
}

/// Whether ntfsresize may let it grow. It takes a dirty volume, and one that Windows hibernated on, which would wake to
/// another filesystem than it remembers.
pub(super) fn check_growth(volume: &dyn ReadAt) -> Result<(), Untrusted> {
    contained(|| {
        let size = volume.size();
        let mut stream = Stream::new(volume);
        let mut ntfs = Ntfs::new(&mut stream)?;
        if ntfs.size() > size || ntfs.size() == 0 {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        // Looking for the stream's name needs the table of capitals.
        ntfs.read_upcase_table(&mut stream)?;
        boot_files::contents(&ntfs, &mut stream)?;
        check_bad_clusters(&ntfs, &mut stream)
    })
}

/// `$BadClus` is one hole, but for clusters that could not be read.
fn check_bad_clusters(ntfs: &Ntfs, stream: &mut Stream<'_>) -> Result<(), Untrusted> {
    let file = ntfs.file(stream, Known::BadClus as u64)?;
    let Some(item) = file.data(stream, "$Bad") else {
        return Ok(());
    };
    let item = item?;
    let attribute = item.to_attribute()?;
    if let NtfsAttributeValue::NonResident(value) = attribute.value(stream)? {
        for run in value.data_runs().take(RUNS_MAX) {
            if run?.data_position().value().is_some() {
                return Err(Untrusted::new(
                    "it has bad clusters on record, which ntfsresize refuses: chkdsk /b on the original",
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    contained(|| read_map(volume))
}

/// The crate believes some fields of a damaged volume before it looks at them, and panics: a doubt as any other.
fn contained<T>(look: impl FnOnce() -> Result<T, Untrusted>) -> Result<T, Untrusted> {
    panic::catch_unwind(AssertUnwindSafe(look))
        .unwrap_or_else(|_| Err(Untrusted::new("its metadata is damaged")))
}

fn read_label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let mut stream = Stream::new(volume);
    let ntfs = Ntfs::new(&mut stream)?;
    let label = match ntfs.volume_name(&mut stream) {
        Some(name) => name?.name().to_string_lossy(),
        None => String::new(),
    };
    Ok(Label {
        uuid: format!("{:016X}", ntfs.serial_number()),
        label,
    })
}

fn read_map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let size = volume.size();
    let mut stream = Stream::new(volume);
    let ntfs = Ntfs::new(&mut stream)?;
    if ntfs.size() > size || ntfs.size() == 0 {
        return Err(Untrusted::new("it says it is larger than the partition"));
    }
    check_volume_flags(&ntfs, &mut stream)?;
    check_log(&ntfs, &mut stream)?;
    let unneeded = boot_files::contents(&ntfs, &mut stream)?;
    let cluster = u64::from(ntfs.cluster_size());
    let clusters = ntfs.size() / cluster;
    let runs = bitmap_runs(&ntfs, &mut stream, clusters.div_ceil(8))?;
    let mut bitmap = Bitmap::new(runs, clusters)?;
    files::check(&ntfs, &mut stream, &mut bitmap)?;
    let mut keep = RangeCollector::new();
    bitmap.places().for_each(|place| keep.add(place));
    bitmap.used(volume, |used| keep.add_blocks(used, cluster))?;
    keep.add(0..cluster);
    // The last sector of the partition, behind the last cluster, is a copy of the boot sector.
    keep.add(clusters * cluster..size);
    Ok(keep.finish(size).without(&unneeded))
}

fn check_volume_flags(ntfs: &Ntfs, stream: &mut Stream<'_>) -> Result<(), Untrusted> {
    let flags = ntfs.volume_info(stream)?.flags();
    let doubtful = NtfsVolumeFlags::IS_DIRTY
        | NtfsVolumeFlags::RESIZE_LOG_FILE
        | NtfsVolumeFlags::UPGRADE_ON_MOUNT
        | NtfsVolumeFlags::REPAIR_OBJECT_ID
        | NtfsVolumeFlags::CHKDSK_UNDERWAY;
    if flags.intersects(doubtful) {
        return Err(Untrusted::new("it is marked dirty"));
    }
    Ok(())
}

/// `$LogFile` begins with two restart pages, or is filled with ones when it is empty.
fn check_log(ntfs: &Ntfs, stream: &mut Stream<'_>) -> Result<(), Untrusted> {
    let file = ntfs.file(stream, Known::LogFile as u64)?;
    let item = file
        .data(stream, "")
        .ok_or_else(|| Untrusted::new("it has no log"))??;
    let mut value = item.to_attribute()?.value(stream)?;
    if value.len() < 2 * LOG_PAGE {
        return Err(Untrusted::new("its log is cut short"));
    }
    let mut pages = vec![0; 2 * 4096];
    value.read_exact(stream, &mut pages)?;
    let (first, second) = (
        Fields(&pages).slice(0, 4096)?,
        Fields(&pages).slice(4096, 4096)?,
    );
    let mut newest: Option<Restart> = None;
    for page in [first, second] {
        if page.starts_with(b"RSTR") {
            let restart = Restart::parse(page)?;
            if newest.as_ref().is_none_or(|known| restart.lsn > known.lsn) {
                newest = Some(restart);
            }
        } else if page.iter().any(|byte| *byte != 0xff) {
            return Err(Untrusted::new("its log is damaged"));
        }
    }
    match newest {
        Some(restart) if !restart.clean => Err(Untrusted::new(
            "its log is not closed: it was not unmounted cleanly",
        )),
        _ => Ok(()),
    }
}

struct Restart {
    lsn: u64,
    clean: bool,
}

impl Restart {
    fn parse(page: &[u8]) -> Result<Self, Untrusted> {
        let fields = Fields(page);
        let area = usize::from(fields.u16(24)?);
        let in_use = fields.u16(area + 12)?;
        let flags = fields.u16(area + 14)?;
        Ok(Self {
            lsn: fields.u64(area)?,
            clean: in_use == NO_CLIENT || flags & LOG_IS_CLEAN != 0,
        })
    }
}

/// Where the first `needed` bytes of `$Bitmap` are; a hole in it would read as free.
fn bitmap_runs(
    ntfs: &Ntfs,
    stream: &mut Stream<'_>,
    needed: u64,
) -> Result<Vec<Range<u64>>, Untrusted> {
    let file = ntfs.file(stream, Known::Bitmap as u64)?;
    let item = file
        .data(stream, "")
        .ok_or_else(|| Untrusted::new("it has no bitmap"))??;
    let attribute = item.to_attribute()?;
    if attribute.is_resident() || attribute.value_length() < needed {
        return Err(Untrusted::new("its bitmap is too short"));
    }
    let ntfs::attribute_value::NtfsAttributeValue::NonResident(value) = attribute.value(stream)?
    else {
        return Err(Untrusted::new("its bitmap is in an attribute list"));
    };
    let mut runs = Vec::new();
    let mut found = 0;
    for run in value.data_runs() {
        let run = run?;
        let start = run
            .data_position()
            .value()
            .ok_or_else(|| Untrusted::new("its bitmap has a hole"))?
            .get();
        let length = run.allocated_size();
        let end = start.checked_add(length).filter(|end| *end <= ntfs.size());
        let end = end.ok_or_else(|| Untrusted::new("its bitmap is outside the volume"))?;
        runs.push(start..end);
        found += length;
        if found >= needed {
            return Ok(runs);
        }
        if runs.len() > RUNS_MAX {
            break;
        }
    }
    Err(Untrusted::new("its bitmap is too short"))
}
