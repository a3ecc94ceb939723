//! The index of an image, read from its end, and the metadata that is stored with it.

use super::format::{FOOTER, parse_footer, parse_index};
use super::index::Index;
use super::{ImageMeta, ImageSource};
use anyhow::{Context, bail};

/// The index and what it says of the disk.
#[derive(Clone)]
pub struct LoadedIndex {
    pub index: Index,
    pub meta: ImageMeta,
    /// BLAKE3 of the index as it is stored: of sizes, order, zeros, contents and metadata.
    pub digest: blake3::Hash,
}

/// Reads the index from the end of `image`.
///
/// # Errors
/// When it is not whole: the image is cut short, has something after its end, or is damaged.
pub fn load(image: &dyn ImageSource) -> anyhow::Result<LoadedIndex> {
    let name = image.name();
    let size = image.size();
    let mut footer = [0; FOOTER];
    let Some(at) = size.checked_sub(FOOTER as u64) else {
        bail!("{name} has {size} bytes: it is cut short");
    };
    image
        .read_exact_at(&mut footer, at)
        .with_context(|| format!("reading the end of {name}"))?;
    let footer = parse_footer(&footer, size).with_context(|| format!("{name} is not whole"))?;
    let mut members = vec![0; usize::try_from(footer.length).context("the index's size")?];
    image
        .read_exact_at(&mut members, footer.offset)
        .with_context(|| format!("reading the index of {name}"))?;
    let (index, toml) =
        parse_index(&members, &footer).with_context(|| format!("{name} is not whole"))?;
    let meta = ImageMeta::from_toml(&toml).with_context(|| name.to_owned())?;
    if meta.disk.size != index.raw_size() || meta.chunk_size != index.chunk_size() {
        bail!("{name}: its index and its metadata describe different disks");
    }
    Ok(LoadedIndex {
        index,
        meta,
        digest: footer.hash.into(),
    })
}
