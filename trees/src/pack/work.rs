//! What there is to do, a piece a ticket: runs of small entries, and parts of large files.

use super::parts::{Large, Part};
use super::{GROUP, PART, Source};
use crate::header::padded;
use pitstop_imaging::image::members::lock;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What an entry takes beside its data, as a guess that decides where groups end: most have a pax header.
const HEADERS: u64 = 1536;

/// A group ends before it is larger than this, or at a folder that begins when it has so much. What is installed together lies in
/// folders, and changes together: an update then reads less of what did not change than with full groups, and the image is a little
/// larger.
const ENOUGH: u64 = 128 << 10;
const ENOUGH_FOR_FOLDER: u64 = 64 << 10;

pub enum Work {
    /// Entries by their numbers.
    Group(Range<usize>),
    Part(Part),
}

/// Deals out work in the order of the tree.
pub struct Queue<'a> {
    source: &'a dyn Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: usize,
    ticket: u64,
    /// The file of which parts are left.
    large: Option<(Arc<Large>, u64)>,
}

impl<'a> Queue<'a> {
    pub fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            state: Mutex::default(),
        }
    }

    /// The next piece with its ticket; `None` at the end.
    pub fn next(&self) -> anyhow::Result<Option<(u64, Work)>> {
        let mut state = lock(&self.state);
        let work = self.take(&mut state)?;
        Ok(work.map(|work| {
            state.ticket += 1;
            (state.ticket - 1, work)
        }))
    }

    fn take(&self, state: &mut State) -> anyhow::Result<Option<Work>> {
        if let Some((file, number)) = state.large.take() {
            if number + 1 < file.parts {
                state.large = Some((Arc::clone(&file), number + 1));
            }
            return Ok(Some(Work::Part(Part { file, number })));
        }
        let first = state.next;
        if first >= self.source.count() {
            return Ok(None);
        }
        if !self.is_large(first) {
            state.next = self.group_from(first);
            return Ok(Some(Work::Group(first..state.next)));
        }
        state.next += 1;
        let Some(found) = self.source.read(first)? else {
            // It is gone: a group of nothing keeps the tickets without gaps.
            return Ok(Some(Work::Group(first..first)));
        };
        let file = Arc::new(Large::new(found));
        if file.parts > 1 {
            state.large = Some((Arc::clone(&file), 1));
        }
        Ok(Some(Work::Part(Part { file, number: 0 })))
    }

    fn is_large(&self, number: usize) -> bool {
        self.source.size(number) + HEADERS > GROUP as u64
    }

    fn group_from(&self, first: usize) -> usize {
        let mut size = 0;
        let mut next = first;
        while next < self.source.count() && !self.is_large(next) {
            let ends = size >= ENOUGH_FOR_FOLDER && self.source.is_folder(next);
            size += HEADERS + padded(self.source.size(next));
            if next > first && (ends || size > ENOUGH) {
                break;
            }
            next += 1;
        }
        next
    }
}

/// How many parts so much data has. A file that shrank to nothing still has its header.
pub fn parts_of(stored: u64) -> u64 {
    stored.div_ceil(PART).max(1)
}
