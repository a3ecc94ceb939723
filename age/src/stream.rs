//! What follows the header: a nonce, then chunks of 64 KiB, each sealed with its number and whether it is the last (STREAM).

use crate::crypto::{Sealing, TAG};
use ring::error::Unspecified;

/// Bytes of a chunk; the last one may be shorter.
pub const CHUNK: usize = 64 << 10;
/// The same as it is in the file.
pub const SEALED: usize = CHUNK + TAG;
/// Bytes before the first chunk.
pub const NONCE: usize = 16;

/// The chunks of one file.
pub struct Stream(Sealing);

impl Stream {
    pub fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        Sealing::new(key).map(Self)
    }

    pub fn seal(&self, number: u64, is_last: bool, chunk: &mut Vec<u8>) -> Result<(), Unspecified> {
        self.0.seal(nonce(number, is_last), chunk)
    }

    /// # Errors
    /// It is another chunk, or not the last one where that is meant.
    pub fn open<'a>(
        &self,
        number: u64,
        is_last: bool,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unspecified> {
        self.0.open(nonce(number, is_last), sealed)
    }
}

/// Eleven bytes of the chunk's number, the highest first, and one that says whether it is the last.
fn nonce(number: u64, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

/// How the chunks of a file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Sealed bytes, of all.
    sealed: u64,
    pub count: u64,
}

impl Chunks {
    /// Of `sealed` bytes; `None` where no chunks come to that many.
    pub fn of(sealed: u64) -> Option<Self> {
        let count = sealed.div_ceil(SEALED as u64);
        let chunks = Self { sealed, count };
        let last = sealed.checked_sub(count.checked_sub(1)? * SEALED as u64)?;
        // The last one has something in it, unless it is the only one.
        let is_right = last > TAG as u64 || (last == TAG as u64 && count == 1);
        is_right.then_some(chunks)
    }

    /// Bytes that are sealed in them.
    pub fn size(self) -> u64 {
        self.sealed - self.count * TAG as u64
    }

    pub fn is_last(self, number: u64) -> bool {
        number + 1 == self.count
    }

    /// Where chunk `number` begins among the sealed bytes, and how many it has.
    pub fn place(self, number: u64) -> (u64, usize) {
        let at = number * SEALED as u64;
        let length = self.sealed.saturating_sub(at).min(SEALED as u64);
        (at, usize::try_from(length).unwrap_or(SEALED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_chunks_or_of_no_file() {
        let size = |sealed| Chunks::of(sealed).map(Chunks::size);
        assert_eq!(size(0), None);
        assert_eq!(size(15), None);
        assert_eq!(size(16), Some(0));
        assert_eq!(size(17), Some(1));
        assert_eq!(size(65_552), Some(65_536));
        // A second chunk with nothing in it.
        assert_eq!(size(65_552 + 16), None);
        assert_eq!(size(65_552 + 17), Some(65_537));
        let two = Chunks::of(65_552 + 17).unwrap();
        assert_eq!((two.place(0), two.place(1)), ((0, 65_552), (65_552, 17)));
        assert!(two.is_last(1) && !two.is_last(0));
    }
}
