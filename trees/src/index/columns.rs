//! The columns of the index: what they are, in their order, each deflated by itself (RFC 1951).

use super::IndexError;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use pitstop_imaging::image::members::u32_at;

/// The columns in the order in which they stand. `docs/tree-format.md` says what is in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    MemberSize,
    MemberRaw,
    MemberHash,
    Kind,
    Path,
    Mode,
    Uid,
    Gid,
    Seconds,
    Nanos,
    XattrSet,
    XattrSets,
    Flags,
    Size,
    Hash,
    Link,
    Device,
    Header,
    Extents,
}

/// How many there are.
pub const COLUMNS: usize = Column::Extents as usize + 1;
/// Lengths before each: raw and stored.
const LENGTHS: usize = 8;
/// The most that all columns have together once they are inflated: a claim above it is damage.
const RAW_MOST: u64 = 1 << 30;
/// Deflate makes no more of a byte (RFC 1951: 258 bytes of two bits).
pub const RATIO_MOST: u64 = 1032;
const LEVEL: i32 = 6;

/// Columns being filled.
pub struct Columns(Vec<Vec<u8>>);

impl Columns {
    pub fn new() -> Self {
        Self(vec![Vec::new(); COLUMNS])
    }

    pub fn of(&mut self, column: Column) -> &mut Vec<u8> {
        &mut self.0[column as usize]
    }

    /// All of them, deflated.
    pub fn store(&self, out: &mut Vec<u8>) {
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        let mut compressor = Compressor::new(level);
        for column in &self.0 {
            let mut packed = vec![0; compressor.deflate_compress_bound(column.len())];
            // The bound is the compressor's own.
            let size = compressor
                .deflate_compress(column, &mut packed)
                .unwrap_or_default();
            for length in [column.len(), size] {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
            }
            out.extend_from_slice(&packed[..size]);
        }
    }

    /// Reads `count` columns from the front of `bytes`, and what follows them. Further columns than these are of a
    /// later build, and passed over.
    pub fn load(mut bytes: &[u8], count: usize) -> Result<(Self, &[u8]), IndexError> {
        let wrong = IndexError::Wrong("a column is not what it says");
        if count < COLUMNS {
            return Err(IndexError::Wrong("columns are missing"));
        }
        let mut columns = Vec::with_capacity(COLUMNS);
        let mut total = 0;
        for number in 0..count {
            let raw = u32_at(bytes, 0).ok_or_else(|| wrong.clone())?;
            let stored = u32_at(bytes, 4).ok_or_else(|| wrong.clone())?;
            let length = usize::try_from(stored).map_err(|_| wrong.clone())?;
            let packed = bytes.get(LENGTHS..).and_then(|rest| rest.get(..length));
            let packed = packed.ok_or_else(|| wrong.clone())?;
            bytes = &bytes[LENGTHS + length..];
            if number >= COLUMNS {
                continue;
            }
            total += u64::from(raw);
            if total > RAW_MOST || u64::from(raw) > u64::from(stored) * RATIO_MOST {
                return Err(wrong);
            }
            let mut column = vec![0; usize::try_from(raw).map_err(|_| wrong.clone())?];
            let made = Decompressor::new().deflate_decompress(packed, &mut column);
            if made != Ok(column.len()) {
                return Err(wrong);
            }
            columns.push(column);
        }
        Ok((Self(columns), bytes))
    }

    pub fn get(&self, column: Column) -> &[u8] {
        &self.0[column as usize]
    }
}
