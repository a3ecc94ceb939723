//! `new-ids`: new GUIDs or a new MBR signature for a copy, and a search for files that still name the old ones.

use super::Kind;
use super::future_disk::{FutureDisk, Raw};
use super::image_bytes::{ImageBytes, ImageHead};
use super::image_table::check_owner;
use super::opened_image::{Contents, Foreign, OpenedImage};
use super::target_writes::write_table;
use crate::disk::{Output, Target};
use crate::event::Reporter;
use crate::random;
use crate::references;
use crate::source::{ReadAt, Window};
use crate::table::{
    self, NewId, ParsedTable, Renewed, TableError, TableKind, TableWrites, gpt_sector_size,
};
use anyhow::{Context, bail};

/// New identifiers that can be given, as far as that is known before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Bytes of the sectors in which the table counts.
    sector: u32,
    /// Whether nothing but the beginning of the disk was known.
    by_primary: bool,
}

impl Renewal {
    /// Tries it on the disk as it will be with the image on it; `remade` is the table that it gets in place of the
    /// image's own.
    ///
    /// # Errors
    /// When the table is in doubt, or cannot be read.
    pub fn of(
        opened: &OpenedImage,
        output: &Target,
        remade: Option<&TableWrites>,
    ) -> anyhow::Result<Self> {
        let image = opened.source();
        let own = output.sector_size();
        let of_head = || -> anyhow::Result<u32> {
            let mut start = [0; 2 * 4096];
            let wanted =
                usize::try_from(image.size()).map_or(start.len(), |it| it.min(start.len()));
            image.read_exact_at(&mut start[..wanted], 0)?;
            Ok(gpt_sector_size(&start).or(own).unwrap_or(512))
        };
        let (bytes, sector, made_for): (Box<dyn ReadAt>, u32, u32) = match opened.contents() {
            Contents::Indexed(loaded) => {
                let made_for = loaded.meta.disk.logical_sector_size;
                let bytes = Box::new(ImageBytes::new(image, &loaded.index));
                (bytes, own.unwrap_or(made_for), made_for)
            }
            Contents::Foreign(Foreign {
                kind: Kind::Raw, ..
            }) => {
                let sector = of_head()?;
                (Box::new(Raw(image)), sector, sector)
            }
            Contents::Foreign(Foreign { kind, raw_size, .. }) => {
                let mut head = ImageHead::read(image, *kind)?;
                let sector = gpt_sector_size(head.bytes()).or(own).unwrap_or(512);
                head.set_size(output.limit().or(*raw_size));
                let what = || format!("new identifiers for what is in {}", image.name());
                check_disk(&head, sector).with_context(what)?;
                check_head(&mut head, sector)
                    .with_context(|| format!("new identifiers for what is in {}", image.name()))?;
                let by_primary = true;
                return Ok(Self { sector, by_primary });
            }
        };
        let size = bytes.size();
        // Of the image alone: an owner's signature at its end is not at the end of a larger disk, and what that one has
        // at its own end is old.
        check_disk(&*bytes, made_for)
            .with_context(|| format!("new identifiers for the table in {}", image.name()))?;
        let mut coming = FutureDisk::new(bytes, output);
        match remade {
            Some(TableWrites { backup, primary }) => {
                coming.put(backup.iter().chain(primary).cloned());
            }
            // What is in doubt here stays as it is, and is refused below.
            None if coming.size() > size => {
                if let Ok(Some(moved)) = table::move_backup_gpt(&coming, size) {
                    let pieces = moved.backup.into_iter().chain(moved.primary);
                    coming.put(pieces.chain(moved.stale));
                }
            }
            None => {}
        }
        table::renew(&coming, sector, &mut random::fill)
            .with_context(|| format!("new identifiers for the table in {}", image.name()))?;
        let by_primary = false;
        Ok(Self { sector, by_primary })
    }

    /// Gives the table on `output`, a disk of `limit` bytes, new identifiers and tells each, with the references to
    /// the old ones that were seen.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub fn run(self, output: &Target, limit: u64, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let name = output.name();
        let written = Window::new(output, 0, limit);
        let Some(renewed) = self.renew(&written)? else {
            reporter.info(format!(
                "{name}: no partition table, so there are no identifiers to renew"
            ));
            return Ok(());
        };
        write_table(output, &renewed.backup)?;
        write_table(output, &renewed.primary)?;
        for id in &renewed.ids {
            reporter.info(format!(
                "{name}: the identifier of {} was {}, is {}",
                id.of, id.from, id.to
            ));
        }
        if !renewed.note.is_empty() {
            reporter.warn(format!("{name}: {}", renewed.note));
        }
        tell_references(output, &written, self.sector, &renewed.ids, reporter)
    }

    fn renew(self, disk: &dyn ReadAt) -> Result<Option<Renewed>, TableError> {
        if self.by_primary {
            table::renew_by_primary(disk, self.sector, &mut random::fill)
        } else {
            table::renew(disk, self.sector, &mut random::fill)
        }
    }
}

/// Whether the disk is its table's, and nobody else's.
fn check_disk(disk: &dyn ReadAt, sector: u32) -> anyhow::Result<()> {
    // A table that does not hold is refused elsewhere, with the reason.
    match ParsedTable::read(disk, sector) {
        Ok(Some(parsed)) => check_owner(disk, &parsed),
        _ => Ok(()),
    }
}

/// Whether the beginning of a disk is enough to give its table new identifiers.
fn check_head(head: &mut ImageHead, sector: u32) -> anyhow::Result<()> {
    match table::read(head, sector) {
        // The signature is in the first sector; of the rest nothing is asked.
        Err(TableError::Doubtful {
            kind: TableKind::Mbr,
            ..
        }) => {}
        Err(doubt @ TableError::Doubtful { .. }) => {
            bail!("{doubt}; only an index would tell more: convert it");
        }
        found => {
            let copies = found?.gpt;
            if copies.is_some_and(|copies| copies.primary.is_none()) {
                bail!(
                    "the primary copy of its GPT is damaged, and only an index would tell the other: convert it"
                );
            }
        }
    }
    table::renew_by_primary(head, sector, &mut random::fill)?;
    Ok(())
}

fn tell_references(
    output: &Target,
    written: &dyn ReadAt,
    sector: u32,
    ids: &[NewId],
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let name = output.name();
    let table = match table::read(written, sector) {
        Ok(table) => table,
        Err(TableError::Read(error)) => return Err(error.into()),
        Err(doubt @ TableError::Doubtful { .. }) => {
            reporter.info(format!(
                "{name}: references to old identifiers were not looked for: {doubt}"
            ));
            return Ok(());
        }
    };
    let looked = references::find(output.file(), &table.partitions, ids)
        .with_context(|| format!("looking for references on {name}"))?;
    for found in looked.references {
        reporter.warn(format!(
            "{name}: {} on partition {} still names the old identifier of {}, {}; it is not changed",
            found.file, found.partition, found.of, found.id
        ));
    }
    for passed_over in looked.passed_over {
        reporter.info(format!(
            "{name}: references to old identifiers were not looked for on {passed_over}"
        ));
    }
    Ok(())
}
