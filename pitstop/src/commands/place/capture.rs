//! A disk into an image: what the one that it replaces has is not sent.

use super::Destination;
use super::beside::Beside;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{CaptureOptions, capture};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_transport::share::{NewImage, why_whole};
use std::path::Path;

impl Destination {
    /// Captures a disk into the image; of one that it replaces it takes what is the same, where the server can.
    pub fn capture(
        &self,
        disk: &Path,
        identity: &DiskIdentity,
        options: &CaptureOptions,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let Self::File { share, name } = self else {
            return self.write(|out| capture(disk, identity, options, out, reporter).map(Some));
        };
        let captured = |before: Option<&str>| {
            let mut image = NewImage::begin(&**share, name, before, reporter)?;
            let meta = image.capture(disk, identity, options, reporter)?;
            let beside = Beside::write(&**share, name, &meta.to_toml()?)?;
            image.finish(reporter)?;
            Ok(beside)
        };
        let beside = match captured(Some(name)) {
            Ok(beside) => beside,
            Err(error) => {
                let Some(why) = why_whole(&error) else {
                    return Err(error);
                };
                reporter.warn(format!("{name}: {why}"));
                captured(None)?
            }
        };
        beside.take_name()
    }
}
