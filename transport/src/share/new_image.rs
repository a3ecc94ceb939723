//! A new image on a share: all of it is sent, or what the image before has not.

mod noted;

use super::{BaseLost, NewAgain, Pending, PendingAgain, Share, Standing, TakenOver};
use anyhow::Context as _;
use noted::{Note, Noted};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{
    Before, CaptureOptions, ImageMeta, Level, OpenedImage, Reused, capture, capture_again,
};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::units;
use std::path::Path;
use std::sync::Arc;

/// An image that has no name yet.
pub struct NewImage<'s> {
    /// Goes before the upload does: a note without one is of no use to anybody.
    note: Note<'s>,
    upload: Option<Upload>,
    /// Somebody else writes it by now, and the note is theirs.
    is_lost: bool,
}

enum Upload {
    Whole(Box<dyn Pending>),
    Again {
        before: Before,
        pending: Box<dyn PendingAgain>,
    },
}

impl<'s> NewImage<'s> {
    /// Begins `path`, of which much may be as in the image `before`, where there is one.
    ///
    /// # Errors
    /// The share does not take it.
    pub fn begin(
        share: &'s dyn Share,
        path: &str,
        before: Option<&str>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        let began = || format!("beginning {path} on {}", share.name());
        let upload = Upload::begin(share, path, before, reporter).with_context(began)?;
        Ok(Self {
            note: Note::of(share, path),
            upload: Some(upload),
            is_lost: false,
        })
    }

    /// Reads the disk into it.
    ///
    /// # Errors
    /// As of a capture. [`BaseLost`] is behind it where the image before can be used no more, [`TakenOver`] where another one writes
    /// there.
    pub fn capture(
        &mut self,
        disk: &Path,
        identity: &DiskIdentity,
        options: &CaptureOptions,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<ImageMeta> {
        let outcome = self.read_into(disk, identity, options, reporter);
        self.is_lost = outcome.as_ref().is_err_and(is_lost);
        outcome
    }

    fn read_into(
        &mut self,
        disk: &Path,
        identity: &DiskIdentity,
        options: &CaptureOptions,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<ImageMeta> {
        let upload = self.upload.as_mut().context("the upload has ended")?;
        match upload {
            Upload::Whole(pending) if options.level == Level::Auto => {
                let levels = Arc::new(self.note.take_earlier());
                let options = CaptureOptions {
                    levels: Some(Arc::clone(&levels)),
                    ..options.clone()
                };
                let mut out = Noted::new(&mut **pending, &mut self.note, levels, reporter);
                capture(disk, identity, &options, &mut out, reporter)
            }
            Upload::Whole(pending) => capture(disk, identity, options, pending, reporter),
            Upload::Again { before, pending } => {
                let out = &mut **pending;
                let (meta, reused) = capture_again(disk, identity, options, before, out, reporter)?;
                reporter.info(told(&identity.device, reused));
                Ok(meta)
            }
        }
    }

    /// Puts it under its name, proven to be on the share.
    ///
    /// # Errors
    /// As of [`Pending::finish`].
    pub fn finish(mut self, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let is_kept = self.is_kept();
        let done = match self.upload.take().context("the upload has ended")? {
            Upload::Whole(pending) => pending.finish(),
            Upload::Again { pending, .. } => pending.finish(),
        };
        if let Err(error) = done {
            if !is_kept && !is_lost(&error) {
                // Best effort, as of one that does not come so far.
                let _ = self.note.remove();
            }
            return Err(error);
        }
        if let Err(error) = self.note.remove() {
            // The image is whole, and the next one replaces the note.
            reporter.warn(format!("{}: {error:#}", self.note.path()));
        }
        Ok(())
    }

    /// Whether what an earlier upload left stays when this one ends without a name.
    fn is_kept(&self) -> bool {
        match &self.upload {
            _ if self.is_lost => true,
            Some(Upload::Whole(pending)) => pending.standing() != Standing::Sends,
            Some(Upload::Again { .. }) | None => false,
        }
    }
}

impl Drop for NewImage<'_> {
    fn drop(&mut self) {
        if self.upload.is_some() && !self.is_kept() {
            // Best effort: the error that led here is the one to report.
            let _ = self.note.remove();
        }
    }
}

impl Upload {
    fn begin(
        share: &dyn Share,
        path: &str,
        before: Option<&str>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        if let Some(before) = before
            && let Some(again) = share.create_again(path, before)?
        {
            let NewAgain {
                before: image,
                mut pending,
            } = again;
            match known(image) {
                Ok(before) => {
                    pending.read_index(&before);
                    return Ok(Self::Again { before, pending });
                }
                Err(why) => {
                    // First it goes, then another begins under the same name.
                    drop(pending);
                    reporter.info(format!(
                        "{path}: all of it is sent, for the image before tells nothing of its chunks: {why:#}"
                    ));
                }
            }
        }
        Ok(Self::Whole(share.create(path)?))
    }
}

fn is_lost(error: &anyhow::Error) -> bool {
    TakenOver::behind(error).is_some()
}

fn known(image: Box<dyn pitstop_imaging::image::ImageSource>) -> anyhow::Result<Before> {
    let opened = OpenedImage::open(image)?;
    Before::of(&opened).context("it has no index")
}

fn told(device: &str, reused: Reused) -> String {
    format!(
        "{device}: sent {} of {}, the rest is as in the image before",
        units::bytes(reused.written),
        units::bytes(reused.image)
    )
}

/// What is to be said before all is sent, where a capture failed for the image before alone; `None` where it failed for
/// anything else.
pub fn why_whole(error: &anyhow::Error) -> Option<String> {
    let lost = BaseLost::behind(error)?;
    Some(format!("{lost}: all of the new one is sent"))
}
