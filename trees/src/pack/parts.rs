//! A large file, part by part.
//!
//! BLAKE3 is a tree: the hash of the file is joined of those of its parts, whose length is a power of two.

use super::work::parts_of;
use super::{Contents, Data, Found, Made, MemberMaker, PART};
use crate::entry::{Entry, Hash, Kind};
use crate::header;
use crate::index::Placed;
use anyhow::Context;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use pitstop_imaging::image::members::Doing;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file that is being packed.
pub struct Large {
    entry: Entry,
    contents: Arc<dyn Contents>,
    stored: u64,
    pub parts: u64,
    left: AtomicU64,
}

/// Bytes in memory, for a file that turned out small.
struct Held(Vec<u8>);

impl Contents for Held {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).map_err(io::Error::other)?;
        let bytes = self.0.get(from..from.saturating_add(buffer.len()));
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn done(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Large {
    pub fn new(found: Found) -> Self {
        let contents: Arc<dyn Contents> = match found.data {
            Data::None => Arc::new(Held(Vec::new())),
            Data::Bytes(bytes) => Arc::new(Held(bytes)),
            Data::Stream(contents) => contents,
        };
        let stored = found.entry.kind.stored();
        let parts = parts_of(stored);
        Self {
            entry: found.entry,
            contents,
            stored,
            parts,
            left: AtomicU64::new(parts),
        }
    }
}

/// One part of a file.
pub struct Part {
    pub file: Arc<Large>,
    pub number: u64,
}

/// The hash of a part, and whether the file ends with it.
pub struct Hashed {
    pub hash: Hash,
    pub last: bool,
}

pub fn make(part: &Part, maker: &mut MemberMaker) -> anyhow::Result<Made> {
    let file = &part.file;
    let mut raw = std::mem::take(&mut maker.raw);
    raw.clear();
    let mut made = Made::default();
    if part.number == 0 {
        header::encode(&file.entry, &mut raw);
        made.placed.push(Placed {
            entry: file.entry.clone(),
            header: u32::try_from(raw.len())?,
        });
    }
    let at = part.number * PART;
    let length = PART.min(file.stored.saturating_sub(at));
    let start = raw.len();
    raw.resize(start + usize::try_from(length)?, 0);
    {
        let _reading = maker.effort.doing(Doing::Reading);
        let read = file.contents.read(&mut raw[start..], at);
        read.with_context(|| format!("reading {}", file.entry.path))?;
    }
    made.data = length;
    made.part = Some(Hashed {
        hash: hash_part(&raw[start..], at, file.parts == 1),
        last: part.number + 1 == file.parts,
    });
    raw.resize(raw.len().next_multiple_of(512), 0);
    made.members.push(maker.member(&raw));
    maker.raw = raw;
    if file.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        file.contents.done()?;
    }
    Ok(made)
}

/// Of the only part the hash of the file, of others what [`join`] takes.
pub fn hash_part(data: &[u8], at: u64, only: bool) -> Hash {
    if only {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at).update(data);
    hasher.finalize_non_root()
}

/// The hash of a file of `stored` bytes, by those of its parts.
pub fn join(parts: &[Hash], stored: u64) -> Hash {
    match parts {
        [] => *blake3::hash(b"").as_bytes(),
        [only] => *only,
        parts => {
            let (left, right) = halves(parts, stored);
            *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
        }
    }
}

fn halves(parts: &[Hash], length: u64) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(length);
    let count = usize::try_from(left / PART).unwrap_or(parts.len());
    let (first, rest) = parts.split_at(count);
    (subtree(first, left), subtree(rest, length - left))
}

fn subtree(parts: &[Hash], length: u64) -> ChainingValue {
    match parts {
        [only] => *only,
        parts => {
            let (left, right) = halves(parts, length);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

/// Gives a file the hash of its parts.
pub fn set_hash(entry: &mut Entry, parts: &[Hash]) {
    let stored = entry.kind.stored();
    if let Kind::File { hash, .. } = &mut entry.kind {
        *hash = join(parts, stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_file_is_that_of_its_parts_joined() {
        let part = usize::try_from(PART).unwrap();
        for length in [0, 1, part, part + 1, 2 * part, 3 * part - 7, 5 * part + 1] {
            let data: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let only = length <= part;
            let parts: Vec<Hash> = data
                .chunks(part)
                .zip(0..)
                .map(|(data, number)| hash_part(data, number * PART, only))
                .collect();
            let whole = *blake3::hash(&data).as_bytes();
            assert_eq!(join(&parts, length as u64), whole, "{length}");
        }
    }
}
