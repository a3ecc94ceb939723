//! Reading an image front to back: its index, then its members in order, handed to whichever worker is free.

use super::codec::{Inflater, MemberError};
use super::format::{FOOTER, parse_footer, parse_index};
use super::index::{Chunk, Index, Item, Items};
use super::{ImageMeta, ImageSource};
use anyhow::{Context, bail};
use std::io::{self, Read};

/// Up to here it is cheaper to read on than to ask for another place.
const READ_ACROSS: u64 = 1 << 20;
/// Zeros are dealt with so many bytes of the disk at a time, so that progress is seen.
const ZEROS_AT_ONCE: u64 = 1 << 30;

/// The index and what it says of the disk.
pub struct LoadedIndex {
    pub index: Index,
    pub meta: ImageMeta,
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
    Ok(LoadedIndex { index, meta })
}

/// Hands out the items of an image with their members.
pub struct MemberReader<'a> {
    image: &'a dyn ImageSource,
    index: &'a Index,
    items: Items<'a>,
    /// What is left of a run of zeros.
    zeros: Option<(u64, u64, u64)>,
    /// Whether the members of zeros are read too.
    reads_zeros: bool,
    stream: Option<Box<dyn Read + Send>>,
    at: u64,
}

impl<'a> MemberReader<'a> {
    pub fn new(image: &'a dyn ImageSource, index: &'a Index, reads_zeros: bool) -> Self {
        Self {
            image,
            index,
            items: index.items(),
            zeros: None,
            reads_zeros,
            stream: None,
            at: 0,
        }
    }

    /// The next item. Fills the front of `member` with the chunk's member, or with those of the zeros
    /// where they are read.
    pub fn next(&mut self, member: &mut [u8]) -> anyhow::Result<Option<Item>> {
        if self.zeros.is_none() {
            match self.items.next() {
                None => return Ok(None),
                Some(Item::Zeros {
                    first,
                    count,
                    offset,
                }) => {
                    self.zeros = Some((first, count, offset));
                }
                Some(Item::Chunk(chunk)) => {
                    let size = usize::try_from(chunk.size)?;
                    self.fill(&mut member[..size], chunk.offset)?;
                    return Ok(Some(Item::Chunk(chunk)));
                }
            }
        }
        let Some((first, left, offset)) = self.zeros.take() else {
            return Ok(None);
        };
        let each = u64::from(self.index.zero_member().max(1));
        let most = if self.reads_zeros {
            member.len() as u64 / each
        } else {
            ZEROS_AT_ONCE / u64::from(self.index.chunk_size())
        };
        let count = left.min(most.max(1));
        if left > count {
            self.zeros = Some((first + count, left - count, offset + count * each));
        }
        if self.reads_zeros {
            let bytes = usize::try_from(count * each)?;
            let Some(members) = member.get_mut(..bytes) else {
                bail!("chunk {first}: its member of zeros is larger than any chunk makes");
            };
            self.fill(members, offset)?;
        }
        Ok(Some(Item::Zeros {
            first,
            count,
            offset,
        }))
    }

    fn fill(&mut self, bytes: &mut [u8], offset: u64) -> anyhow::Result<()> {
        let read = self.read(bytes, offset);
        read.with_context(|| format!("reading {} at {offset}", self.image.name()))
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let ahead = offset.checked_sub(self.at);
        let stream = match (&mut self.stream, ahead) {
            (Some(stream), Some(skip)) if skip <= READ_ACROSS => {
                let skipped = io::copy(&mut stream.by_ref().take(skip), &mut io::sink())?;
                if skipped != skip {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                stream
            }
            (stream, _) => stream.insert(self.image.stream_from(offset)?),
        };
        stream.read_exact(bytes)?;
        self.at = offset + bytes.len() as u64;
        Ok(())
    }
}

/// Inflates `member` into `raw` and proves that it is `chunk`.
pub fn open_chunk(
    inflater: &mut Inflater,
    chunk: &Chunk,
    member: &[u8],
    raw: &mut [u8],
) -> Result<(), MemberError> {
    inflater.member(member, raw)?;
    if *blake3::hash(raw).as_bytes() == chunk.hash {
        Ok(())
    } else {
        Err(MemberError::Hash)
    }
}
