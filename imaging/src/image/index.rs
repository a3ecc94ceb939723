//! Where each chunk of an image is, and what its hash must be. Runs of zero chunks cost nothing.

mod walk;

pub use walk::{Chunk, Item, Items, Mark};

use super::codec::member_bound;
use crate::extents::Extents;
use std::sync::Arc;

/// Chunks are whole multiples of this many bytes, so that direct I/O can write them.
pub const CHUNK_UNIT: u32 = 4096;
/// The largest chunk that is read: bounds the memory of a restore.
pub const CHUNK_MOST: u32 = 64 << 20;
/// Bytes of a record of data and of one of zeros.
pub const DATA_RECORD: u64 = 36;
pub const ZEROS_RECORD: u64 = 4;

/// One entry of the index as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// So many whole chunks of zeros; less than 2^31.
    Zeros(u32),
    Data {
        size: u32,
        hash: [u8; 32],
    },
}

/// The index of a whole image, or of one that is growing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    chunk_size: u32,
    raw_size: u64,
    zero_member: u32,
    // Shared, so that a copy which leaves something out costs nothing.
    runs: Arc<Vec<Run>>,
    data: Arc<Vec<Data>>,
    /// Chunks so far.
    chunks: u64,
    /// Bytes of members so far.
    data_size: u64,
    /// Bytes of records so far.
    stored: u64,
    /// Numbers of the chunks that walks pass over.
    left_out: Extents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    size: u32,
    hash: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Zeros(u32),
    Data(usize),
}

impl Index {
    /// An empty index; `None` when no chunks can have that size.
    pub fn new(chunk_size: u32, raw_size: u64, zero_member: u32) -> Option<Self> {
        let fits = (CHUNK_UNIT..=CHUNK_MOST).contains(&chunk_size)
            && chunk_size.is_multiple_of(CHUNK_UNIT);
        fits.then(|| Self {
            chunk_size,
            raw_size,
            zero_member,
            runs: Arc::default(),
            data: Arc::default(),
            chunks: 0,
            data_size: 0,
            stored: 0,
            left_out: Extents::new(),
        })
    }

    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    pub fn raw_size(&self) -> u64 {
        self.raw_size
    }

    /// Sets the size of a disk that was not known until its stream ended.
    pub fn set_raw_size(&mut self, raw_size: u64) {
        self.raw_size = raw_size;
    }

    /// Raw bytes of a whole chunk, as the length of a buffer.
    pub fn chunk_bytes(&self) -> usize {
        usize::try_from(self.chunk_size).unwrap_or(usize::MAX)
    }

    /// The most bytes that the member of a chunk has.
    pub fn largest_member(&self) -> usize {
        member_bound(self.chunk_bytes())
    }

    /// Where a chunk is in the image `name`, for messages.
    pub fn place(&self, chunk: &Chunk, name: &str) -> String {
        format!(
            "chunk {} (disk offset {}) at {} in {name}",
            chunk.number,
            self.position(chunk.number),
            chunk.offset
        )
    }

    /// Bytes of the member of a whole chunk of zeros.
    pub fn zero_member(&self) -> u32 {
        self.zero_member
    }

    /// Bytes of all data members; the index members follow.
    pub fn data_size(&self) -> u64 {
        self.data_size
    }

    /// Where chunk `number` is on the disk.
    pub fn position(&self, number: u64) -> u64 {
        number.saturating_mul(u64::from(self.chunk_size))
    }

    /// Raw bytes of chunk `number`: the last may be shorter.
    pub fn length(&self, number: u64) -> usize {
        let left = self.raw_size.saturating_sub(self.position(number));
        usize::try_from(left.min(u64::from(self.chunk_size))).unwrap_or(0)
    }

    /// Has walks pass over every chunk that lies within one of these ranges of the disk. [`hash`](Self::hash) is of
    /// the whole no more then.
    pub fn leave_out(&mut self, bytes: &Extents) {
        let chunk = u64::from(self.chunk_size);
        for range in bytes.iter() {
            let end = if range.end >= self.raw_size {
                self.raw_size.div_ceil(chunk)
            } else {
                range.end / chunk
            };
            self.left_out.insert(range.start.div_ceil(chunk)..end);
        }
    }

