//! The bytes that end an image: the members of its index, and the footer.
//!
//! Everything is little-endian. `docs/image-format.md` says the same for people.

use super::index::{Index, Record};
use super::member_header::{
    HEADER, array_at, begins_like_indexed, put_header, u16_at, u32_at, u64_at,
};
use thiserror::Error;

const INDEX_FIELD: [u8; 2] = *b"PI";
const FOOTER_FIELD: [u8; 2] = *b"PF";
/// An empty final block with fixed codes, then CRC-32 and ISIZE of nothing.
const EMPTY_BODY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Bytes of the index in one member. XLEN would leave room for 65,523, as images of earlier builds have them, but
/// busybox's gunzip complains of more than 16 KiB of EXTRA.
const INDEX_PIECE: usize = 16_000;
const INDEX_MAGIC: [u8; 8] = *b"PITSTOP1";
/// What the index of a system as files begins with, which `trees/` reads.
pub const TREE_MAGIC: [u8; 8] = *b"PITTREE1";
const FOOTER_MAGIC: [u8; 8] = *b"PITSTOPF";
const FOOTER_DATA: usize = 8 + 8 + 8 + 8 + 32 + 4;
/// Bytes of the last member.
pub const FOOTER: usize = HEADER + 4 + FOOTER_DATA + EMPTY_BODY.len();
/// Bytes before the records of the index.
const INDEX_FIXED: usize = 8 + 4 + 8 + 8 + 4 + 4 + 4;
/// A record with this bit counts zero chunks.
const ZEROS: u32 = 1 << 31;
/// The most bytes that all index members may have together; a claim above it is damage, not memory to reserve.
pub const INDEX_MOST: u64 = 256 << 20;

/// Why an index or a footer cannot be what Pitstop wrote.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("its end is not the footer of an image: it is cut short, or something follows it")]
    NoFooter,
    #[error("its footer is damaged: the checksum is wrong")]
    FooterChecksum,
    #[error(
        "its footer says that the index is at {offset} with {length} bytes, in a file of {file}"
    )]
    IndexPlace { offset: u64, length: u64, file: u64 },
    #[error("its index is damaged: the checksum is wrong")]
    IndexChecksum,
    #[error("its index has version {0}, which this pitstop does not know")]
    Version(String),
    #[error("it holds a system as files, not a disk: see `pitstop tree`")]
    Tree,
    #[error("its index contradicts itself: {0}")]
    Index(&'static str),
}

/// Where the index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Of the first index member.
    pub offset: u64,
    /// Of all index members together.
    pub length: u64,
    /// Of the index itself, once taken out of its members.
    pub index: u64,
    /// BLAKE3 of the index.
    pub hash: [u8; 32],
}

/// An empty member with `data` in the field `id`.
fn empty_member(id: [u8; 2], data: &[u8], out: &mut Vec<u8>) {
    let size = HEADER + 4 + data.len() + EMPTY_BODY.len();
    let extra = u16::try_from(8 + 4 + data.len()).unwrap_or(u16::MAX);
    let mut header = [0; HEADER];
    put_header(&mut header, size);
    header[10..12].copy_from_slice(&extra.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&id);
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&EMPTY_BODY);
}

/// Bytes of the members that an index of so many bytes takes.
#[cfg(test)]
pub fn members_of(index: u64) -> u64 {
    let each = (HEADER + 4 + EMPTY_BODY.len()) as u64;
    index + index.div_ceil(INDEX_PIECE as u64) * each
}

/// The index members and the footer that end the image; `offset` is where they begin.
pub fn encode_tail(index: &Index, toml: &str, offset: u64) -> Vec<u8> {
    seal(&encode_index(index, toml), offset)
}

/// The members of an index that is `blob`, and the footer; `offset` is where they begin.
pub fn seal(blob: &[u8], offset: u64) -> Vec<u8> {
    let mut tail = Vec::with_capacity(blob.len() + blob.len() / 1000 + 1024);
    for piece in blob.chunks(INDEX_PIECE) {
        empty_member(INDEX_FIELD, piece, &mut tail);
    }
    let mut data = Vec::with_capacity(FOOTER_DATA);
    data.extend_from_slice(&FOOTER_MAGIC);
    data.extend_from_slice(&offset.to_le_bytes());
    data.extend_from_slice(&(tail.len() as u64).to_le_bytes());
    data.extend_from_slice(&(blob.len() as u64).to_le_bytes());
    data.extend_from_slice(blake3::hash(blob).as_bytes());
    let checksum = libdeflater::crc32(&data);
    data.extend_from_slice(&checksum.to_le_bytes());
    empty_member(FOOTER_FIELD, &data, &mut tail);
    tail
}

