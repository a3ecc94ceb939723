//! The members of an image, cut into pieces that are proven one by one: for who keeps an image that comes bit by bit, in any order, and
//! passes on only what is right.

use super::ImageSource;
use super::codec::Inflater;
use super::index::{Item, Mark};
use super::loaded_index::{LoadedIndex, load};
use super::proof::ChunkPass;
use anyhow::{Context, bail};
use std::ops::Range;

/// Stored bytes of a piece, unless its first member alone has more.
const PIECE: u64 = 1 << 20;

/// All that is in front of an image's index, in pieces.
pub struct Pieces {
    loaded: LoadedIndex,
    pieces: Vec<Piece>,
}

/// A few members that follow each other.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    /// The stretch of the index that it begins in, and how many members of zeros of that are in pieces before.
    mark: Mark,
    skip: u64,
}

impl Pieces {
    /// Reads the index of `image`, which tells what its pieces are.
    ///
    /// # Errors
    /// It cannot be read, or is not that of a disk's image.
    pub fn load(image: &dyn ImageSource) -> anyhow::Result<Self> {
        let loaded = load(image)?;
        let index = &loaded.index;
        let each = u64::from(index.zero_member().max(1));
        let mut pieces: Vec<Piece> = Vec::new();
        let mut begin = |start: u64, end: u64, mark: Mark, skip: u64| match pieces.last() {
            Some(last) if end - last.start <= PIECE => {}
            _ => pieces.push(Piece { start, mark, skip }),
        };
        let mut items = index.items();
        loop {
            let mark = items.mark();
            match items.next() {
                None => break,
                Some(Item::Chunk(chunk)) => {
                    let Range { start, end } = chunk.bytes();
                    begin(start, end, mark, 0);
                }
                Some(Item::Zeros { count, offset, .. }) => {
                    let most = (PIECE / each).max(1);
                    let mut skip = 0;
                    while skip < count {
                        let now = most.min(count - skip);
                        let start = offset + skip * each;
                        begin(start, start + now * each, mark, skip);
                        skip += now;
                    }
                }
            }
        }
        Ok(Self { loaded, pieces })
    }

    /// BLAKE3 of the index, which stands for all of the image.
    pub fn digest(&self) -> blake3::Hash {
        self.loaded.digest
    }

    /// Where the index begins, and the pieces end.
    pub fn end(&self) -> u64 {
        self.loaded.index.data_size()
    }

    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes of the file that piece `number` is.
    pub fn bytes(&self, number: usize) -> Range<u64> {
        let start = |number: usize| self.pieces.get(number).map(|piece| piece.start);
        let end = start(number.saturating_add(1)).unwrap_or(self.end());
        start(number).unwrap_or(end)..end
    }

    /// The piece that has the byte `at`, which lies before the index.
    pub fn at(&self, at: u64) -> usize {
        let behind = self.pieces.partition_point(|piece| piece.start <= at);
        behind.saturating_sub(1)
    }

    /// Proves that `bytes` are piece `number`: each member inflates to what the index says.
    ///
    /// # Errors
    /// The first that does not.
    pub fn prove(&self, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let place = self.bytes(number);
        let piece = self.pieces.get(number).context("there is no such piece")?;
        if bytes.len() as u64 != place.end - place.start {
            bail!("it has {} bytes", bytes.len());
        }
        let index = &self.loaded.index;
        let pass = ChunkPass::new(index);
        let each = u64::from(index.zero_member().max(1));
        let mut inflater = Inflater::new()?;
        let mut raw = vec![0; index.chunk_bytes()];
        let mut skip = piece.skip;
        let mut at = place.start;
        for item in index.items_from(piece.mark) {
            if at >= place.end {
                break;
            }
            let from = usize::try_from(at - place.start)?;
            let rest = bytes.get(from..).unwrap_or_default();
            match item {
                Item::Chunk(chunk) => {
                    let member = rest.get(..usize::try_from(chunk.size)?);
                    let member = member.context("a member that is cut off")?;
                    let raw = &mut raw[..index.length(chunk.number)];
                    pass.inflate(&mut inflater, &chunk, member, raw)
                        .with_context(|| format!("chunk {}", chunk.number))?;
                    at = chunk.bytes().end;
                }
                Item::Zeros { first, count, .. } => {
                    let count = (count - skip).min((place.end - at) / each);
                    pass.zero_members(&mut inflater, rest, &mut raw, count)
                        .with_context(|| format!("zero chunks from {}", first + skip))?;
                    at += count * each;
                }
            }
            skip = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskInput, Input};
    use crate::event::Silent;
    use crate::image::{CaptureOptions, FileSource, capture};
    use crate::inventory::DiskIdentity;
    use crate::source::ReadAt;
    use std::fs::{self, File};

    const MIB: usize = 1 << 20;

    /// An image of noise, zeros and noise again, and its bytes.
    fn image(folder: &std::path::Path, zeros: usize) -> Vec<u8> {
        let disk = folder.join("disk");
        let mut raw = vec![0; (5 + zeros) * MIB];
        blake3::Hasher::new()
            .finalize_xof()
            .fill(&mut raw[..3 * MIB]);
        let (_, end) = raw.split_at_mut((3 + zeros) * MIB);
        end.fill(7);
        fs::write(&disk, raw).unwrap();
        let identity = DiskIdentity {
            device: "sda".into(),
            model: String::new(),
            serial: String::new(),
            wwn: String::new(),
            transport: String::new(),
            size: DiskInput::open(&disk).unwrap().size(),
            logical_sector_size: 512,
            physical_sector_size: 512,
        };
        let mut out = File::create(folder.join("image")).unwrap();
        let options = CaptureOptions::default();
        capture(&disk, &identity, &options, &mut out, &Silent).unwrap();
        fs::read(folder.join("image")).unwrap()
    }

    #[test]
    fn each_piece_is_proven_alone_and_together_they_are_the_image() {
        let folder = tempfile::tempdir().unwrap();
        // So many that one piece does not hold their members.
        let bytes = image(folder.path(), 1200);
        let source = FileSource::open(&folder.path().join("image")).unwrap();
        let pieces = Pieces::load(&source).unwrap();
        assert!(pieces.count() > 3, "{}", pieces.count());
        assert!(pieces.end() < source.size());
        let mut at = 0;
        for number in 0..pieces.count() {
            let place = pieces.bytes(number);
            assert_eq!(place.start, at);
            at = place.end;
            assert_eq!(pieces.at(place.start), number);
            assert_eq!(pieces.at(place.end - 1), number);
            let from = usize::try_from(place.start).unwrap();
            let piece = &bytes[from..usize::try_from(place.end).unwrap()];
            pieces.prove(number, piece).unwrap();
            let mut wrong = piece.to_vec();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0x10;
            pieces.prove(number, &wrong).unwrap_err();
            pieces.prove(number, &vec![0; piece.len()]).unwrap_err();
            pieces.prove(number, &piece[1..]).unwrap_err();
        }
        assert_eq!(at, pieces.end());
    }
}
