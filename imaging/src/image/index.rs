//! Where each chunk of an image is, and what its hash must be. Runs of zero chunks cost nothing.

mod walk;

pub use walk::{Chunk, Item, Items, Mark};

use super::format::Record;
use crate::extents::Extents;

/// Chunks are whole multiples of this many bytes, so that direct I/O can write them.
pub const CHUNK_UNIT: u32 = 4096;
/// The largest chunk that is read: bounds the memory of a restore.
pub const CHUNK_MOST: u32 = 64 << 20;
/// The most bytes of records that an index may have, so that what is written can be read: the rest of
/// [`INDEX_MOST`](super::format::INDEX_MOST) is for metadata and for what the members add.
pub const RECORDS_MOST: u64 = 240 << 20;
/// Bytes of a record of data and of one of zeros.
const DATA_RECORD: u64 = 36;
const ZEROS_RECORD: u64 = 4;
const GIB: u64 = 1 << 30;

/// The chunk size for a disk: larger for huge ones so that the index stays small.
pub fn chunk_size_for(raw_size: u64) -> u32 {
    match raw_size / GIB {
        0..=1024 => 1 << 20,
        1025..=2048 => 2 << 20,
        _ => 4 << 20,
    }
}

/// The chunk size for a disk of which `kept` is captured: [`chunk_size_for`], or larger where more is kept than an
/// index of so small chunks has room for. `None` when no chunks are large enough.
pub fn chunk_size_of(raw_size: u64, kept: &Extents) -> Option<u32> {
    let mut size = chunk_size_for(raw_size);
    while most_records(kept, u64::from(size)) > RECORDS_MOST {
        size = size.checked_mul(2).filter(|size| *size <= CHUNK_MOST)?;
    }
    Some(size)
}

/// The most bytes of records for `kept`: every chunk that it touches, and zeros before and behind each run of them.
fn most_records(kept: &Extents, chunk: u64) -> u64 {
    let (mut chunks, mut runs, mut next) = (0u64, 1u64, 0u64);
    for range in kept.iter().filter(|range| !range.is_empty()) {
        let first = (range.start / chunk).max(next);
        let end = range.end.div_ceil(chunk).max(first);
        runs += u64::from(first > next);
        chunks += end - first;
        next = end;
    }
    chunks * DATA_RECORD + runs * ZEROS_RECORD
}

/// The index of a whole image, or of one that is growing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    chunk_size: u32,
    raw_size: u64,
    zero_member: u32,
    runs: Vec<Run>,
    data: Vec<Data>,
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
            runs: Vec::new(),
            data: Vec::new(),
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
    /// What is wrong with it, for [`super::format::FormatError::Index`].
    pub fn push(&mut self, record: Record) -> Result<(), &'static str> {
        const OVERFLOW: &str = "its sizes overflow";
        let (chunks, bytes) = match record {
            Record::Zeros(0) => return Err("a run of no zero chunks"),
            Record::Zeros(count) => {
                match self.runs.last_mut() {
                    Some(Run::Zeros(held)) if u64::from(*held) + u64::from(count) < 1 << 31 => {
                        *held += count;
                    }
                    _ => {
                        self.runs.push(Run::Zeros(count));
                        self.stored += ZEROS_RECORD;
                    }
                }
                let bytes = u64::from(count) * u64::from(self.zero_member);
                (u64::from(count), bytes)
            }
            Record::Data { size: 0, .. } => return Err("a member of no bytes"),
            Record::Data { size, hash } => {
                self.data.push(Data { size, hash });
                self.stored += DATA_RECORD;
                match self.runs.last_mut() {
                    Some(Run::Data(count)) => *count += 1,
                    _ => self.runs.push(Run::Data(1)),
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
        let bound = super::codec::member_bound(usize::try_from(chunk_size).unwrap_or(usize::MAX));
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
        for run in &self.runs {
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
        let zero = zero_hash(usize::try_from(self.chunk_size).unwrap_or(0));
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
mod tests {
    use super::*;
    use crate::image::format::{
        FOOTER, FormatError, INDEX_MOST, encode_tail, members_of, parse_footer, parse_index,
    };
    use proptest::prelude::*;

    fn sample(records: &[Record], last: u64) -> Index {
        let mut index = Index::new(4096, 0, 27).unwrap();
        for record in records {
            index.push(*record).unwrap();
        }
        index.set_raw_size((index.chunks * 4096).saturating_sub(last));
        index
    }

    fn parse(tail: &[u8], offset: u64) -> Result<(Index, String), FormatError> {
        let members = tail
            .len()
            .checked_sub(FOOTER)
            .ok_or(FormatError::NoFooter)?;
        let footer = parse_footer(&tail[members..], offset + tail.len() as u64)?;
        parse_index(&tail[..members], &footer)
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
    fn chunks_grow_with_what_is_kept_until_the_index_has_room() {
        const TIB: u64 = 1 << 40;
        let full = |tib: u64| Extents::single(0..tib * TIB);
        for (tib, mib) in [(1, 1), (2, 2), (20, 4), (64, 16), (200, 32), (400, 64)] {
            let size = chunk_size_of(tib * TIB, &full(tib));
            assert_eq!(size, Some(mib << 20), "{tib} TiB");
        }
        // A disk of any size whose filesystems use little.
        assert_eq!(chunk_size_of(1024 * TIB, &full(20)), Some(4 << 20));
        assert_eq!(chunk_size_of(1024 * TIB, &full(1024)), None);
        // A block in every chunk is a record for every chunk, however little that is.
        let mut scattered = Extents::new();
        for at in 0..8_000_000u64 {
            scattered.insert(at * (4 << 20)..at * (4 << 20) + 4096);
        }
        assert_eq!(chunk_size_of(32 * TIB, &scattered), Some(8 << 20));
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

    fn record() -> impl Strategy<Value = Record> {
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