fn encode_index(index: &Index, toml: &str) -> Vec<u8> {
    let records = index.records();
    let mut blob = Vec::new();
    blob.extend_from_slice(&INDEX_MAGIC);
    blob.extend_from_slice(&index.chunk_size().to_le_bytes());
    blob.extend_from_slice(&index.raw_size().to_le_bytes());
    blob.extend_from_slice(&index.data_size().to_le_bytes());
    blob.extend_from_slice(&index.zero_member().to_le_bytes());
    let count = u32::try_from(records).unwrap_or(u32::MAX);
    blob.extend_from_slice(&count.to_le_bytes());
    blob.extend_from_slice(&u32::try_from(toml.len()).unwrap_or(u32::MAX).to_le_bytes());
    index.for_each_record(|record| match record {
        Record::Zeros(count) => blob.extend_from_slice(&(count | ZEROS).to_le_bytes()),
        Record::Data { size, hash } => {
            blob.extend_from_slice(&size.to_le_bytes());
            blob.extend_from_slice(&hash);
        }
    });
    blob.extend_from_slice(toml.as_bytes());
    blob
}

/// Reads the last [`FOOTER`] bytes of a file of `file` bytes.
pub fn parse_footer(bytes: &[u8], file: u64) -> Result<Footer, FormatError> {
    let data = field(bytes, FOOTER_FIELD)
        .filter(|(data, rest)| data.len() == FOOTER_DATA && rest.is_empty())
        .map(|(data, _)| data)
        .filter(|data| data.starts_with(&FOOTER_MAGIC))
        .ok_or(FormatError::NoFooter)?;
    let (checked, checksum) = data.split_at(FOOTER_DATA - 4);
    if u32_at(checksum, 0) != Some(libdeflater::crc32(checked)) {
        return Err(FormatError::FooterChecksum);
    }
    let word = |at| u64_at(checked, at).ok_or(FormatError::NoFooter);
    let footer = Footer {
        offset: word(8)?,
        length: word(16)?,
        index: word(24)?,
        hash: array_at(checked, 32).ok_or(FormatError::NoFooter)?,
    };
    let end = footer.offset.checked_add(footer.length);
    let fits = end == file.checked_sub(FOOTER as u64)
        && footer.index <= footer.length
        && footer.length <= INDEX_MOST;
    if !fits {
        return Err(FormatError::IndexPlace {
            offset: footer.offset,
            length: footer.length,
            file,
        });
    }
    Ok(footer)
}

/// The data of the field `id` in the empty member that `bytes` begin with, and what follows the member.
fn field(bytes: &[u8], id: [u8; 2]) -> Option<(&[u8], &[u8])> {
    if !begins_like_indexed(bytes) {
        return None;
    }
    let extra = usize::from(u16_at(bytes, 10)?);
    let length = usize::from(u16_at(bytes, HEADER + 2)?);
    let size = usize::try_from(u32_at(bytes, 16)?).ok()?;
    let data = HEADER + 4..HEADER + 4 + length;
    let sound = bytes.get(HEADER..HEADER + 2)? == id
        && extra == length + 12
        && size == data.end + EMPTY_BODY.len()
        && bytes.get(data.end..size)? == EMPTY_BODY;
    sound.then_some((bytes.get(data)?, bytes.get(size..)?))
}

/// Takes the index out of its members, and proves it by the footer.
pub fn unseal(members: &[u8], footer: &Footer) -> Result<Vec<u8>, FormatError> {
    let mut blob = Vec::with_capacity(members.len());
    let mut rest = members;
    while !rest.is_empty() {
        let (data, after) = field(rest, INDEX_FIELD).ok_or(FormatError::IndexChecksum)?;
        blob.extend_from_slice(data);
        rest = after;
    }
    if blob.len() as u64 != footer.index || *blake3::hash(&blob).as_bytes() != footer.hash {
        return Err(FormatError::IndexChecksum);
    }
    Ok(blob)
}

/// Takes the index and the metadata out of the index members.
pub fn parse_index(members: &[u8], footer: &Footer) -> Result<(Index, String), FormatError> {
    let blob = unseal(members, footer)?;
    if blob.starts_with(&TREE_MAGIC) {
        return Err(FormatError::Tree);
    }
    let short = FormatError::Index("it ends early");
    let fixed = blob.get(..INDEX_FIXED).ok_or(short)?;
    if fixed[..8] != INDEX_MAGIC {
        return Err(FormatError::Version(
            String::from_utf8_lossy(&fixed[..8]).into_owned(),
        ));
    }
    parse_body(fixed, &blob[INDEX_FIXED..], footer)
}

