//! Memory that direct I/O accepts.

use std::ops::{Deref, DerefMut};

/// What every device's direct I/O is content with.
pub const ALIGNMENT: usize = 4096;

/// Bytes whose address is a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// `length` zeros.
    pub fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let past = memory.as_ptr().addr() % ALIGNMENT;
        let start = if past == 0 { 0 } else { ALIGNMENT - past };
        Self {
            memory,
            start,
            length,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Whether direct I/O takes these bytes at this place.
pub fn is_aligned(bytes: &[u8], at: u64) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
        && bytes.len().is_multiple_of(ALIGNMENT)
        && at.is_multiple_of(ALIGNMENT as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_as_long_as_asked() {
        for length in [0, 1, 4096, 1 << 20] {
            let buffer = Buffer::new(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(is_aligned(&buffer, 0), length % ALIGNMENT == 0);
        }
        assert!(!is_aligned(&Buffer::new(8192)[512..4608], 0));
    }
}
