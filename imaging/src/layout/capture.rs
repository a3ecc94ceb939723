//! A layout of what is on a disk now.

use super::{Entry, FLAGS, Layout, VERSION, filesystems, kinds};
use crate::disk::{DiskInput, Input as _};
use crate::source::{self, ReadAt as _, Window};
use crate::table::{self, Partition, TableKind};
use crate::used::{self, Contents};
use anyhow::{Context, bail};
use std::path::Path;

/// Reads the table of the disk at `path`, and what is in its partitions. `exact` keeps what makes this disk
/// itself: its identifiers, those of its partitions, and the UUIDs of its filesystems.
///
/// # Errors
/// When it cannot be read, has no table, or one that is in doubt.
pub fn capture(path: &Path, exact: bool) -> anyhow::Result<Layout> {
    let name = path.display();
    let input = DiskInput::open(path)?;
    let (sector, _) = input.sector_sizes();
    let mut file = input.file();
    let disk = source::Disk::new(&mut file, input.size());
    let table = table::read(&disk, sector)
        .with_context(|| format!("reading the partition table of {name}"))?;
    if table.kind == TableKind::None {
        bail!("{name} has no partition table");
    }
    let mut partitions = Vec::new();
    if table.kind == TableKind::Mbr {
        let first = disk.bytes_at(0, 512).context("reading the MBR")?;
        partitions = primaries(&first, u64::from(sector));
    }
    for part in &table.partitions {
        let window = Window::new(&disk, part.start, part.size);
        let found = used::recognise(&window);
        let entry = entry(table.kind, part, found, exact);
        let at = partitions
            .iter()
            .position(|p: &Entry| p.start == entry.start && p.logical == entry.logical);
        match at {
            Some(at) => {
                let flags = partitions[at].flags.clone();
                partitions[at] = Entry { flags, ..entry };
            }
            None => partitions.push(entry),
        }
    }
    leave_out_usual(&mut partitions);
    Ok(Layout {
        version: VERSION,
        table: table.kind,
        id: exact.then_some(table.id),
        // Places are those of the disk, aligned or not.
        alignment: Some(sector.to_string()),
        partitions,
        raid: Vec::new(),
        luks: Vec::new(),
        lvm: Vec::new(),
    })
}

/// One partition, and the filesystem in it if its tool can make it again.
fn entry(table: TableKind, part: &Partition, found: Contents, exact: bool) -> Entry {
    let gpt = table == TableKind::Gpt;
    let known = filesystems::is_known(&found.filesystem);
    let keep_uuid = exact && known && filesystems::takes_uuid(&found.filesystem);
    let flags = FLAGS
        .iter()
        .filter(|(_, bit)| gpt && part.attributes >> bit & 1 == 1)
        .map(|(flag, _)| (*flag).to_owned());
    Entry {
        kind: kinds::name(&part.kind),
        size: part.size.to_string(),
        start: Some(part.start),
        number: (gpt || part.number <= 4).then_some(part.number),
        logical: !gpt && part.number > 4,
        name: part.name.clone(),
        id: (exact && gpt).then(|| part.id.clone()),
        flags: flags.collect(),
        filesystem: known.then_some(found.filesystem),
        label: if known { found.label } else { String::new() },
        uuid: if keep_uuid { found.uuid } else { String::new() },
        features: Vec::new(),
        mount: String::new(),
    }
}

/// A number that the partition would get anyhow need not be written.
fn leave_out_usual(partitions: &mut [Entry]) {
    let mut next = 1;
    for entry in partitions.iter_mut().filter(|entry| !entry.logical) {
        let number = entry.number.unwrap_or(next);
        if number == next {
            entry.number = None;
        }
        next = number + 1;
    }
}

/// The four entries of an MBR, the extended one among them, with the active flag.
fn primaries(first: &[u8], sector: u64) -> Vec<Entry> {
    first
        .get(446..510)
        .unwrap_or_default()
        .chunks_exact(16)
        .zip(1..)
        .filter(|(entry, _)| entry[4] != 0)
        .map(|(entry, number)| {
            let bytes = |at: usize| {
                let sectors = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
                u64::from(u32::from_le_bytes(sectors)) * sector
            };
            Entry {
                kind: kinds::name(&table::PartitionKind::Code(entry[4])),
                size: bytes(12).to_string(),
                start: Some(bytes(8)),
                number: Some(number),
                flags: (entry[0] & 0x80 != 0)
                    .then(|| "boot".to_owned())
                    .into_iter()
                    .collect(),
                ..Entry::default()
            }
        })
        .collect()
}
