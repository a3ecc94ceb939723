//! One restore: an image, the disk that it goes to, and what is asked of it.

use super::foreign;
use super::opened_image::{Contents, Foreign, OpenedImage};
use super::restore::restore_indexed;
use super::restored::Restored;
use super::{Feed, ImageSource, RestoreOptions};
use crate::disk::{Output, Target};
use crate::event::Reporter;

/// One restore, and what it goes to.
pub struct Task<'a> {
    pub image: &'a OpenedImage<'a>,
    pub output: &'a Target,
    pub options: &'a RestoreOptions,
    /// Who brings the chunks, where it is not the image alone.
    pub feed: Option<&'a dyn Feed>,
    pub reporter: &'a dyn Reporter,
}

impl Task<'_> {
    /// The image's bytes as they are stored.
    pub fn source(&self) -> &dyn ImageSource {
        self.image.source()
    }

    /// Runs the restore with `output` as its target: the disk, or what lets only some bytes through to it.
    pub fn run_restore(&self, output: &dyn Output) -> anyhow::Result<Restored> {
        let image = self.source();
        match self.image.contents() {
            Contents::Indexed(loaded) => restore_indexed(
                image,
                loaded,
                output,
                self.options,
                self.feed,
                self.reporter,
            ),
            Contents::Foreign(foreign) => {
                let stream = self.stream(foreign);
                foreign::restore(image, stream, output, self.options, self.reporter)
            }
        }
    }

    /// What of a foreign image goes to the disk.
    pub fn stream(&self, foreign: &Foreign) -> foreign::Stream {
        foreign::Stream {
            kind: foreign.kind,
            raw_size: foreign.raw_size,
            sector: self.output.sector_size(),
            left_out: foreign.left_out.clone(),
        }
    }
}
