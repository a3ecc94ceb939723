//! What lies beside an image and says what it is of: on the share before the image has its name, so that a share that does
//! not take it leaves the pair that was there.

use anyhow::Context as _;
use pitstop_transport::share::{Pending, Share};
use std::io::Write as _;

pub(super) struct Beside {
    pending: Box<dyn Pending>,
    name: String,
}

impl Beside {
    /// Writes `text` for the image `image`.
    pub fn write(share: &dyn Share, image: &str, text: &str) -> anyhow::Result<Self> {
        let name = format!("{image}.toml");
        let mut pending = share.create(&name)?;
        let written = pending.write_all(text.as_bytes());
        written.with_context(|| format!("writing {name}"))?;
        pending.land()?;
        Ok(Self { pending, name })
    }

    /// Puts it under its name, once the image has its own.
    pub fn take_name(self) -> anyhow::Result<()> {
        let Self { pending, name } = self;
        let renaming = || format!("the image is there, and {name} is not of it: make it again");
        pending.finish().with_context(renaming)
    }
}
