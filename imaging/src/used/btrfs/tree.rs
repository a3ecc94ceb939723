//! Walking a Btrfs tree, in order of its keys, one block of each level in memory.

use super::chunks::Chunks;
use super::superblock::{Superblock, check_crc};
use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::Fields;

/// `BTRFS_MAX_LEVEL`.
const LEVELS: u8 = 8;
const HEADER: usize = 101;
pub(super) const KEY_SIZE: usize = 17;
const ITEM_SIZE: usize = 25;
const POINTER_SIZE: usize = 33;

/// Object, type, offset: the order of a tree.
type Key = (u64, u8, u64);

/// Where a tree begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) logical: u64,
    pub(super) level: u8,
    pub(super) generation: u64,
    /// The tree's own number, which its root carries.
    pub(super) owner: u64,
}

/// One item of a leaf.
pub(super) struct Item<'a> {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
    pub(super) data: Fields<'a>,
}

/// What is called for each item.
type Each<'a> = &'a mut dyn FnMut(&Item<'_>) -> Result<(), Untrusted>;

/// Calls `each` with every item of a tree, in order.
pub(super) fn walk(
    volume: &dyn ReadAt,
    superblock: &Superblock,
    chunks: &Chunks,
    root: Root,
    each: Each<'_>,
) -> Result<(), Untrusted> {
    if root.level >= LEVELS {
        return Err(Untrusted::new("a tree is too deep"));
    }
    let mut walk = Walk {
        volume,
        superblock,
        chunks,
        owner: root.owner,
        last: None,
    };
    let place = Place {
        logical: root.logical,
        level: root.level,
        generation: root.generation,
    };
    walk.block(place, true, each)
}

pub(super) fn key_at(fields: Fields<'_>, at: usize) -> Result<Key, Untrusted> {
    Ok((fields.u64(at)?, fields.u8(at + 8)?, fields.u64(at + 9)?))
}

#[derive(Clone, Copy)]
struct Place {
    logical: u64,
    level: u8,
    generation: u64,
}

struct Walk<'a> {
    volume: &'a dyn ReadAt,
    superblock: &'a Superblock,
    chunks: &'a Chunks,
    owner: u64,
    /// Keys only ever ascend: this also ends every loop that damage could make.
    last: Option<Key>,
}

impl Walk<'_> {
    fn block(&mut self, place: Place, is_root: bool, each: Each<'_>) -> Result<(), Untrusted> {
        let block = self.read(place, is_root)?;
        let fields = Fields(&block);
        let count = usize::try_from(fields.u32(96)?).unwrap_or(usize::MAX);
        let size = if place.level == 0 {
            ITEM_SIZE
        } else {
            POINTER_SIZE
        };
        if count > (block.len() - HEADER) / size || (count == 0 && !is_root) {
            return Err(Untrusted::new("a tree block contradicts itself"));
        }
        for index in 0..count {
            let at = HEADER + index * size;
            let key = key_at(fields, at)?;
            if place.level > 0 {
                let child = Place {
                    logical: fields.u64(at + KEY_SIZE)?,
                    level: place.level - 1,
                    generation: fields.u64(at + KEY_SIZE + 8)?,
                };
                self.block(child, false, each)?;
                continue;
            }
            if self.last.is_some_and(|last| last >= key) {
                return Err(Untrusted::new("the keys of a tree do not ascend"));
            }
            self.last = Some(key);
            let offset = usize::try_from(fields.u32(at + KEY_SIZE)?).unwrap_or(usize::MAX);
            let length = usize::try_from(fields.u32(at + KEY_SIZE + 4)?).unwrap_or(usize::MAX);
            let data = fields.slice(offset.saturating_add(HEADER), length)?;
            each(&Item {
                object: key.0,
                kind: key.1,
                offset: key.2,
                data: Fields(data),
            })?;
        }
        Ok(())
    }

    fn read(&mut self, place: Place, is_root: bool) -> Result<Vec<u8>, Untrusted> {
        let length = self.superblock.node_size;
        let at = self
            .chunks
            .locate(place.logical, length)
            .and_then(|(_, mut copies)| copies.next())
            .ok_or_else(|| Untrusted::new("a tree block is in no chunk"))?;
        let length = usize::try_from(length).map_err(|_| Untrusted::new("blocks too large"))?;
        let block = self.volume.bytes_at(at, length)?;
        check_crc(&block, "tree block")?;
        let fields = Fields(&block);
        let in_place = fields.slice(32, 16)? == self.superblock.fsid
            && fields.u64(48)? == place.logical
            && fields.u64(80)? == place.generation
            && fields.u8(100)? == place.level
            && (!is_root || fields.u64(88)? == self.owner);
        if !in_place {
            return Err(Untrusted::new("a tree block is not the one that was meant"));
        }
        Ok(block)
    }
}
