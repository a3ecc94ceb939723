//! One disk into `X.new`: what the image before has not is sent, or all of it.

use super::super::{Labelled, Work, record};
use crate::plan::Capture;
use anyhow::Context;
use pitstop_age::encrypting;
use pitstop_imaging::efi;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::{CaptureOptions, ImageMeta, Origin, capture as capture_disk};
use pitstop_imaging::inventory;
use pitstop_protocol::job::BackupOptions;
use pitstop_transport::fetch::HttpError;
use pitstop_transport::share::{NewImage, why_whole};

/// How often a disk is read anew because the upload broke.
pub(super) const CAPTURES: u32 = 3;

/// [`stage`], again from the beginning where the network broke an upload that no server could take up again.
/// The server is waited for in between, as for any request.
pub(super) fn stage_again(
    work: &Work<'_>,
    number: usize,
    capture: &Capture,
    options: &BackupOptions,
) -> anyhow::Result<ImageMeta> {
    let (mut captures, mut from) = (1, From::Before);
    loop {
        let error = match stage(work, number, capture, options, from) {
            Err(error) if captures < CAPTURES && broke(&error) => error,
            Err(error) if from == From::Before => match why_whole(&error) {
                Some(why) => {
                    work.log.warn(format!("{}: {why}", capture.file));
                    from = From::Disk;
                    continue;
                }
                None => return Err(error),
            },
            outcome => return outcome,
        };
        if work.share.stat(&work.image_path(&capture.file)).is_err() {
            return Err(error);
        }
        captures += 1;
        work.log.warn(format!(
            "{error:#}: the upload begins again ({captures} of {CAPTURES})"
        ));
    }
}

fn broke(error: &anyhow::Error) -> bool {
    HttpError::behind(error).is_some_and(|error| error.failure.is_passing())
}

pub(super) fn new_path(work: &Work<'_>, capture: &Capture) -> String {
    format!("{}.new", work.image_path(&capture.file))
}

/// Where the bytes of a new image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// The image that it follows, as far as that has them.
    Before,
    Disk,
}

/// Reads the disk into `X.new`, whole and proven to be on the share.
fn stage(
    work: &Work<'_>,
    number: usize,
    capture: &Capture,
    options: &BackupOptions,
    from: From,
) -> anyhow::Result<ImageMeta> {
    let disk = &capture.disk;
    let inventory = inventory::read(work.machine)?;
    let path = new_path(work, capture);
    let recipients = options.recipients.as_ref();
    let options = CaptureOptions {
        exact: options.exact,
        level: options.level,
        threads: 0,
        read_errors: options.read_errors,
        loaders: efi::loaders(
            &work.machine.sysfs.join(efi::VARIABLES),
            &disk.node(&work.machine.dev),
            disk.identity.logical_sector_size,
        ),
        origin: Some(Origin {
            request: work.request.map(|it| it.id.to_owned()).unwrap_or_default(),
            machine: record::identity(work.lease, &inventory),
        }),
        levels: None,
    };
    let reporter = Labelled::new(work.log, Act::Backup, number, disk);
    reporter.begins();
    let node = disk.node(&work.machine.dev);
    let doing = || format!("backing up {disk} to {path} on {}", work.share.name());
    let ending = || format!("ending {path} on {}", work.share.name());
    if let Some(recipients) = recipients {
        // It has no byte in common with the image before, nor with what an earlier try has sent: its key is a new one.
        if work.request.is_some_and(|it| it.was_begun) {
            work.log.info(format!(
                "{path} is sent from its beginning: what an earlier try has sent of it is encrypted with a key that nobody has"
            ));
        }
        let mut pending = work
            .share
            .create(&path)
            .with_context(|| format!("beginning {path} on {}", work.share.name()))?;
        let meta = encrypting(&mut pending, recipients, |out| {
            capture_disk(&node, &disk.identity, &options, out, &reporter)
        });
        let meta = meta.with_context(doing)?;
        pending.finish().with_context(ending)?;
        reporter.is_done();
        return Ok(meta);
    }
    let before = (from == From::Before).then(|| work.image_path(&capture.file));
    let mut image = NewImage::begin(work.share, &path, before.as_deref(), &reporter)?;
    let meta = image
        .capture(&node, &disk.identity, &options, &reporter)
        .with_context(doing)?;
    image.finish(&reporter).with_context(ending)?;
    reporter.is_done();
    Ok(meta)
}
