//! Reading the members of an image front to back, handed to whichever worker is free.

use super::ImageSource;
use super::index::{Index, Item, Items};
use super::reading_on::ReadingOn;
use anyhow::{Context, bail};

/// Zeros are dealt with so many bytes of the disk at a time, so that progress is seen.
const ZEROS_AT_ONCE: u64 = 1 << 30;

/// Hands out the items of an image with their members.
pub struct MemberReader<'a> {
    image: &'a dyn ImageSource,
    index: &'a Index,
    items: Items<'a>,
    /// What is left of a run of zeros.
    zeros: Option<(u64, u64, u64)>,
    /// Whether the members of zeros are read too.
    reads_zeros: bool,
    stream: ReadingOn<'a>,
}

impl<'a> MemberReader<'a> {
    pub fn new(image: &'a dyn ImageSource, index: &'a Index, reads_zeros: bool) -> Self {
        Self {
            image,
            index,
            items: index.items(),
            zeros: None,
            reads_zeros,
            stream: ReadingOn::new(image),
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
        let read = self.stream.read(bytes, offset);
        read.with_context(|| format!("reading {} at {offset}", self.image.name()))
    }
}
