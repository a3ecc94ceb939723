//! What an image holds, by its index alone.

use super::index::Item;
use super::opened_image::{Contents, OpenedImage};
use super::{ImageMeta, ImageSource, Kind};

/// What is in an image.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub kind: Kind,
    /// Bytes of the image itself.
    pub image_size: u64,
    /// Raw bytes, where the format tells.
    pub raw_size: Option<u64>,
    /// The rest is only known of an image with an index.
    pub indexed: Option<Indexed>,
}

/// What an index tells.
#[derive(Debug, Clone)]
pub struct Indexed {
    pub meta: ImageMeta,
    /// BLAKE3 of the index.
    pub digest: blake3::Hash,
    /// Raw bytes in chunks that are all zeros.
    pub zeros: u64,
    /// Equal parts of the disk, in order.
    pub cells: Vec<Cell>,
}

/// A part of the disk, for a picture of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    /// Raw bytes in chunks that are not all zeros.
    pub data: u64,
    /// Bytes of their members.
    pub compressed: u64,
    /// Raw bytes in all.
    pub size: u64,
}

/// Reads only the beginning of `image` and its index. The picture has `cells` parts, at least one.
///
/// # Errors
/// As [`OpenedImage::open`].
pub fn inspect(image: &dyn ImageSource, cells: usize) -> anyhow::Result<Inspection> {
    let opened = OpenedImage::borrow(image)?;
    let indexed = match opened.contents() {
        Contents::Foreign(_) => None,
        Contents::Indexed(loaded) => {
            let index = &loaded.index;
            let size = index.raw_size();
            let mut picture = vec![Cell::default(); cells.max(1)];
            let mut zeros = 0;
            let count = picture.len() as u128;
            let cell_of = |at: u64| {
                let cell = u128::from(at) * count / u128::from(size.max(1));
                usize::try_from(cell.min(count - 1)).unwrap_or(0)
            };
            let edge =
                |at: usize| u64::try_from(u128::from(size) * at as u128 / count).unwrap_or(size);
            for (at, cell) in picture.iter_mut().enumerate() {
                cell.size = edge(at + 1) - edge(at);
            }
            for item in index.items() {
                match item {
                    Item::Zeros { count, .. } => {
                        zeros += count * u64::from(index.chunk_size());
                    }
                    Item::Chunk(chunk) => {
                        let cell = &mut picture[cell_of(index.position(chunk.number))];
                        cell.data += index.length(chunk.number) as u64;
                        cell.compressed += u64::from(chunk.size);
                    }
                }
            }
            Some(Indexed {
                meta: loaded.meta.clone(),
                digest: loaded.digest,
                zeros,
                cells: picture,
            })
        }
    };
    Ok(Inspection {
        kind: opened.kind(),
        image_size: image.size(),
        raw_size: opened.raw_size(),
        indexed,
    })
}
