//! Makes a disk look as a layout says. What is right already is left alone, so that a second time changes nothing.

use super::Layout;
use super::filesystems::Wanted;
use super::place::{Place, Placed};
use crate::disk::{DiskInput, DiskLock, Input as _, Output, Target};
use crate::disk::{nodes, signature_places};
use crate::event::Reporter;
use crate::source::{self, ReadAt, Window};
use crate::table::{self, PartitionKind, Table, TableKind, TableWrites};
use crate::units;
use crate::used;
use anyhow::{Context, bail};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// What a table's ends take.
const EDGE: u64 = 1 << 20;

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub placed: Placed,
    /// Whether the table is not what the layout says: everything on the disk is lost.
    pub table: bool,
    /// Numbers of the partitions whose filesystem is to be made.
    pub filesystems: Vec<u32>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub table_written: bool,
    /// Numbers of the partitions that got a new filesystem.
    pub filesystems_made: Vec<u32>,
}

impl Changes {
    /// Whether the disk is as the layout says already.
    pub fn is_empty(&self) -> bool {
        !self.table && self.filesystems.is_empty()
    }

    fn made(&self) -> impl Iterator<Item = &Place> {
        self.placed
            .places
            .iter()
            .filter(|place| self.filesystems.contains(&place.number))
    }
}

/// Compares the disk at `path` with `layout`. Writes nothing.
///
/// # Errors
/// When the layout does not fit, the disk cannot be read, or a tool is missing for what is to be made, or would refuse
/// it.
pub fn compare(layout: &Layout, path: &Path) -> anyhow::Result<Changes> {
    if layout.is_stacked() {
        bail!(
            "the layout has [[raid]], [[luks]] or [[lvm]], which only the deploy of a tree makes: make the partitions without them, \
             then arrays, LUKS and volumes with mdadm, cryptsetup, vgcreate and lvcreate"
        );
    }
    let input = DiskInput::open(path)?;
    let (sector, _) = input.sector_sizes();
    let placed = layout.place(input.size(), sector)?;
    let mut file = input.file();
    let disk = source::Disk::new(&mut file, placed.disk);
    let read = table::read(&disk, sector);
    let same_table = match read {
        Ok(found) => is_same(&placed, &found, &disk)?,
        Err(_) => false,
    };
    let mut wanted = Vec::new();
    for place in &placed.places {
        let Some(filesystem) = &place.entry.filesystem else {
            continue;
        };
        let window = Window::new(&disk, place.start, place.size);
        if !same_table || !has(place, filesystem, &used::recognise(&window)) {
            wanted.push(place.number);
        }
    }
    let changes = Changes {
        placed,
        table: !same_table,
        filesystems: wanted,
    };
    judged(changes, path)
}

/// What it takes to make all partitions of `layout` on the disk at `path`, whatever is there, and the filesystems on them. Writes
/// nothing.
///
/// # Errors
/// As [`compare`], but for what is on the disk.
pub fn anew(layout: &Layout, path: &Path) -> anyhow::Result<Changes> {
    let input = DiskInput::open(path)?;
    let (sector, _) = input.sector_sizes();
    let placed = layout.place(input.size(), sector)?;
    let with_filesystem = placed
        .places
        .iter()
        .filter(|place| place.entry.filesystem.is_some());
    let changes = Changes {
        filesystems: with_filesystem.map(|place| place.number).collect(),
        table: true,
        placed,
    };
    judged(changes, path)
}

/// The same changes, if they can be made.
fn judged(changes: Changes, path: &Path) -> anyhow::Result<Changes> {
    for place in changes.made() {
        Wanted::of(place).find_tool()?;
    }
    if changes.table {
        // What the table has no room for is known now.
        writes(&changes.placed)?;
    }
    // What the disk has now is gone when its filesystems are made.
    let on_disk = |uuid: &str| uuids(path).iter().any(|has| has.eq_ignore_ascii_case(uuid));
    for place in changes.made() {
        Wanted::of(place).rehearse(changes.placed.sector, &on_disk)?;
    }
    Ok(changes)
}

/// Those of the filesystems that are on the disk now; none where it has no table that can be read.
pub fn uuids(path: &Path) -> Vec<String> {
    let Ok(input) = DiskInput::open(path) else {
        return Vec::new();
    };
    let mut file = input.file();
    let disk = source::Disk::new(&mut file, input.size());
    let found = table::read(&disk, input.sector_sizes().0).map(|table| table.partitions);
    let windows = found.unwrap_or_default().into_iter();
    windows
        .map(|part| used::recognise(&Window::new(&disk, part.start, part.size)).uuid)
        .collect()
}