    /// Raw bytes of the chunks that a walk gives.
    pub fn walked(&self) -> u64 {
        let out = self.left_out.iter().map(|range| {
            let end = self.position(range.end).min(self.raw_size);
            end.saturating_sub(self.position(range.start))
        });
        self.raw_size.saturating_sub(out.sum())
    }

    /// Adds the next chunk or run of zero chunks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn push(&mut self, record: Record) -> Result<(), &'static str> {
        const OVERFLOW: &str = "its sizes overflow";
        let runs = Arc::make_mut(&mut self.runs);
        let (chunks, bytes) = match record {
            Record::Zeros(0) => return Err("a run of no zero chunks"),
            Record::Zeros(count) => {
                match runs.last_mut() {
                    Some(Run::Zeros(held)) if u64::from(*held) + u64::from(count) < 1 << 31 => {
                        *held += count;
                    }
                    _ => {
                        runs.push(Run::Zeros(count));
                        self.stored += ZEROS_RECORD;
                    }
                }
                let bytes = u64::from(count) * u64::from(self.zero_member);
                (u64::from(count), bytes)
            }
            Record::Data { size: 0, .. } => return Err("a member of no bytes"),
            Record::Data { size, hash } => {
                Arc::make_mut(&mut self.data).push(Data { size, hash });
                self.stored += DATA_RECORD;
                match runs.last_mut() {
                    Some(Run::Data(count)) => *count += 1,
                    _ => runs.push(Run::Data(1)),
                }
                (1, u64::from(size))
            }
        };
        self.chunks = self.chunks.checked_add(chunks).ok_or(OVERFLOW)?;
        self.data_size = self.data_size.checked_add(bytes).ok_or(OVERFLOW)?;
        Ok(())
    }

    /// Checks that the chunks make up the whole disk and their members `data_size` bytes.
    pub fn check_whole(&self, data_size: u64) -> Result<(), &'static str> {
        let chunk_size = u64::from(self.chunk_size);
        if self.chunks != self.raw_size.div_ceil(chunk_size) {
            return Err("its chunks do not make up the disk");
        }
        if self.data_size != data_size {
            return Err("its members do not make up the data");
        }
        // Zero members are of whole chunks: a short last chunk has a member of its own.
        let short_end = !self.raw_size.is_multiple_of(chunk_size);
        if short_end && matches!(self.runs.last(), Some(Run::Zeros(_))) {
            return Err("its short last chunk is in a run of whole ones");
        }
        let bound = self.largest_member();
        let zeros = self.zero_member as usize;
        let has_zeros = self.runs.iter().any(|run| matches!(run, Run::Zeros(_)));
        if has_zeros && !(1..=bound).contains(&zeros) {
            return Err("its member of zeros has a size that no chunk makes");
        }
        if self.data.iter().any(|data| data.size as usize > bound) {
            return Err("a member is larger than any chunk makes");
        }
        Ok(())
    }

    /// Bytes of its records as they are stored.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// How many records describe it.
    pub fn records(&self) -> usize {
        let zeros = self.runs.iter().filter(|run| matches!(run, Run::Zeros(_)));
        zeros.count() + self.data.len()
    }

    /// Calls `each` with every record, in order.
    pub fn for_each_record(&self, mut each: impl FnMut(Record)) {
        let mut data = self.data.iter();
        for run in self.runs.iter() {
            match run {
                Run::Zeros(count) => each(Record::Zeros(*count)),
                Run::Data(count) => {
                    for Data { size, hash } in data.by_ref().take(*count) {
                        each(Record::Data {
                            size: *size,
                            hash: *hash,
                        });
                    }
                }
            }
        }
    }

    /// Every stretch in the order of the disk.
    pub fn items(&self) -> Items<'_> {
        self.items_from(Mark::default())
    }

    /// The stretches from a place on that an earlier walk marked.
    pub fn items_from(&self, mark: Mark) -> Items<'_> {
        Items::of(self, mark)
    }

    /// BLAKE3 over the concatenated hashes of all chunks.
    pub fn hash(&self) -> blake3::Hash {
        // Hashes of zeros are hashed many at a time: a large disk has millions.
        const AT_ONCE: usize = 4096;
        let zero = zero_hash(self.chunk_bytes());
        let zeros = zero.repeat(AT_ONCE);
        let mut hasher = blake3::Hasher::new();
        for item in self.items() {
            match item {
                Item::Zeros { mut count, .. } => {
                    while count > 0 {
                        let now = usize::try_from(count).unwrap_or(AT_ONCE).min(AT_ONCE);
                        hasher.update(&zeros[..now * zero.len()]);
                        count -= now as u64;
                    }
                }
                Item::Chunk(chunk) => {
                    hasher.update(&chunk.hash);
                }
            }
        }
        hasher.finalize()
    }
}

