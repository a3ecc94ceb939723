//! An image that is still being written: what of it is there already, in rounds that never change.
//!
//! Members lie one behind another from the first byte on, each with its own size in front, so that whoever keeps the file can
//! follow it. What a member holds is found out by inflating it. Where a round ends follows from the bytes alone: who reads the
//! same file again, another server or one that has started anew, finds the same rounds.
//!
//! A round is a promise of nothing: the capture may still fail, or a part of the file may come again, otherwise. Only the index
//! of the whole image says what the disk is to hold.

use super::codec::{Inflater, is_zero};
use super::index::{CHUNK_MOST, CHUNK_UNIT, Chunk, Record};
use super::member_header::{HEADER, TRAILER, array_at, parse_header, u32_at, u64_at};
use std::io;

/// A round has at least so many bytes of members, and an eighth of what is before it: few rounds for a large image, and little that
/// is in none of them at its end.
pub const ROUND_LEAST: u64 = 16 << 20;
const ROUND_PART: u64 = 8;

const MAGIC: [u8; 8] = *b"PITROUN1";
/// A record with this bit counts chunks of zeros.
const ZEROS: u32 = 1 << 31;
/// Bytes before the records of a round.
const FIXED: usize = 8 + 8 + 8 + 4 + 4;
/// The longest text of a round: an eighth of the largest index there is, and some.
pub const ROUND_MOST: u64 = 64 << 20;

/// Chunks that follow each other, and where their members are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The number of the first chunk.
    first: u64,
    /// Where its member begins.
    offset: u64,
    chunk_size: u32,
    /// Bytes of the member of a chunk of zeros.
    zero_member: u32,
    records: Vec<Record>,
}

/// A text that is no round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no round of a growing image: {0}")]
pub struct BadRound(&'static str);

impl Round {
    /// As it is sent. `docs/many.md` says the same for people.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.records.len() * 36);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.chunk_size.to_le_bytes());
        bytes.extend_from_slice(&self.zero_member.to_le_bytes());
        for record in &self.records {
            match record {
                Record::Zeros(count) => bytes.extend_from_slice(&(count | ZEROS).to_le_bytes()),
                Record::Data { size, hash } => {
                    bytes.extend_from_slice(&size.to_le_bytes());
                    bytes.extend_from_slice(hash);
                }
            }
        }
        bytes
    }

    /// Reads what anybody may have sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRound> {
        let short = BadRound("it ends early");
        if !bytes.starts_with(&MAGIC) {
            return Err(BadRound("it begins otherwise"));
        }
        let mut round = Self {
            first: u64_at(bytes, 8).ok_or(short)?,
            offset: u64_at(bytes, 16).ok_or(short)?,
            chunk_size: u32_at(bytes, 24).ok_or(short)?,
            zero_member: u32_at(bytes, 28).ok_or(short)?,
            records: Vec::new(),
        };
        if !is_chunk_size(round.chunk_size) {
            return Err(BadRound("no chunks have that size"));
        }
        let most = super::codec::member_bound(round.chunk_bytes());
        let mut at = FIXED;
        let (mut chunks, mut end) = (round.first, round.offset);
        while at < bytes.len() {
            let word = u32_at(bytes, at).ok_or(short)?;
            at += 4;
            let (more, length) = if word & ZEROS == 0 {
                let hash = array_at(bytes, at).ok_or(short)?;
                at += 32;
                if word == 0 || word as usize > most {
                    return Err(BadRound("no member has that size"));
                }
                round.records.push(Record::Data { size: word, hash });
                (1, u64::from(word))
            } else {
                let count = word & !ZEROS;
                round.records.push(Record::Zeros(count));
                (
                    u64::from(count),
                    u64::from(count) * u64::from(round.zero_member),
                )
            };
            let overflow = BadRound("its sizes overflow");
            chunks = u64::checked_add(chunks, more).ok_or(overflow)?;
            end = end.checked_add(length).ok_or(overflow)?;
            // Every chunk lies on a disk whose size is a number.
            if chunks
                .checked_mul(u64::from(round.chunk_size))
                .is_none_or(|end| end > i64::MAX as u64)
            {
                return Err(BadRound("it is of no disk"));
            }
        }
        Ok(round)
    }

    /// What stands for it.
    pub fn digest(&self) -> blake3::Hash {
        blake3::hash(&self.to_bytes())
    }

    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        usize::try_from(self.chunk_size).unwrap_or(usize::MAX)
    }

    /// Where its last member ends in the file.
    pub fn end(&self) -> u64 {
        let sizes = self.records.iter().map(|record| match record {
            Record::Zeros(count) => u64::from(*count) * u64::from(self.zero_member),
            Record::Data { size, .. } => u64::from(*size),
        });
        self.offset + sizes.sum::<u64>()
    }

    /// The number of the chunk behind it.
    pub fn next(&self) -> u64 {
        let counts = self.records.iter().map(|record| match record {
            Record::Zeros(count) => u64::from(*count),
            Record::Data { .. } => 1,
        });
        self.first + counts.sum::<u64>()
    }

    /// Its chunks that are not zeros.
    pub fn chunks(&self) -> Vec<Chunk> {
        let (mut number, mut offset) = (self.first, self.offset);
        let mut chunks = Vec::new();
        for record in &self.records {
            match *record {
                Record::Zeros(count) => {
                    number += u64::from(count);
                    offset += u64::from(count) * u64::from(self.zero_member);
                }
                Record::Data { size, hash } => {
                    chunks.push(Chunk {
                        number,
                        offset,
                        size,
                        hash,
                    });
                    number += 1;
                    offset += u64::from(size);
                }
            }
        }
        chunks
    }
}

