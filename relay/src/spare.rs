//! Buffers that come back: fresh memory for each member costs more than what is done with it.

use crate::lock;
use std::sync::Mutex;

/// More are not kept: so many are on their way at once.
const MOST: usize = 8;

#[derive(Default)]
pub struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// A buffer of this length with anything in it. It takes at most twice the memory: the window counts what its buffers take,
    /// and with large ones for small members it would hold few.
    pub fn take(&self, length: usize) -> Vec<u8> {
        let fits =
            |buffer: &Vec<u8>| (length..=length.saturating_mul(2)).contains(&buffer.capacity());
        let found = {
            let mut spare = lock(&self.0);
            let at = spare.iter().position(fits);
            at.map(|at| spare.swap_remove(at))
        };
        // Fresh memory is zeros from the kernel: nothing is written into it before the member is.
        let Some(mut buffer) = found else {
            return vec![0; length];
        };
        buffer.resize(length, 0);
        buffer
    }

    /// Those that came last are kept: they fit what comes next.
    pub fn give(&self, buffers: impl IntoIterator<Item = Vec<u8>>) {
        let mut spare = lock(&self.0);
        spare.extend(buffers);
        let too_many = spare.len().saturating_sub(MOST);
        spare.drain(..too_many);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_where_it_fits_and_only_there() {
        let spare = Spare::default();
        spare.give([vec![7; 100]]);
        // Too large for it, and too small.
        assert_eq!(spare.take(49), [0_u8; 49]);
        assert_eq!(spare.take(101), [0_u8; 101]);
        let taken = spare.take(60);
        assert_eq!((taken.len(), taken.capacity()), (60, 100));
        // What is longer than what was in it last has the same memory.
        spare.give([taken]);
        let taken = spare.take(90);
        assert_eq!((taken.len(), taken.capacity()), (90, 100));
        assert_eq!(spare.take(90).capacity(), 90);
    }

    #[test]
    fn those_that_came_last_are_kept() {
        let spare = Spare::default();
        spare.give((1..=20).map(|number| vec![0; number * 100]));
        assert_eq!(lock(&spare.0).len(), MOST);
        assert_eq!(spare.take(2000).capacity(), 2000);
    }
}
