//! An image that was opened: where its bytes are, and what its index or its format tells of them.
//!
//! A run opens each image once and passes this one value on, so that the index is read once and cannot be taken for
//! another image's.

use super::encrypted::{SUFFIX, is_encrypted, path_of};
use super::format::{FOOTER, parse_footer};
use super::loaded_index::{LoadedIndex, load};
use super::member_header::begins_like_indexed;
use super::minimum_disk::{MinimumDisk, minimum_disk};
use super::{ImageError, ImageMeta, ImageSource, Kind, Place, foreign};
use crate::disk::Output;
use crate::extents::Extents;
use crate::table::TableKind;
use anyhow::{Context, bail};

/// An image, opened once for all that is asked of it.
pub struct OpenedImage<'a> {
    source: Box<dyn ImageSource + 'a>,
    contents: Contents,
}

/// What was found in the file.
#[derive(Clone)]
pub enum Contents {
    Indexed(Box<LoadedIndex>),
    Foreign(Foreign),
}

/// An image without an index.
#[derive(Clone)]
pub struct Foreign {
    pub kind: Kind,
    /// Raw bytes, where the format tells.
    pub raw_size: Option<u64>,
    /// Raw bytes that are zeros whatever the image has there.
    pub left_out: Extents,
}

impl<'a> OpenedImage<'a> {
    /// Reads the beginning and the end of the image, and its index if it should have one.
    ///
    /// # Errors
    /// When it cannot be read, is empty, holds no disk, or should have an index that is not whole: it is cut short,
    /// damaged, or something follows its end.
    pub fn open(source: Box<dyn ImageSource + 'a>) -> Result<Self, ImageError> {
        let contents = contents(&*source).map_err(ImageError::unusable)?;
        Ok(Self { source, contents })
    }

    /// Opens what somebody else holds.
    pub(super) fn borrow(source: &'a dyn ImageSource) -> Result<Self, ImageError> {
        Self::open(Box::new(source))
    }

    /// For messages: the path or URL without credentials.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    pub fn kind(&self) -> Kind {
        match &self.contents {
            Contents::Indexed(_) => Kind::Pitstop,
            Contents::Foreign(foreign) => foreign.kind,
        }
    }

    /// Raw bytes, where the format tells.
    pub fn raw_size(&self) -> Option<u64> {
        match &self.contents {
            Contents::Indexed(loaded) => Some(loaded.index.raw_size()),
            Contents::Foreign(foreign) => foreign.raw_size,
        }
    }

    /// What the image is of; only one with an index says so.
    pub fn meta(&self) -> Option<&ImageMeta> {
        self.indexed().map(|loaded| &loaded.meta)
    }

    /// BLAKE3 of the index, which stands for all of the image; only one with an index has it.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.indexed().map(|loaded| loaded.digest)
    }

    /// Whether `beside` is of this image and of no other: all that the index holds of the disk is the same, and the hash over
    /// all chunks is that of the chunks in the index.
    ///
    /// # Errors
    /// It is another's, or this image has no index to tell.
    pub fn check_is_of(&self, beside: &ImageMeta) -> anyhow::Result<()> {
        let Some(loaded) = self.indexed() else {
            bail!(
                "{} has no index, so that nothing tells what is in it: make an image of it that has (pitstop convert)",
                self.name()
            );
        };
        let found = loaded.index.hash().to_string();
        if beside.blake3 != found {
            bail!(
                "it is of another image: it names blake3 = {:?}, and that of {} is {found}",
                beside.blake3,
                self.name()
            );
        }
        if *beside != loaded.meta {
            bail!(
                "it says something else of the disk than {} does",
                self.name()
            );
        }
        Ok(())
    }

    /// The smallest disk that it can be restored to, as far as its index or its format tells.
    pub fn minimum_disk(&self) -> Option<MinimumDisk> {
        match &self.contents {
            Contents::Indexed(loaded) => Some(minimum_disk(loaded)),
            Contents::Foreign(foreign) => foreign.raw_size.map(MinimumDisk::of),
        }
    }

    /// The places that its bytes come from, the one that is read now first; none where its name says all.
    pub fn places(&self) -> Vec<Place> {
        self.source.places()
    }

    /// The image's bytes as they are stored.
    pub(super) fn source(&self) -> &dyn ImageSource {
        &*self.source
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(super) fn indexed(&self) -> Option<&LoadedIndex> {
        match &self.contents {
            Contents::Indexed(loaded) => Some(loaded),
            Contents::Foreign(_) => None,
        }
    }

    pub(super) fn into_parts(self) -> (Box<dyn ImageSource + 'a>, Contents) {
        (self.source, self.contents)
    }

    /// Whether it is of a disk that `output` is smaller than, and has an index and a table that tell what of its end is
    /// free.
    pub(super) fn is_larger_than(&self, output: &dyn Output) -> bool {
        let Some(loaded) = self.indexed() else {
            return false;
        };
        let has_table = loaded.meta.table.kind != TableKind::None.name();
        let limit = output.limit();
        has_table && limit.is_some_and(|has| has < loaded.index.raw_size())
    }

    /// The same image for a restore that passes over these bytes of the disk: whole chunks of them are not fetched.
    pub(super) fn leaving_out(&self, bytes: &Extents) -> OpenedImage<'_> {
        let mut contents = self.contents.clone();
        match &mut contents {
            Contents::Indexed(loaded) => loaded.index.leave_out(bytes),
            Contents::Foreign(foreign) => foreign.left_out.union(bytes),
        }
        OpenedImage {
            source: Box::new(self.source()),
            contents,
        }
    }
}

