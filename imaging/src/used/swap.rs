//! Linux swap space: only the page with the header matters between boots, unless the machine
//! hibernated into it.

use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;

/// Page sizes of the architectures that Linux runs on; the signature ends the first page.
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
const SIGNATURES: [&[u8; 10]; 2] = [b"SWAPSPACE2", b"SWAP-SPACE"];
/// What the kernel and uswsusp put in the signature's place while an image of memory is there.
const HIBERNATED: [&[u8]; 5] = [
    b"S1SUSPEND",
    b"S2SUSPEND",
    b"ULSUSPEND",
    b"LINHIB0001",
    b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c",
];
/// `struct swap_header`'s version and last page, behind 1024 bytes for a boot loader.
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;

fn signature(volume: &dyn ReadAt) -> Option<(u64, Vec<u8>)> {
    PAGE_SIZES.iter().find_map(|page| {
        let found = volume.bytes_at(page - 10, 10).ok()?;
        let known = SIGNATURES.iter().any(|s| found == *s)
            || HIBERNATED.iter().any(|s| found.starts_with(s));
        known.then_some((*page, found))
    })
}

/// What Linux swap space holds while nobody swaps to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Nothing that anybody needs.
    Free,
    /// The memory of a machine that hibernated.
    Hibernated,
}

/// Whether `volume` is swap space, of the version that every kernel of this century makes, or has a machine's memory in it.
#[must_use]
pub fn swap(volume: &dyn ReadAt) -> Option<Swap> {
    let (_, found) = signature(volume)?;
    if HIBERNATED.iter().any(|s| found.starts_with(s)) {
        return Some(Swap::Hibernated);
    }
    (found == *SIGNATURES[0]).then_some(Swap::Free)
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let header = volume.bytes_at(0, 4096)?;
    let fields = Fields(&header);
    Ok(Label {
        uuid: fields.uuid(1036)?,
        label: fields.text(1052, 16)?,
    })
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let (page, found) = signature(volume).ok_or_else(|| Untrusted::new("the signature is gone"))?;
    if HIBERNATED.iter().any(|s| found.starts_with(s)) {
        return Err(Untrusted::new(
            "the machine hibernated into this swap space",
        ));
    }
    if found != *SIGNATURES[0] {
        return Err(Untrusted::new("it is swap space of the old version 0"));
    }
    let header = volume.bytes_at(0, 4096)?;
    let fields = Fields(&header);
    if fields.u32(VERSION)? != 1 {
        return Err(Untrusted::new("its header has an unknown version"));
    }
    let end = (u64::from(fields.u32(LAST_PAGE)?) + 1) * page;
    if end > volume.size() {
        return Err(Untrusted::new("it says it is larger than the partition"));
    }
    let mut keep = RangeCollector::new();
    keep.add(0..page);
    keep.add(end..volume.size());
    Ok(keep.finish(volume.size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use std::io::Cursor;

    fn space(signature: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xaa; 65536];
        bytes[VERSION..VERSION + 4].copy_from_slice(&1u32.to_le_bytes());
        bytes[LAST_PAGE..LAST_PAGE + 4].copy_from_slice(&14u32.to_le_bytes());
        bytes[4086..4086 + signature.len()].copy_from_slice(signature);
        bytes
    }

    fn map_of(bytes: Vec<u8>) -> Result<Extents, Untrusted> {
        let size = u64::try_from(bytes.len()).unwrap();
        map(&Disk::new(&mut Cursor::new(bytes), size))
    }

    #[test]
    fn only_the_header_page_and_what_is_behind_the_space_are_kept() {
        let kept: Vec<_> = map_of(space(b"SWAPSPACE2")).unwrap().iter().collect();
        assert_eq!(kept, [0..4096, 61440..65536]);
    }

    #[test]
    fn a_hibernated_machine_keeps_every_block() {
        assert_eq!(
            map_of(space(b"S1SUSPEND\0")).unwrap_err().to_string(),
            "the machine hibernated into this swap space"
        );
    }

    #[test]
    fn a_size_that_does_not_fit_is_a_doubt() {
        let mut bytes = space(b"SWAPSPACE2");
        bytes[LAST_PAGE] = 16;
        assert_eq!(
            map_of(bytes).unwrap_err().to_string(),
            "it says it is larger than the partition"
        );
    }

    #[test]
    fn swap_that_holds_a_machines_memory_is_told_from_free_one() {
        let of = |signature: &[u8]| {
            let bytes = space(signature);
            let size = bytes.len() as u64;
            super::swap(&Disk::new(&mut Cursor::new(bytes), size))
        };
        assert_eq!(of(b"SWAPSPACE2"), Some(Swap::Free));
        for hibernated in HIBERNATED {
            assert_eq!(of(hibernated), Some(Swap::Hibernated));
        }
        // Of the old version: nobody knows how large it is.
        assert_eq!(of(b"SWAP-SPACE"), None);
        assert_eq!(of(b"nothing"), None);
    }
}