fn has(place: &Place, filesystem: &str, found: &used::Contents) -> bool {
    let entry = &place.entry;
    let same = |wanted: &str, is: &str| {
        wanted.is_empty()
            || wanted
                .replace('-', "")
                .eq_ignore_ascii_case(&is.replace('-', ""))
    };
    found.filesystem == filesystem
        && same(&entry.label, &found.label)
        && same(&entry.uuid, &found.uuid)
}

/// Whether the table on the disk is the layout's in all that the layout says.
fn is_same(placed: &Placed, found: &Table, disk: &dyn ReadAt) -> anyhow::Result<bool> {
    let same_id = placed
        .id
        .as_ref()
        .is_none_or(|id| id.eq_ignore_ascii_case(&found.id));
    if found.kind != placed.table || !same_id || !found.note.is_empty() {
        return Ok(false);
    }
    let wanted: Vec<&Place> = placed
        .places
        .iter()
        .filter(|place| !place.kind.is_extended())
        .collect();
    let same = wanted.len() == found.partitions.len()
        && wanted.iter().zip(&found.partitions).all(|(place, is)| {
            let id = &place.entry.id;
            (place.number, place.start, place.size) == (is.number, is.start, is.size)
                && place.kind == is.kind
                && place.entry.name == is.name
                && (placed.table != TableKind::Gpt || place.flags == is.attributes)
                && id.as_ref().is_none_or(|id| id.eq_ignore_ascii_case(&is.id))
        });
    Ok(same && (placed.table == TableKind::Gpt || same_primaries(placed, disk)?))
}

/// The active flag and the extended partition, of which a [`Table`] says nothing.
fn same_primaries(placed: &Placed, disk: &dyn ReadAt) -> anyhow::Result<bool> {
    let first = disk.bytes_at(0, 512).context("reading the MBR")?;
    Ok((1u32..)
        .zip(first[446..510].chunks_exact(16))
        .all(|(number, entry)| {
            let is = |at: usize| {
                let bytes = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
                u64::from(u32::from_le_bytes(bytes)) * placed.sector
            };
            let primary = |place: &&Place| place.record.is_none() && place.number == number;
            match placed.places.iter().find(primary) {
                None => entry[4] == 0,
                Some(place) => {
                    (entry[0] & 0x80 != 0) == (place.flags & 1 == 1)
                        && place.kind == PartitionKind::Code(entry[4])
                        && (place.start, place.size) == (is(8), is(12))
                }
            }
        }))
}

/// Makes the changes that [`compare`] found on the disk at `path`.
///
/// # Errors
/// When the disk is in use or cannot be written, when a tool fails, or when what is read back is not the
/// layout. The disk has no table, or a part of the filesystems, then; another try completes it.
pub fn apply(changes: &Changes, path: &Path, reporter: &dyn Reporter) -> anyhow::Result<Outcome> {
    let _lock = (!changes.is_empty())
        .then(|| DiskLock::take(path))
        .transpose()?;
    apply_locked(changes, path, reporter)
}

/// [`apply`], where the caller has the disk's [`DiskLock`] and keeps it.
///
/// # Errors
/// As of [`apply`].
pub fn apply_locked(
    changes: &Changes,
    path: &Path,
    reporter: &dyn Reporter,
) -> anyhow::Result<Outcome> {
    let placed = &changes.placed;
    if !changes.is_empty() {
        check_locked(changes, path)?;
    }
    if changes.table {
        write_table(changes, path, reporter)?;
    }
    for place in changes.made() {
        reporter.info(format!(
            "{}: making {} on partition {}",
            path.display(),
            place.entry.filesystem.as_deref().unwrap_or_default(),
            place.number
        ));
        make_filesystem(placed, place, path, reporter)?;
    }
    check(placed, path)?;
    Ok(Outcome {
        table_written: changes.table,
        filesystems_made: changes.filesystems.clone(),
    })
}

/// Whether the disk can be had, and is the one that was looked at.
///
/// # Errors
/// When it is in use, or has another size.
pub fn check_free(changes: &Changes, path: &Path) -> anyhow::Result<()> {
    let _lock = DiskLock::take(path)?;
    check_locked(changes, path)
}

