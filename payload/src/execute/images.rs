//! The images of a folder of the share: found by their names, opened once, and what is known of each.

use super::{Work, locked};
use crate::plan::matching::Stored;
use crate::plan::{Plan, Restore, SUFFIXES};
use anyhow::{Context, anyhow};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{ImageMeta, Kind, MinimumDisk, OpenedImage, Part};
use std::collections::BTreeMap;
use std::io::Read;

/// Far more than a description ever holds, a list of read errors included.
const MOST_TOML_BYTES: u64 = 16 << 20;

/// An image on the share, opened once for all that the run asks of it.
pub(super) struct Found {
    pub(super) stored: Stored,
    pub(super) meta: Option<ImageMeta>,
    image: anyhow::Result<OpenedImage<'static>>,
}

impl Found {
    /// # Errors
    /// It is encrypted, and could not be opened. No such image is restored, so that this is a defect.
    pub(super) fn opened(&self) -> anyhow::Result<&OpenedImage<'static>> {
        let failed = |why| anyhow!("{}: {why:#}", self.stored.file);
        self.image.as_ref().map_err(failed)
    }
}

/// The images, each that somebody needs open.
///
/// # Errors
/// The first that is needed and could not be opened.
pub(super) fn open_where(
    found: Vec<Found>,
    is_needed: impl Fn(usize) -> bool,
    reporter: &dyn Reporter,
) -> anyhow::Result<Vec<Found>> {
    let mut checked = Vec::new();
    for (number, one) in found.into_iter().enumerate() {
        let image = match one.image {
            Err(why) if is_needed(number) => return Err(why),
            Err(why) => {
                reporter.info(format!(
                    "{} stays locked, for no disk of this job has it: {why:#}",
                    one.stored.file
                ));
                Err(why)
            }
            image => image,
        };
        checked.push(Found { image, ..one });
    }
    Ok(checked)
}

/// The images of a plan's restores, by the names of their files.
#[derive(Default)]
pub(super) struct Images(BTreeMap<String, OpenedImage<'static>>);

impl Images {
    /// Those of `found` that `plan` restores; the others are closed.
    pub(super) fn for_plan(plan: &Plan, found: Vec<Found>) -> Self {
        let wanted = found
            .into_iter()
            .filter(|one| plan.restores(&one.stored.file));
        let open = wanted.filter_map(|one| Some((one.stored.file, one.image.ok()?)));
        Self(open.collect())
    }

    /// The image that `restore` is of.
    pub(super) fn of(&self, restore: &Restore) -> anyhow::Result<&OpenedImage<'static>> {
        let file = &restore.image.file;
        let image = self.0.get(file);
        image.with_context(|| {
            format!("{file} is planned, but was not opened: this is a defect of Pitstop's")
        })
    }
}

/// Opens and probes the image of each name; of several suffixes the first in order counts.
pub(super) fn probe(work: &Work<'_>, names: &[&str]) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for name in names {
        for suffix in SUFFIXES {
            let file = format!("{name}{suffix}");
            if work.share.stat(&work.image_path(&file))?.is_some() {
                found.push(probe_one(work, name, file)?);
                break;
            }
        }
    }
    Ok(found)
}

fn probe_one(work: &Work<'_>, stem: &str, file: String) -> anyhow::Result<Found> {
    let path = work.image_path(&file);
    let doing = || format!("looking at {path} on {}", work.share.name());
    let image = locked::image(work, &path)
        .and_then(|source| Ok(OpenedImage::open(source)?))
        .with_context(doing);
    let image = match image {
        // Another disk's, perhaps, that the job is not about: what lies beside it tells.
        Err(why) if is_named_encrypted(&file) => Err(why),
        image => Ok(image?),
    };
    let beside = describe(work, &path)?;
    let inside = image.as_ref().ok().and_then(|image| image.meta().cloned());
    let meta = match inside {
        // What is in the image went wherever the image went; what lies beside it may be of another.
        Some(meta) => {
            if beside.is_some_and(|it| it.blake3 != meta.blake3 || it.disk != meta.disk) {
                work.log.warn(format!(
                    "{path}.toml is of another image or was changed: what {path} says of itself counts"
                ));
            }
            Some(meta)
        }
        None => beside,
    };
    Ok(Found {
        stored: Stored {
            file,
            stem: stem.to_owned(),
            of: meta.as_ref().map(|meta| meta.disk.clone()),
            table: meta
                .as_ref()
                .map(|meta| meta.table.id.clone())
                .unwrap_or_default(),
            raw_size: image.as_ref().ok().and_then(OpenedImage::raw_size),
            indexed: image
                .as_ref()
                .is_ok_and(|image| image.kind() == Kind::Pitstop),
            // Of single partitions, the disk's own partitions have to be large enough, which are looked at later.
            minimum_disk: match work.job.action.part() {
                Part::Only(_) => Some(MinimumDisk::of(0)),
                Part::Whole | Part::Keep(_) => {
                    image.as_ref().ok().and_then(OpenedImage::minimum_disk)
                }
            },
        },
        meta,
        image,
    })
}

/// What `X.toml` says the image is of. A person may have written it, for an image of another tool.
fn describe(work: &Work<'_>, image: &str) -> anyhow::Result<Option<ImageMeta>> {
    let Some(bytes) = beside(work, image)? else {
        return Ok(None);
    };
    let doing = || format!("reading {image}.toml on {}", work.share.name());
    let text = String::from_utf8(bytes).with_context(doing)?;
    ImageMeta::from_toml(&text).map(Some).with_context(doing)
}

/// `X.toml`, whatever is in it.
///
/// # Errors
/// When the share cannot be read.
pub(super) fn beside(work: &Work<'_>, image: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let path = format!("{image}.toml");
    if work.share.stat(&path)?.is_none() {
        return Ok(None);
    }
    let doing = || format!("reading {path} on {}", work.share.name());
    let mut bytes = Vec::new();
    work.share
        .open(&path)
        .with_context(doing)?
        .take(MOST_TOML_BYTES)
        .read_to_end(&mut bytes)
        .with_context(doing)?;
    Ok(Some(bytes))
}
