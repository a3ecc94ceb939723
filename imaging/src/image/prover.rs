//! Proof of single members, for who has no index: what they inflate to has the hash that somebody says.

use super::codec::{Inflater, MemberError};
use super::index::CHUNK_MOST;
use super::member_header::{TRAILER, u32_at};

/// Inflates members to look what is in them.
pub struct Prover {
    inflater: Inflater,
    raw: Vec<u8>,
}

impl Prover {
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            inflater: Inflater::new()?,
            raw: Vec::new(),
        })
    }

    /// The bytes that `member` says it inflates to, and that [`prove`](Self::prove) keeps room for; `None` of what is none.
    pub fn raw_size(member: &[u8]) -> Option<usize> {
        let at = member.len().checked_sub(TRAILER)?;
        let said = u32_at(member, at + 4)?;
        (said <= CHUNK_MOST).then_some(usize::try_from(said).ok()?)
    }

    /// Proves that `member` is one whole member and that the BLAKE3 of what it inflates to is `hash`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prove(&mut self, member: &[u8], hash: &[u8; 32]) -> Result<(), MemberError> {
        let size = Self::raw_size(member).ok_or(MemberError::Header)?;
        if self.raw.len() < size {
            self.raw.resize(size, 0);
        }
        let raw = &mut self.raw[..size];
        self.inflater.member(member, raw)?;
        if blake3::hash(raw).as_bytes() != hash {
            return Err(MemberError::Hash);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::codec::{Deflater, member_bound};
    use crate::image::effort::Method;
    use proptest::prelude::*;

    fn member(raw: &[u8]) -> Vec<u8> {
        let mut member = vec![0; member_bound(raw.len())];
        let size = Deflater::default().member(Method::Isal(1), raw, &mut member);
        member.truncate(size);
        member
    }

    #[test]
    fn a_member_of_other_bytes_is_told_from_the_right_one() {
        let mut prover = Prover::new().unwrap();
        let right = member(&b"right".repeat(1000));
        let hash = *blake3::hash(&b"right".repeat(1000)).as_bytes();
        assert_eq!(prover.prove(&right, &hash), Ok(()));
        // Whole and sound, and another chunk's.
        let other = member(&b"wrong".repeat(1000));
        assert_eq!(prover.prove(&other, &hash), Err(MemberError::Hash));
        assert_eq!(prover.prove(&right, &hash), Ok(()));
        assert_eq!(prover.prove(&[], &hash), Err(MemberError::Header));
    }

    proptest! {
        #[test]
        fn any_change_is_found(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let raw = b"pitstop".repeat(700);
            let hash = *blake3::hash(&raw).as_bytes();
            let mut member = member(&raw);
            let at = at.index(member.len());
            member[at] ^= 1 << bit;
            let mut prover = Prover::new().unwrap();
            // Bits without a meaning may change; the content never does.
            if prover.prove(&member, &hash).is_ok() {
                let mut back = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&member[..]);
                std::io::Read::read_to_end(&mut decoder, &mut back).unwrap();
                prop_assert!(back == raw);
            }
        }

        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Prover::new().unwrap().prove(&bytes, &[0; 32]).is_err());
        }
    }
}