/// [`check_free`], where the caller has the disk's [`DiskLock`].
///
/// # Errors
/// As of [`check_free`], but for locks.
pub fn check_locked(changes: &Changes, path: &Path) -> anyhow::Result<()> {
    let target = Target::reopen(path)?;
    if target.limit() != Some(changes.placed.disk) {
        bail!(
            "{} has another size than when it was looked at",
            target.name()
        );
    }
    Ok(())
}

/// The new table, with identifiers of its own.
fn writes(placed: &Placed) -> anyhow::Result<TableWrites> {
    let table = placed.new_table().context("making identifiers")?;
    Ok(table.writes(placed.disk)?)
}

fn write_table(changes: &Changes, path: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let placed = &changes.placed;
    let target = Target::reopen(path)?;
    let name = target.name().to_owned();
    let pieces = writes(placed).with_context(|| format!("making a table for {name}"))?;
    let doing = |at: u64| format!("writing {name} at {at}");
    // The old table goes first: a power cut leaves a disk without one, not one of two.
    for edge in [0..EDGE, placed.disk.saturating_sub(EDGE)..placed.disk] {
        let at = edge.start;
        target.zero(edge).with_context(|| doing(at))?;
    }
    target.flush().with_context(|| format!("flushing {name}"))?;
    for place in &placed.places {
        for range in signature_places::of_volume(&place.range()).iter() {
            let at = range.start;
            target.zero(range).with_context(|| doing(at))?;
        }
    }
    // The primary table last: nothing leads to the new partitions before they are ready.
    for (at, bytes) in pieces.backup.iter().chain(&pieces.primary) {
        target.write_at(bytes, *at).with_context(|| doing(*at))?;
    }
    target.flush().with_context(|| format!("flushing {name}"))?;
    target
        .reread_table()
        .with_context(|| format!("having the kernel read the new table of {name}"))?;
    reporter.info(format!(
        "{name}: a new {} table of {} partitions is written",
        placed.table.name(),
        placed.places.len()
    ));
    Ok(())
}

/// Reads back what was written.
fn check(placed: &Placed, path: &Path) -> anyhow::Result<()> {
    let input = DiskInput::open(path)?;
    let (sector, _) = input.sector_sizes();
    let mut file = input.file();
    let disk = source::Disk::new(&mut file, placed.disk);
    let found = table::read(&disk, sector)
        .with_context(|| format!("reading back the table of {}", path.display()))?;
    if !is_same(placed, &found, &disk)? {
        bail!("{} does not read back as the layout says", path.display());
    }
    for place in &placed.places {
        let window = Window::new(&disk, place.start, place.size);
        if let Some(filesystem) = &place.entry.filesystem
            && !has(place, filesystem, &used::recognise(&window))
        {
            bail!(
                "partition {} of {} does not read back as {filesystem}",
                place.number,
                path.display()
            );
        }
    }
    Ok(())
}

fn make_filesystem(
    placed: &Placed,
    place: &Place,
    path: &Path,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let block = fs::metadata(path)
        .with_context(|| format!("looking at {}", path.display()))?
        .file_type()
        .is_block_device();
    let wanted = Wanted::of(place);
    if block {
        let node = nodes::partition(path, place.number)?;
        return wanted.make(&node, placed.sector, reporter);
    }
    // A tool writes to a file of its own, whose bytes then go where the partition is.
    let scratch = tempfile::NamedTempFile::new().context("making a file for a filesystem")?;
    scratch
        .as_file()
        .set_len(place.size)
        .with_context(|| format!("making a file of {}", units::bytes(place.size)))?;
    wanted.make(scratch.path(), placed.sector, reporter)?;
    let made = DiskInput::open(scratch.path())?;
    let target = Target::reopen(path)?;
    target
        .zero(place.range())
        .with_context(|| format!("writing {} at {}", path.display(), place.start))?;
    let mut buffer = vec![0; 1 << 20];
    for range in made.data()?.iter() {
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at)
                .unwrap_or(buffer.len())
                .min(buffer.len());
            let read = made
                .read_at(&mut buffer[..length], at)
                .context("reading the filesystem that was made")?;
            if read == 0 {
                bail!("the filesystem that was made ends early");
            }
            target
                .write_at(&buffer[..read], place.start + at)
                .with_context(|| format!("writing {} at {}", path.display(), place.start + at))?;
            at += u64::try_from(read)?;
        }
    }
    target
        .flush()
        .with_context(|| format!("flushing {}", path.display()))
}
