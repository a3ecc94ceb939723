//! A set of chunks, a bit each.

/// Chunks of a disk by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    count: u64,
    bytes: Vec<u8>,
    ones: u64,
}

impl Bitmap {
    /// The empty set of numbers below `count`.
    pub fn new(count: u64) -> Self {
        Self {
            count,
            bytes: vec![0; bytes_of(count)],
            ones: 0,
        }
    }

    /// What a peer sent; `None` where it is no set of numbers below `count`.
    pub fn from_bytes(count: u64, bytes: Vec<u8>) -> Option<Self> {
        let spare = bytes_of(count) as u64 * 8 - count;
        let fits = bytes.len() == bytes_of(count)
            && bytes
                .last()
                .is_none_or(|last| u64::from(last.leading_zeros()) >= spare);
        let ones = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
        fits.then_some(Self { count, bytes, ones })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        self.ones
    }

    pub fn has(&self, number: u64) -> bool {
        self.place(number)
            .is_some_and(|(at, bit)| self.bytes[at] & bit != 0)
    }

    pub fn insert(&mut self, number: u64) {
        if let Some((at, bit)) = self.place(number)
            && self.bytes[at] & bit == 0
        {
            self.bytes[at] |= bit;
            self.ones += 1;
        }
    }

    /// Takes a number out; whether it was in.
    pub fn take(&mut self, number: u64) -> bool {
        let Some((at, bit)) = self.place(number).filter(|_| self.has(number)) else {
            return false;
        };
        self.bytes[at] &= !bit;
        self.ones -= 1;
        true
    }

    /// The least number from `from` on.
    pub fn next(&self, from: u64) -> Option<u64> {
        let mut number = from;
        while number < self.count {
            let (at, _) = self.place(number)?;
            let rest = self.bytes[at] >> (number % 8);
            if rest != 0 {
                return Some(number + u64::from(rest.trailing_zeros()));
            }
            number = (number / 8 + 1) * 8;
        }
        None
    }

    fn place(&self, number: u64) -> Option<(usize, u8)> {
        let at = usize::try_from(number / 8).ok()?;
        (number < self.count).then_some((at, 1 << (number % 8)))
    }
}

/// Bytes of a set of numbers below `count`.
pub fn bytes_of(count: u64) -> usize {
    usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(count in 1u64..200, acts in prop::collection::vec((any::<bool>(), 0u64..220), 0..60)) {
            let (mut bitmap, mut set) = (Bitmap::new(count), BTreeSet::new());
            for (insert, number) in acts {
                if insert {
                    bitmap.insert(number);
                    if number < count { set.insert(number); }
                } else {
                    prop_assert_eq!(bitmap.take(number), set.remove(&number));
                }
            }
            let mut found = BTreeSet::new();
            let mut from = 0;
            while let Some(number) = bitmap.next(from) {
                found.insert(number);
                from = number + 1;
            }
            prop_assert_eq!(&found, &set);
            prop_assert_eq!(bitmap.is_empty(), set.is_empty());
            prop_assert_eq!(Bitmap::from_bytes(count, bitmap.as_bytes().to_vec()), Some(bitmap));
        }

        #[test]
        fn what_a_peer_sends_is_a_set_or_refused(count in 0u64..100, bytes in prop::collection::vec(any::<u8>(), 0..14)) {
            let fits = bytes.len() as u64 == count.div_ceil(8);
            match Bitmap::from_bytes(count, bytes) {
                None => {}
                Some(bitmap) => {
                    prop_assert!(fits);
                    let mut from = 0;
                    while let Some(number) = bitmap.next(from) {
                        prop_assert!(number < count);
                        from = number + 1;
                    }
                }
            }
        }
    }
}
