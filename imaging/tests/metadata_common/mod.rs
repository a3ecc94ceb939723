//! Metadata of what there is no driver for here, written by hand as its own tools would.

#![allow(
    dead_code,
    reason = "each test file that includes this uses a part of it"
)]

const MD_MAGIC: u32 = 0xa92b_4efc;

/// A mirror's superblock of md 1.x at this sector.
pub fn md_1(sector: u64) -> Vec<u8> {
    md_1_of(1, sector)
}

/// A mirror's superblock of md 0.90.
pub fn md_0() -> Vec<u8> {
    md_0_of(1)
}

/// A superblock of md 1.0, 1.1 or 1.2 (Linux `md_p.h`), which says of itself that it is `sector` sectors in;
/// its array has this level.
pub fn md_1_of(level: u32, sector: u64) -> Vec<u8> {
    let mut block = vec![0; 4096];
    block[0..4].copy_from_slice(&MD_MAGIC.to_le_bytes());
    block[4..8].copy_from_slice(&1u32.to_le_bytes());
    block[16..32].fill(0x11);
    block[72..76].copy_from_slice(&level.to_le_bytes());
    block[80..88].copy_from_slice(&100_000u64.to_le_bytes());
    block[92..96].copy_from_slice(&2u32.to_le_bytes());
    block[144..152].copy_from_slice(&sector.to_le_bytes());
    block[220..224].copy_from_slice(&2u32.to_le_bytes());
    let sum = word_sum(&block[..256 + 4]);
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    block
}

/// A superblock of md 0.90, of an array of this level.
pub fn md_0_of(level: u32) -> Vec<u8> {
    let mut block = vec![0; 4096];
    for (word, value) in [
        (0, MD_MAGIC),
        (1, 0),
        (2, 90),
        (5, 0x1234),
        (7, level),
        (8, 1000),
        (9, 2),
    ] {
        block[word * 4..word * 4 + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    let sum = word_sum(&block);
    block[38 * 4..39 * 4].copy_from_slice(&sum.to_le_bytes());
    block
}

fn word_sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|word| {
        let mut whole = [0; 4];
        whole[..word.len()].copy_from_slice(word);
        u64::from(u32::from_le_bytes(whole))
    });
    let sum: u64 = words.sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    u32::try_from(folded & 0xffff_ffff).unwrap()
}

/// One of the four labels of ZFS: its ring of uberblocks.
pub fn zfs_label() -> Vec<u8> {
    let mut label = vec![0; 256 << 10];
    for slot in (128 << 10..256 << 10).step_by(1024) {
        label[slot..slot + 8].copy_from_slice(&0x00ba_b10c_u64.to_le_bytes());
        label[slot + 8..slot + 16].copy_from_slice(&5000u64.to_le_bytes());
    }
    label
}

/// The boot sector of a BitLocker To Go.
pub fn bitlocker_to_go() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..11].copy_from_slice(b"\xeb\x58\x90MSWIN4.1");
    sector[424..440]
        .copy_from_slice(b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// The superblock of a UFS2, as far as it is recognised.
pub fn ufs_2() -> Vec<u8> {
    let mut block = vec![0; 2048];
    block[1372..1376].copy_from_slice(&0x1954_0119_u32.to_le_bytes());
    block
}