fn contents(image: &dyn ImageSource) -> anyhow::Result<Contents> {
    let mut start = [0; 20];
    let wanted = usize::try_from(image.size()).map_or(start.len(), |size| size.min(start.len()));
    let start = &mut start[..wanted];
    image
        .read_exact_at(start, 0)
        .with_context(|| format!("reading {}", image.name()))?;
    if is_encrypted(start) {
        bail!(
            "{} is encrypted by age: pitstop restore, verify and inspect take the key by --identity FILE, and age -d -i FILE \
             unpacks it for all else",
            image.name()
        );
    }
    // One of ours whose first bytes are damaged must not pass for an image of another tool.
    if begins_like_indexed(start) || ends_like_indexed(image)? {
        return load(image).map(|loaded| Contents::Indexed(Box::new(loaded)));
    }
    let kind = foreign::kind(start);
    if kind == Kind::Raw
        && let Some(format) = packed_by_name(image.name())
    {
        bail!(
            "{} is not a {format} file, whatever its name says",
            image.name()
        );
    }
    foreign::check(image, kind)?;
    Ok(Contents::Foreign(Foreign {
        kind,
        raw_size: foreign::raw_size(image, kind)?,
        left_out: Extents::new(),
    }))
}

/// Whether a sound footer ends `image`.
fn ends_like_indexed(image: &dyn ImageSource) -> anyhow::Result<bool> {
    let mut footer = [0; FOOTER];
    let size = image.size();
    let Some(at) = size.checked_sub(FOOTER as u64) else {
        return Ok(false);
    };
    image
        .read_exact_at(&mut footer, at)
        .with_context(|| format!("reading the end of {}", image.name()))?;
    Ok(parse_footer(&footer, size).is_ok())
}

/// What the name says an image is packed with. A server's error page, a file of zeros that a crash left: anything is
/// a raw image, so that a name that says otherwise is believed.
fn packed_by_name(name: &str) -> Option<&'static str> {
    let path = path_of(name);
    // What was encrypted has the name of the file that is in it before that.
    let path = path.strip_suffix(SUFFIX).unwrap_or(path);
    let (_, suffix) = path.rsplit_once('.')?;
    [("gz", "gzip"), ("xz", "xz"), ("zst", "zstd")]
        .into_iter()
        .find(|(known, _)| *known == suffix)
        .map(|(_, format)| format)
}