fn parse_body(fixed: &[u8], body: &[u8], footer: &Footer) -> Result<(Index, String), FormatError> {
    let short = || FormatError::Index("it ends early");
    let (chunk_size, raw_size, data_size, zero_member, records, toml_size) = (
        u32_at(fixed, 8).ok_or_else(short)?,
        u64_at(fixed, 12).ok_or_else(short)?,
        u64_at(fixed, 20).ok_or_else(short)?,
        u32_at(fixed, 28).ok_or_else(short)?,
        u32_at(fixed, 32).ok_or_else(short)?,
        u32_at(fixed, 36).ok_or_else(short)?,
    );
    if data_size != footer.offset {
        return Err(FormatError::Index("its data does not end where it begins"));
    }
    let mut index = Index::new(chunk_size, raw_size, zero_member)
        .ok_or(FormatError::Index("no such chunk size"))?;
    let mut at = 0;
    for _ in 0..records {
        let word = u32_at(body, at).ok_or_else(short)?;
        at += 4;
        let record = if word & ZEROS == 0 {
            let hash = array_at(body, at).ok_or_else(short)?;
            at += 32;
            Record::Data { size: word, hash }
        } else {
            Record::Zeros(word & !ZEROS)
        };
        index.push(record).map_err(FormatError::Index)?;
    }
    index.check_whole(data_size).map_err(FormatError::Index)?;
    let toml = &body[at..];
    if u32::try_from(toml.len()) != Ok(toml_size) {
        return Err(FormatError::Index("its metadata has another length"));
    }
    let toml = String::from_utf8(toml.to_vec())
        .map_err(|_| FormatError::Index("its metadata is not UTF-8"))?;
    Ok((index, toml))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::chunk_size::RECORDS_MOST;
    use crate::image::index::CHUNK_MOST;
    use crate::image::index::tests::{record, sample};
    use proptest::prelude::*;

    fn parse(tail: &[u8], offset: u64) -> Result<(Index, String), FormatError> {
        let members = tail
            .len()
            .checked_sub(FOOTER)
            .ok_or(FormatError::NoFooter)?;
        let footer = parse_footer(&tail[members..], offset + tail.len() as u64)?;
        parse_index(&tail[..members], &footer)
    }

    #[test]
    fn an_index_of_a_pebibyte_reads_back() {
        let mut index = Index::new(CHUNK_MOST, 1 << 50, 27).unwrap();
        let hash = [7; 32];
        for _ in 0..4 {
            index.push(Record::Zeros((1 << 22) - 1)).unwrap();
            index.push(Record::Data { size: 99, hash }).unwrap();
        }
        let tail = encode_tail(&index, "x = 1", index.data_size());
        assert_eq!(index.stored(), 4 * 40);
        let (read, toml) = parse(&tail, index.data_size()).unwrap();
        assert_eq!((read, toml.as_str()), (index, "x = 1"));
    }

    #[test]
    fn an_index_that_is_written_is_small_enough_to_be_read() {
        let metadata = 8 << 20;
        let members = members_of(RECORDS_MOST + metadata);
        assert!(members <= INDEX_MOST, "{members}");
        let index = sample(&[Record::Zeros(1000)], 0);
        let toml = "x".repeat(100_000);
        let tail = encode_tail(&index, &toml, index.data_size());
        let stored = 40 + index.stored() + toml.len() as u64;
        assert_eq!(
            tail.len() - FOOTER,
            usize::try_from(members_of(stored)).unwrap()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_index_reads_back(records in prop::collection::vec(record(), 0..4000), toml in "\\PC*") {
            let index = sample(&records, 0);
            let tail = encode_tail(&index, &toml, index.data_size());
            prop_assert_eq!(parse(&tail, index.data_size()).unwrap(), (index, toml));
        }

        #[test]
        fn a_changed_tail_is_an_error(
            records in prop::collection::vec(record(), 1..50),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let index = sample(&records, 0);
            let mut tail = encode_tail(&index, "x = 1", index.data_size());
            let at = at.index(tail.len());
            tail[at] ^= 1 << bit;
            // Padding bits of a header can change without meaning; the index never.
            if let Ok((read, toml)) = parse(&tail, index.data_size()) {
                prop_assert_eq!((read, toml.as_str()), (index, "x = 1"));
            }
        }

        #[test]
        fn any_bytes_make_no_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(parse(&tail, 0).is_err());
        }
    }
}
