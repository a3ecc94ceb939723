//! The other fields of formats whose signature is too short to be trusted alone: user data has those two bytes now and
//! then. Each gets the place where the signature was found.

use super::edges::Edges;

/// A field of `N` bytes, zeros where the volume ends before it.
fn le<const N: usize>(edges: &mut Edges<'_>, at: u64) -> u64 {
    let bytes: [u8; N] = edges.get(at).unwrap_or([0; N]);
    bytes
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn be<const N: usize>(edges: &mut Edges<'_>, at: u64) -> u64 {
    let bytes: [u8; N] = edges.get(at).unwrap_or([0; N]);
    bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// ext2-4 (Linux `ext4.h`): one of `s_state`, `s_errors` and `s_log_block_size` in its bounds is enough, so that a damaged
/// one still counts as somebody's.
pub fn ext(edges: &mut Edges<'_>, at: u64) -> bool {
    let superblock = at - 0x38;
    le::<2>(edges, superblock + 0x3a) <= 7
        || le::<2>(edges, superblock + 0x3c) <= 3
        || le::<4>(edges, superblock + 0x18) <= 6
}

/// md 1.x (Linux `md_p.h`): `super_offset` says where it is, in sectors. One that lies elsewhere is of another volume, as
/// the last partition's is for the disk.
pub fn md_1(edges: &mut Edges<'_>, at: u64) -> bool {
    le::<4>(edges, at + 4) != 1 || le::<8>(edges, at + 144).checked_mul(512) == Some(at)
}

/// LUKS2's second header knows its own place (`hdr_offset`).
pub fn luks_second(edges: &mut Edges<'_>, at: u64) -> bool {
    be::<8>(edges, at + 256) == at
}

/// LVM2: the label of a physical volume, behind its own magic.
pub fn lvm2(edges: &mut Edges<'_>, at: u64) -> bool {
    edges.has(at + 24, b"LVM2 001")
}

/// LVM1: two letters and a version.
pub fn lvm1(edges: &mut Edges<'_>, at: u64) -> bool {
    matches!(le::<2>(edges, at + 2), 1 | 2)
}

/// HFS: `drNmAlBlks`, and `drAlBlkSiz` in whole sectors.
pub fn hfs(edges: &mut Edges<'_>, at: u64) -> bool {
    let block = be::<4>(edges, at + 20);
    be::<2>(edges, at + 18) > 0 && block > 0 && block.is_multiple_of(512)
}

/// MINIX 1 and 2: as many blocks of the inodes' bitmap as there are inodes, zones of one block. `at` is the magic's.
pub fn minix_le(edges: &mut Edges<'_>, at: u64) -> bool {
    let field = |edges: &mut Edges<'_>, offset| le::<2>(edges, at - 16 + offset);
    minix(edges, field)
}

pub fn minix_be(edges: &mut Edges<'_>, at: u64) -> bool {
    let field = |edges: &mut Edges<'_>, offset| be::<2>(edges, at - 16 + offset);
    minix(edges, field)
}

fn minix(edges: &mut Edges<'_>, field: impl Fn(&mut Edges<'_>, u64) -> u64) -> bool {
    let inodes = field(edges, 0);
    let bitmap = field(edges, 4);
    inodes > 0
        && bitmap == (inodes + 1).div_ceil(8192)
        && field(edges, 6) > 0
        && field(edges, 10) == 0
}

/// MINIX 3: the same with 32 bits, and a block size.
pub fn minix_3(edges: &mut Edges<'_>, at: u64) -> bool {
    let superblock = at - 24;
    let block = le::<2>(edges, superblock + 28);
    let inodes = le::<4>(edges, superblock);
    block >= 1024
        && block.is_power_of_two()
        && inodes > 0
        && le::<2>(edges, superblock + 6) == (inodes + 1).div_ceil(block * 8)
        && le::<2>(edges, superblock + 12) == 0
}

/// nilfs2: its CRC32, which begins with a seed of its own. `at` is the magic's.
pub fn nilfs(edges: &mut Edges<'_>, at: u64) -> bool {
    const SUM: usize = 16;
    let superblock = at - 6;
    let length = usize::try_from(le::<2>(edges, superblock + 8)).unwrap_or(0);
    if !(SUM + 4..=1024).contains(&length) {
        return false;
    }
    let Some(mut bytes) = edges.take(superblock, length) else {
        return false;
    };
    let seed = le::<4>(edges, superblock + 12);
    let sum = le::<4>(edges, superblock + 16);
    bytes[SUM..SUM + 4].fill(0);
    u64::from(crc32(u32::try_from(seed).unwrap_or(0), &bytes)) == sum
}

/// CRC32 as Linux's `crc32_le` has it: any start, nothing inverted.
pub(super) fn crc32(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let low = sum & 1;
            (sum >> 1) ^ (0xedb8_8320 * low)
        })
    })
}

