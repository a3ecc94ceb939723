//! Directory entries: which chains they name. A file is a set of entries with a checksum (section 6.3).

use super::super::bytes::Fields;
use super::{BITMAP_ENTRY, LABEL_ENTRY, Untrusted};

const UPCASE_ENTRY: u8 = 0x82;
const FILE_ENTRY: u8 = 0x85;
const GUID_ENTRY: u8 = 0xa0;
const STREAM_ENTRY: u8 = 0xc0;
const NAME_ENTRY: u8 = 0xc1;
const IN_USE: u8 = 0x80;
/// `TypeCategory`: an entry that belongs to the one before it.
const SECONDARY: u8 = 0x40;
/// `AllocationPossible` and `NoFatChain` of `GeneralSecondaryFlags`.
const ALLOCATED: u8 = 1;
const CONTIGUOUS: u8 = 2;
const DIRECTORY: u16 = 0x10;

/// Clusters that an entry names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) first: u64,
    /// They follow one another, and the FAT says nothing of them.
    pub(super) contiguous: bool,
    /// Bytes; `None` for the root directory, which is as long as its chain.
    pub(super) length: Option<u64>,
    pub(super) directory: bool,
}

/// The entries of one directory, in their order.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// What there is so far of a set: at most 256 entries.
    set: Vec<u8>,
    /// Entries that it still lacks.
    missing: u8,
    ended: bool,
}

impl Entries {
    /// Whether nothing is behind the last entry.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes 32 bytes; answers the chains of what is complete with them.
    pub(super) fn next(&mut self, entry: &[u8]) -> Result<Vec<Chain>, Untrusted> {
        let fields = Fields(entry);
        let kind = fields.u8(0)?;
        if self.missing > 0 {
            if kind & (IN_USE | SECONDARY) != IN_USE | SECONDARY {
                return Err(torn());
            }
            self.set.extend_from_slice(entry);
            self.missing -= 1;
            return if self.missing == 0 {
                self.complete()
            } else {
                Ok(Vec::new())
            };
        }
        match kind {
            0 => self.ended = true,
            FILE_ENTRY => {
                self.set = entry.to_vec();
                self.missing = fields.u8(1)?;
                if self.missing == 0 {
                    return Err(torn());
                }
            }
            BITMAP_ENTRY | UPCASE_ENTRY => return Ok(vec![chain(fields, 0, false)?]),
            LABEL_ENTRY | GUID_ENTRY => {}
            _ if kind & IN_USE == 0 => {}
            _ => {
                return Err(Untrusted::new(format!(
                    "a directory has an entry of the unknown type {kind:#x}"
                )));
            }
        }
        Ok(Vec::new())
    }

    /// The directory ends here.
    pub(super) fn finish(&self) -> Result<(), Untrusted> {
        if self.missing > 0 {
            return Err(torn());
        }
        Ok(())
    }

    fn complete(&self) -> Result<Vec<Chain>, Untrusted> {
        let file = Fields(&self.set);
        let sum = self
            .set
            .iter()
            .enumerate()
            .filter(|(at, _)| !matches!(at, 2 | 3))
            .fold(0u16, |sum, (_, byte)| {
                sum.rotate_right(1).wrapping_add(u16::from(*byte))
            });
        if sum != file.u16(2)? || file.u8(32)? != STREAM_ENTRY {
            return Err(torn());
        }
        let directory = file.u16(4)? & DIRECTORY != 0;
        let mut chains = Vec::new();
        for entry in self.set.chunks_exact(32).skip(1) {
            let fields = Fields(entry);
            let (kind, flags) = (fields.u8(0)?, fields.u8(1)?);
            let named = fields.u32(20)? != 0 || fields.u64(24)? != 0;
            // The name's characters are where others have a cluster.
            if kind != NAME_ENTRY && flags & ALLOCATED != 0 && named {
                chains.push(chain(fields, flags, directory && kind == STREAM_ENTRY)?);
            }
        }
        Ok(chains)
    }
}

fn torn() -> Untrusted {
    Untrusted::new("a directory entry is damaged")
}

fn chain(fields: Fields<'_>, flags: u8, directory: bool) -> Result<Chain, Untrusted> {
    Ok(Chain {
        first: u64::from(fields.u32(20)?),
        contiguous: flags & CONTIGUOUS != 0,
        length: Some(fields.u64(24)?),
        directory,
    })
}
