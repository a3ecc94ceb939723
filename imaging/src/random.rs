//! What must be no other machine's: identifiers, by the kernel's random bytes. Many equal machines that do the same
//! thing in the same second still get different ones.

use std::io;
use uuid::{Builder, Uuid};

/// Fills `buffer` with bytes that nobody can foresee.
///
/// # Errors
/// When the kernel has none to give.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    getrandom::fill(buffer).map_err(|error| io::Error::other(format!("random bytes: {error}")))
}

/// A GUID of version 4 (RFC 9562 5.4).
///
/// # Errors
/// As [`fill`].
pub fn guid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}

/// The signature of an MBR, which is never 0: that stands for none.
///
/// # Errors
/// As [`fill`].
pub fn signature() -> io::Result<u32> {
    loop {
        let mut bytes = [0; 4];
        fill(&mut bytes)?;
        let signature = u32::from_le_bytes(bytes);
        if signature != 0 {
            return Ok(signature);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn identifiers_are_of_their_kind_and_no_two_are_the_same() {
        let guids: HashSet<Uuid> = (0..1000).map(|_| guid().unwrap()).collect();
        assert_eq!(guids.len(), 1000);
        assert!(guids.iter().all(|guid| guid.get_version_num() == 4));
        let signatures: HashSet<u32> = (0..100).map(|_| signature().unwrap()).collect();
        assert!(signatures.len() > 98 && !signatures.contains(&0));
    }
}
