//! Puts the checksums of changed metadata right, so that a fuzzer gets behind them. Only what begins a
//! block with a magic number is found; all else stays as it is.

use crate::Sparse;

/// Of XFS version 5: magic, bytes covered, place of the CRC32C.
const XFS: &[(&[u8], usize, usize)] = &[
    (b"XFSB", 512, 224),
    (b"XAGF", 512, 216),
    (b"XAGI", 512, 312),
    (b"AB3B", 4096, 52),
    (b"AB3C", 4096, 52),
];
const BTRFS_MAGIC: &[u8] = b"_BHRfS_M";
const BTRFS_SUPER: usize = 4096;
const BTRFS_NODE: usize = 16384;

pub fn correct(disk: &mut Sparse) {
    gpt(disk);
    xfs(disk);
    btrfs(disk);
    f2fs(disk);
}

fn xfs(disk: &mut Sparse) {
    for number in disk.numbers() {
        let start = disk.get(number, 512);
        for (magic, length, place) in XFS {
            if start.starts_with(magic) {
                disk.patch(number, *place, &[0; 4]);
                let sum = crc32c::crc32c(&disk.get(number, *length));
                disk.patch(number, *place, &sum.to_le_bytes());
            }
        }
    }
}

fn btrfs(disk: &mut Sparse) {
    let Some(first) = disk.numbers().into_iter().find(|number| is_btrfs(disk, *number)) else {
        return;
    };
    let id = disk.get(first, 512)[32..48].to_vec();
    for number in disk.numbers() {
        let start = disk.get(number, 512);
        if start[32..48] != id {
            continue;
        }
        let length = if is_btrfs(disk, number) { BTRFS_SUPER } else { BTRFS_NODE };
        let sum = crc32c::crc32c(&disk.get(number, length)[32..]);
        disk.patch(number, 0, &sum.to_le_bytes());
    }
}

fn is_btrfs(disk: &Sparse, number: u64) -> bool {
    disk.get(number, 512)[64..72] == *BTRFS_MAGIC
}

/// F2FS: each checkpoint pack begins and ends with the same sort of block (`struct f2fs_checkpoint`).
fn f2fs(disk: &mut Sparse) {
    let superblock = disk.get(2, 512);
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    if word(&superblock, 0) != 0xf2f5_2010 {
        return;
    }
    let start = u64::from(word(&superblock, 76)) * 8;
    for pack in [start, start + 512 * 8] {
        let head = disk.get(pack, 512);
        let last = u64::from(word(&head, 136)).saturating_sub(1) * 8;
        for number in [pack, pack + last] {
            let block = disk.get(number, 4096);
            let place = word(&block, 164) as usize;
            if place % 4 != 0 || place > 4092 {
                continue;
            }
            // The CRC of the kernel: seeded with the magic, not inverted at the end.
            let sum = !crc32fast::Hasher::new_with_initial(!0xf2f5_2010).finalize_of(&block[..place]);
            disk.patch(number + (place / 512) as u64, place % 512, &sum.to_le_bytes());
        }
    }
}

trait FinalizeOf {
    fn finalize_of(self, bytes: &[u8]) -> u32;
}

impl FinalizeOf for crc32fast::Hasher {
    fn finalize_of(mut self, bytes: &[u8]) -> u32 {
        self.update(bytes);
        self.finalize()
    }
}

/// UEFI 2.10 5.3.2: the entries' sum, then the header's over itself with that field zero.
fn gpt(disk: &mut Sparse) {
    let sector = u64::from(disk.logical_sector) / 512;
    for number in disk.numbers() {
        let header = disk.get(number, 512);
        if !header.starts_with(b"EFI PART") {
            continue;
        }
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (count, each, at) = (word(80), word(84), u64::from(word(72)) * sector);
        let length = (count as usize).saturating_mul(each as usize);
        if length <= 1 << 20 {
            let sum = crc32fast::hash(&disk.get(at, length));
            disk.patch(number, 88, &sum.to_le_bytes());
        }
        disk.patch(number, 16, &[0; 4]);
        let length = (word(12) as usize).min(512);
        let sum = crc32fast::hash(&disk.get(number, length));
        disk.patch(number, 16, &sum.to_le_bytes());
    }
}