/// BLAKE3 of `length` zeros.
pub fn zero_hash(length: usize) -> [u8; 32] {
    *blake3::hash(&vec![0; length]).as_bytes()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn sample(records: &[Record], last: u64) -> Index {
        let mut index = Index::new(4096, 0, 27).unwrap();
        for record in records {
            index.push(*record).unwrap();
        }
        index.set_raw_size((index.chunks * 4096).saturating_sub(last));
        index
    }

    #[test]
    fn items_tell_the_place_of_each_member() {
        let hash = [7; 32];
        let index = sample(
            &[
                Record::Data { size: 100, hash },
                Record::Zeros(3),
                Record::Zeros(2),
                Record::Data { size: 50, hash },
            ],
            1,
        );
        let chunk = |number, offset, size| {
            Item::Chunk(Chunk {
                number,
                offset,
                size,
                hash,
            })
        };
        assert_eq!(
            index.items().collect::<Vec<_>>(),
            [
                chunk(0, 0, 100),
                Item::Zeros {
                    first: 1,
                    count: 5,
                    offset: 100
                },
                chunk(6, 235, 50),
            ]
        );
        assert_eq!((index.data_size(), index.length(6)), (285, 4095));
    }

    #[test]
    fn the_hash_of_the_whole_is_over_the_chunks_hashes() {
        let index = sample(
            &[
                Record::Zeros(2),
                Record::Data {
                    size: 9,
                    hash: [1; 32],
                },
            ],
            0,
        );
        let zero = *blake3::hash(&[0; 4096]).as_bytes();
        let all = [zero, zero, [1; 32]].concat();
        assert_eq!(index.hash(), blake3::hash(&all));
    }

    #[test]
    fn a_short_last_chunk_cannot_hide_in_a_run() {
        let index = sample(&[Record::Zeros(2)], 1);
        assert_eq!(
            index.check_whole(54),
            Err("its short last chunk is in a run of whole ones")
        );
    }

    #[test]
    fn a_member_of_zeros_has_a_size_that_a_chunk_makes() {
        for size in [0, 1 << 20] {
            let mut index = Index::new(4096, 4096, size).unwrap();
            index.push(Record::Zeros(1)).unwrap();
            assert_eq!(
                index.check_whole(u64::from(size)),
                Err("its member of zeros has a size that no chunk makes")
            );
        }
    }

    pub fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (1u32..1000).prop_map(Record::Zeros),
            (1u32..4000, any::<[u8; 32]>()).prop_map(|(size, hash)| Record::Data { size, hash }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_left_out_is_all_that_a_walk_misses(
            records in prop::collection::vec(record(), 1..30),
            out in prop::collection::vec((0u64..9_000_000, 0u64..3_000_000), 0..5),
        ) {
            let whole = sample(&records, 0);
            let mut part = whole.clone();
            let mut bytes = Extents::new();
            for (start, length) in out {
                bytes.insert(start..start + length);
            }
            part.leave_out(&bytes);
            let singles = |index: &Index| -> Vec<Item> {
                index
                    .items()
                    .flat_map(|item| match item {
                        Item::Chunk(_) => vec![item],
                        Item::Zeros { first, count, offset } => (0..count)
                            .map(|at| Item::Zeros { first: first + at, count: 1, offset: offset + at * 27 })
                            .collect(),
                    })
                    .collect()
            };
            let mut expected = singles(&whole);
            expected.retain(|item| {
                let (Item::Zeros { first: number, .. } | Item::Chunk(Chunk { number, .. })) = *item;
                let chunk = number * 4096..(number + 1) * 4096;
                bytes.gaps(chunk).iter().next().is_some()
            });
            prop_assert_eq!(part.walked(), expected.len() as u64 * 4096);
            prop_assert_eq!(singles(&part), expected);
        }
    }
}