/// `FileVault` 2: version, type of the block and kind of checksum. `at` is the magic's.
pub fn filevault(edges: &mut Edges<'_>, at: u64) -> bool {
    let header = at - 88;
    le::<2>(edges, header + 8) == 1 && le::<2>(edges, header + 10) == 0x10
}

/// VIA: a version, and the sum of the first fifty bytes.
pub fn via(edges: &mut Edges<'_>, at: u64) -> bool {
    let Some(bytes) = edges.get::<51>(at) else {
        return false;
    };
    let [fields @ .., sum] = bytes;
    bytes[2] <= 2 && fields.iter().fold(0u8, |all, byte| all.wrapping_add(*byte)) == sum
}

/// `JMicron`: its 64 words come to nothing, and a known mode.
pub fn jmicron(edges: &mut Edges<'_>, at: u64) -> bool {
    let sum = (0..64).fold(0u16, |all, word| {
        let word = le::<2>(edges, at + 2 * word);
        all.wrapping_add(u16::try_from(word).unwrap_or(0))
    });
    matches!(sum, 0 | 1) && le::<1>(edges, at + 0x30) <= 5
}

/// Silicon Image: its sum, and one of eight disks. `at` is the magic's.
pub fn silicon(edges: &mut Edges<'_>, at: u64) -> bool {
    let header = at - 0x60;
    let sum = (0..0x9f).fold(0u16, |all, word| {
        let word = le::<2>(edges, header + 2 * word);
        all.wrapping_add(u16::try_from(word).unwrap_or(0))
    });
    le::<1>(edges, header + 0x116) < 8
        && u64::from(sum.wrapping_neg()) == le::<2>(edges, header + 0x13e)
}

/// Adaptec: a second magic further on.
pub fn adaptec(edges: &mut Edges<'_>, at: u64) -> bool {
    edges.has(at + 0x100, b"DPTM")
}

/// A BSD label has its magic twice.
pub fn bsd_label(edges: &mut Edges<'_>, at: u64) -> bool {
    le::<4>(edges, at + 132) == 0x8256_4557
}

/// A Sun label: its words XOR to nothing. `at` is the magic's.
pub fn sun_label(edges: &mut Edges<'_>, at: u64) -> bool {
    let start = at - 508;
    (0..256).fold(0, |all, word| all ^ be::<2>(edges, start + 2 * word)) == 0
}

/// An Apple map: its first entry is where the blocks say.
pub fn apple_map(edges: &mut Edges<'_>, at: u64) -> bool {
    let block = be::<2>(edges, at + 2);
    matches!(block, 512 | 1024 | 2048 | 4096) && edges.has(at + block, b"PM")
}

/// `BeFS`: its second magic, in either order.
pub fn befs(edges: &mut Edges<'_>, at: u64) -> bool {
    let second = at + 36;
    matches!(le::<4>(edges, second), 0xdd12_1031) || be::<4>(edges, second) == 0xdd12_1031
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_usual_one_where_it_begins_and_ends_so() {
        // RFC 1952 8 inverts at both ends; its check value.
        assert_eq!(!crc32(!0, b"123456789"), 0xcbf4_3926);
    }
}