fn is_chunk_size(size: u32) -> bool {
    (CHUNK_UNIT..=CHUNK_MOST).contains(&size) && size.is_multiple_of(CHUNK_UNIT)
}

/// A file that is followed.
pub struct Growing {
    inflater: Inflater,
    member: Vec<u8>,
    raw: Vec<u8>,
    /// `None` before the first member.
    open: Option<Round>,
    /// Where the open round ends so far: in the file, and on the disk.
    at: u64,
    chunk: u64,
    rounds: Vec<Round>,
    /// What comes now is no whole chunk: the end of the data, or no image of ours.
    over: bool,
}

impl Growing {
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            inflater: Inflater::new()?,
            member: Vec::new(),
            raw: Vec::new(),
            open: None,
            at: 0,
            chunk: 0,
            rounds: Vec::new(),
            over: false,
        })
    }

    /// The rounds that are there, in order.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// What of the file was read: whatever is shorter has changed.
    pub fn read_to(&self) -> u64 {
        self.at
    }

    /// Takes in the next member of a file that has `size` bytes now; `false` where there is none that is whole.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(
        &mut self,
        size: u64,
        read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<bool> {
        let left = size.saturating_sub(self.at);
        if self.over || left < (HEADER + TRAILER) as u64 {
            return Ok(false);
        }
        let mut read = |bytes: &mut [u8], at| match read(bytes, at) {
            // It was cut off just now, to be sent again.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            done => done.map(|()| true),
        };
        let mut header = [0; HEADER];
        if !read(&mut header, self.at)? {
            return Ok(false);
        }
        let length = parse_header(&header).filter(|length| {
            (HEADER + TRAILER..=super::codec::member_bound(CHUNK_MOST as usize))
                .contains(&(*length as usize))
        });
        let Some(length) = length else {
            self.over = true;
            return Ok(false);
        };
        if u64::from(length) > left {
            return Ok(false);
        }
        self.member.resize(length as usize, 0);
        if !read(&mut self.member, self.at)? {
            return Ok(false);
        }
        let chunk_size = u32_at(&self.member, self.member.len() - 4).unwrap_or(0);
        // The last chunk of a disk may be shorter: it is for the end.
        let known = self.open.as_ref().map(|open| open.chunk_size);
        if !is_chunk_size(chunk_size) || known.is_some_and(|known| known != chunk_size) {
            self.over = true;
            return Ok(false);
        }
        self.raw.resize(chunk_size as usize, 0);
        if self.inflater.member(&self.member, &mut self.raw).is_err() {
            // It may be overwritten just now: the next look has it whole.
            return Ok(false);
        }
        self.take(length, chunk_size);
        Ok(true)
    }

    fn take(&mut self, length: u32, chunk_size: u32) {
        let (first, offset) = (self.chunk, self.at);
        let round = self.open.get_or_insert_with(|| Round {
            first,
            offset,
            chunk_size,
            zero_member: 0,
            records: Vec::new(),
        });
        // Zeros of another size than those before are told as any chunk.
        let zeros = is_zero(&self.raw) && (round.zero_member == 0 || round.zero_member == length);
        if zeros {
            round.zero_member = length;
            match round.records.last_mut() {
                Some(Record::Zeros(count)) if *count < ZEROS - 1 => *count += 1,
                _ => round.records.push(Record::Zeros(1)),
            }
        } else {
            let hash = *blake3::hash(&self.raw).as_bytes();
            round.records.push(Record::Data { size: length, hash });
        }
        self.at += u64::from(length);
        self.chunk += 1;
        if self.at - round.offset >= ROUND_LEAST.max(round.offset / ROUND_PART) {
            let next = Round {
                first: self.chunk,
                offset: self.at,
                records: Vec::new(),
                ..*round
            };
            let whole = std::mem::replace(round, next);
            self.rounds.push(whole);
        }
    }
}

#[cfg(test)]
mod tests;
