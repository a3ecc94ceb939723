//! Finding a chunk by its number, and fetching it alone.
//!
//! An index is walked from its beginning, so that the walk is marked every [`MARK_EVERY`] stretches: a look-up begins at
//! the last mark before the chunk.

use super::ImageSource;
use super::codec::Inflater;
use super::index::{Chunk, Index, Item, Mark};
use super::proof::inflate_chunk;
use anyhow::Context;

/// A mark for so many stretches of the index: what a look-up walks at most.
const MARK_EVERY: usize = 64;

/// The raw bytes of a chunk, proven.
pub fn fetch(image: &dyn ImageSource, index: &Index, chunk: &Chunk) -> anyhow::Result<Vec<u8>> {
    let place = || index.place(chunk, image.name());
    let mut member = vec![0; usize::try_from(chunk.size)?];
    let mut raw = vec![0; index.length(chunk.number)];
    let mut inflater = Inflater::new()?;
    loop {
        image
            .read_exact_at(&mut member, chunk.offset)
            .with_context(place)?;
        match inflate_chunk(&mut inflater, chunk, &member, &mut raw) {
            Ok(()) => return Ok(raw),
            Err(_) if image.came_wrong(chunk.bytes()) => {}
            Err(error) => return Err(error).with_context(place),
        }
    }
}

/// Places to begin a walk of `index` at.
pub fn marks(index: &Index) -> Vec<Mark> {
    let mut items = index.items();
    let mut marks = Vec::new();
    loop {
        let mark = items.mark();
        if items.nth(MARK_EVERY - 1).is_none() {
            marks.push(mark);
            return marks;
        }
        marks.push(mark);
    }
}

/// Chunk `number`; `None` where it is one of a run of zeros.
pub fn find(index: &Index, marks: &[Mark], number: u64) -> Option<Chunk> {
    let behind = marks.partition_point(|mark| mark.chunk() <= number);
    let mark = marks.get(behind.checked_sub(1)?)?;
    let stretch = index.items_from(*mark).find(|item| match item {
        Item::Chunk(chunk) => chunk.number >= number,
        Item::Zeros { first, count, .. } => first + count > number,
    });
    match stretch {
        Some(Item::Chunk(chunk)) => Some(chunk),
        Some(Item::Zeros { .. }) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn every_chunk_of_a_long_index_is_found(
            runs in prop::collection::vec((any::<bool>(), 1u32..70), 1..30),
            last in any::<bool>(),
        ) {
            use crate::image::index::Record;
            let mut index = Index::new(4096, 0, 27).unwrap();
            let mut expected = Vec::new();
            for (zeros, count) in runs.into_iter().chain([(!last, 1)]) {
                if zeros {
                    index.push(Record::Zeros(count)).unwrap();
                    expected.extend((0..count).map(|_| false));
                } else {
                    for size in 1..=count {
                        index.push(Record::Data { size, hash: [0; 32] }).unwrap();
                        expected.push(true);
                    }
                }
            }
            let all: Vec<Chunk> = index.items().filter_map(|item| match item {
                Item::Chunk(chunk) => Some(chunk),
                Item::Zeros { .. } => None,
            }).collect();
            let marks = marks(&index);
            let mut data = all.iter();
            for (number, has_data) in expected.iter().enumerate() {
                let found = find(&index, &marks, number as u64);
                prop_assert_eq!(found, if *has_data { data.next().copied() } else { None });
            }
            prop_assert_eq!(find(&index, &marks, expected.len() as u64), None);
        }
    }
}
