//! What is no disk is refused before the first write, whatever packs it.

use super::containers::{self, Container, END, START};
use super::decoder::{Decoder, read_full};
use crate::image::{ImageSource, Kind};
use anyhow::{Context, bail};

impl Kind {
    /// The program that unpacks it, which is the format's name too; `None` for a raw disk.
    fn packer(self) -> Option<&'static str> {
        match self {
            Self::Pitstop | Self::Gzip => Some("gzip"),
            Self::Xz => Some("xz"),
            Self::Zstd => Some("zstd"),
            Self::Raw => None,
        }
    }
}

/// Looks at the beginning of what `image` holds, and at the end where that costs nothing.
///
/// # Errors
/// When that is no disk, with its name and the way to a raw disk; when it cannot be read or unpacked.
pub fn check(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<()> {
    let name = image.name();
    let start =
        beginning(image, kind).with_context(|| format!("reading the beginning of {name}"))?;
    let found = match containers::at_start(&start) {
        None if kind == Kind::Raw => {
            ending(image).with_context(|| format!("reading the end of {name}"))?
        }
        found => found,
    };
    if let Some(found) = found {
        refuse(name, kind, found)?;
    }
    if kind != Kind::Raw
        && (1..START).contains(&start.len())
        && let Some(why) = containers::no_disk(&start, start.len() as u64)
    {
        bail!("{name} holds no disk: {why}");
    }
    Ok(())
}

fn refuse(name: &str, kind: Kind, found: Container) -> anyhow::Result<()> {
    let what = found.name();
    match kind.packer() {
        None => bail!(
            "{name} is {what}, which Pitstop does not read; {}",
            found.advice(name)
        ),
        Some(packer) => bail!(
            "{name} is {packer} with {what} in it, which Pitstop does not read; unpack it: {packer} -dc {name} > FILE; then {}",
            found.advice("FILE")
        ),
    }
}

/// The first [`START`] bytes of the disk in `image`; fewer where it has no more.
fn beginning(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<Vec<u8>> {
    let mut start = vec![0; START];
    let length = read_full(&mut Decoder::open(image, kind)?, &mut start)?;
    start.truncate(length);
    Ok(start)
}

fn ending(image: &dyn ImageSource) -> anyhow::Result<Option<Container>> {
    let size = image.size();
    let Some(at) = size.checked_sub(END as u64) else {
        return Ok(None);
    };
    let mut end = [0; END];
    image.read_exact_at(&mut end, at)?;
    Ok(containers::at_end(&end, size))
}
