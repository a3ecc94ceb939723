//! Each signature at each of its places, and none where there is noise.

use super::signatures::{SIGNATURES, Signature};
use super::*;
use crate::source::Disk;
use crate::source::ReadAt;
use proptest::prelude::*;
use std::io::Cursor;

const SIZE: u64 = 8 << 20;

fn claims(bytes: &[u8]) -> Claims {
    let mut cursor = Cursor::new(bytes);
    Claims::of(&Disk::new(&mut cursor, bytes.len() as u64), Level::Within)
}

fn names(bytes: &[u8]) -> Vec<&'static str> {
    let claims = claims(bytes);
    assert!(claims.unread.is_none());
    claims.list.iter().map(|claim| claim.name).collect()
}

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    let at = usize::try_from(at).unwrap();
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn blank() -> Vec<u8> {
    vec![0; usize::try_from(SIZE).unwrap()]
}

#[test]
fn each_signature_is_found_at_each_of_its_places() {
    let name = |known: &Signature| match known.owner {
        Owner::Filesystem(Filesystem::Ext) => "ext2",
        _ => known.name,
    };
    let checked: Vec<&str> = SIGNATURES
        .iter()
        .filter(|known| !known.is_unchecked())
        .map(name)
        .collect();
    for signature in SIGNATURES.iter().filter(|known| known.is_unchecked()) {
        for at in positions(signature) {
            let mut bytes = blank();
            put(&mut bytes, at, signature.magic);
            let found = claims(&bytes);
            let claim = found.list.iter().find(|claim| claim.name == signature.name);
            let claim = claim.unwrap_or_else(|| panic!("{} at {at}", signature.name));
            assert_eq!(claim.owner, signature.owner, "{}", signature.name);
        }
    }
    for (name, pieces) in crafted() {
        assert!(checked.contains(&name), "{name} is not checked");
        let mut bytes = blank();
        for (at, piece) in &pieces {
            put(&mut bytes, *at, piece);
        }
        assert!(names(&bytes).contains(&name), "{name}: {:?}", names(&bytes));
    }
    let crafted: Vec<&str> = crafted().iter().map(|(name, _)| *name).collect();
    for name in checked {
        assert!(crafted.contains(&name), "{name} has no sample");
    }
}

fn positions(signature: &Signature) -> Vec<u64> {
    let places = signature.places.iter();
    places.flat_map(|place| place.positions(SIZE)).collect()
}

type Pieces = Vec<(u64, Vec<u8>)>;

/// What passes the checks of formats with short signatures, and as little else as can be.
fn crafted() -> Vec<(&'static str, Pieces)> {
    let mut silicon = vec![0; 512];
    silicon[0x63] = 0x2f;
    silicon[0x13e..0x140].copy_from_slice(&(0x2f00_u16.wrapping_neg()).to_le_bytes());
    let mut via = vec![0; 51];
    via[..2].copy_from_slice(&[0x55, 0xaa]);
    via[50] = 0x55_u8.wrapping_add(0xaa);
    let mut jmicron = vec![0; 128];
    jmicron[..2].copy_from_slice(b"JM");
    let sum = u16::from_le_bytes(*b"JM").wrapping_neg();
    jmicron[4..6].copy_from_slice(&sum.to_le_bytes());
    let mut adaptec = vec![0; 512];
    adaptec[..4].copy_from_slice(b"\x37\xfc\x4d\x1e");
    adaptec[0x100..0x104].copy_from_slice(b"DPTM");
    let mut bsd = vec![0; 512];
    bsd[..4].copy_from_slice(b"\x57\x45\x56\x82");
    bsd[132..136].copy_from_slice(b"\x57\x45\x56\x82");
    let mut second = b"SKUL\xba\xbe".to_vec();
    second.resize(264, 0);
    second[256..].copy_from_slice(&0x8000_u64.to_be_bytes());
    vec![
        // With no features it is told as an ext2.
        ("ext2", vec![(1080, b"\x53\xef".to_vec())]),
        (
            "LVM2_member",
            vec![(512, b"LABELONE".to_vec()), (536, b"LVM2 001".to_vec())],
        ),
        ("md member", vec![(4096, md_1(8))]),
        ("VIA RAID", vec![(SIZE - 512, via)]),
        ("Silicon Image RAID", vec![(SIZE - 512, silicon)]),
        ("JMicron RAID", vec![(SIZE - 512, jmicron)]),
        ("Adaptec RAID", vec![(SIZE - 512, adaptec)]),
        ("LVM1", vec![(0, b"HM\x01\0".to_vec())]),
        ("LUKS", vec![(0x8000, second)]),
        (
            "FileVault 2",
            vec![(8, b"\x01\0\x10\0".to_vec()), (88, b"CS".to_vec())],
        ),
        (
            "hfs",
            vec![
                (1024, b"BD".to_vec()),
                (1024 + 18, b"\x10\0\0\0\x10\0".to_vec()),
            ],
        ),
        ("nilfs2", vec![(1024, nilfs())]),
        (
            "minix",
            // 2048 inodes, 8000 zones, one block of each bitmap.
            vec![
                (1024, b"\0\x08\x40\x1f\x01\0\x01\0\x45\0\0\0".to_vec()),
                (1040, b"\x7f\x13".to_vec()),
            ],
        ),
        (
            "befs",
            vec![(32, b"BFS1".to_vec()), (68, b"\x31\x10\x12\xdd".to_vec())],
        ),
        ("BSD disklabel", vec![(512, bsd)]),
        (
            "Sun disklabel",
            vec![(508, b"\xda\xbe".to_vec()), (510, b"\xda\xbe".to_vec())],
        ),
        (
            "Apple partition map",
            vec![(0, b"ER\x02\0".to_vec()), (512, b"PM".to_vec())],
        ),
    ]
}

fn md_1(sector: u64) -> Vec<u8> {
    let mut block = vec![0; 256];
    block[..4].copy_from_slice(b"\xfc\x4e\x2b\xa9");
    block[4] = 1;
    block[144..152].copy_from_slice(&sector.to_le_bytes());
    block
}

fn nilfs() -> Vec<u8> {
    let mut superblock = vec![0; 1024];
    superblock[6..8].copy_from_slice(b"\x34\x34");
    superblock[8..10].copy_from_slice(&280_u16.to_le_bytes());
    superblock[12..16].copy_from_slice(&7_u32.to_le_bytes());
    let sum = checks::crc32(7, &superblock[..280]);
    superblock[16..20].copy_from_slice(&sum.to_le_bytes());
    superblock
}

#[test]
fn a_superblock_that_belongs_elsewhere_is_no_claim() {
    // md 1.x and the second header of LUKS2 say where they are.
    let mut bytes = blank();
    put(&mut bytes, 4096, &md_1(16));
    put(&mut bytes, 0x4000, b"SKUL\xba\xbe");
    assert_eq!(names(&bytes), [""; 0]);
}

#[test]
fn damage_to_a_superblock_of_ext_does_not_hide_it() {
    let mut bytes = blank();
    put(&mut bytes, 1024, &[0xff; 128]);
    put(&mut bytes, 1080, b"\x53\xef");
    assert_eq!(names(&bytes), [""; 0]);
    put(&mut bytes, 1024 + 0x18, &[2, 0, 0, 0]);
    assert_eq!(names(&bytes), ["ext4"]);
}

#[test]
fn bitlocker_to_go_is_no_fat() {
    let mut bytes = blank();
    put(&mut bytes, 0, b"\xeb\x58\x90MSWIN4.1");
    put(
        &mut bytes,
        424,
        b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
    );
    let found = claims(&bytes);
    let claim = found.only().unwrap();
    assert_eq!((claim.owner, claim.at), (Owner::BitLocker, 0));
}

#[test]
fn two_owners_are_none_and_each_has_what_clears_it() {
    let mut bytes = blank();
    put(&mut bytes, 1080, b"\x53\xef");
    put(&mut bytes, 4096, &md_1(8));
    let found = claims(&bytes);
    assert_eq!(found.only(), None);
    assert_eq!(found.names(), "md member or ext2");
    let told: Vec<String> = found.contested().iter().map(Contested::to_string).collect();
    assert_eq!(
        told,
        [
            "md member at 0x1000, cleared by: wipefs --offset 0x1000 DEVICE",
            "ext2 at 0x438, cleared by: wipefs --offset 0x438 DEVICE"
        ]
    );
}

#[test]
fn what_cannot_be_read_may_be_somebodys() {
    struct Unreadable;
    impl ReadAt for Unreadable {
        fn size(&self) -> u64 {
            SIZE
        }
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::Error::other("a bad disk"))
        }
    }
    let found = Claims::of(&Unreadable, Level::Within);
    assert!(found.list.is_empty() && found.only().is_none());
    assert_eq!(found.unread.unwrap().to_string(), "a bad disk");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn noise_belongs_to_nobody(seed in any::<u64>(), sectors in 1usize..12_000) {
        let mut noise = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; sectors * 512];
        noise.fill(&mut bytes);
        prop_assert_eq!(names(&bytes), [""; 0]);
    }
}

/// Where the partition of [`swap_disk`] begins.
const PARTITION: u64 = 1 << 20;

/// A disk with an MBR of one partition of [`SIZE`] bytes, swap from end to end, which a survey leaves out, and data.
fn swap_disk() -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(SIZE + 4 * PARTITION).unwrap()];
    put(&mut disk, 446 + 4, &[0x82]);
    put(&mut disk, 446 + 8, &2048_u32.to_le_bytes());
    let sectors = u32::try_from(SIZE / 512).unwrap();
    put(&mut disk, 446 + 12, &sectors.to_le_bytes());
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(&mut disk, PARTITION + 1024, &1_u32.to_le_bytes());
    let last = u32::try_from(SIZE / 4096 - 1).unwrap();
    put(&mut disk, PARTITION + 1028, &last.to_le_bytes());
    put(&mut disk, PARTITION + 4086, b"SWAPSPACE2");
    disk
}

fn kept(disk: &[u8]) -> crate::extents::Extents {
    let size = disk.len() as u64;
    let mut cursor = Cursor::new(disk);
    crate::used::survey(&mut cursor, size, 512).unwrap().kept
}

/// Any other claimant's signature: one of the list, or one of those that are checked.
fn other() -> impl Strategy<Value = (&'static str, Pieces)> {
    let mut all = crafted();
    for signature in SIGNATURES.iter().filter(|known| known.is_unchecked()) {
        if signature.name != "swap" {
            let of = |at| (signature.name, vec![(at, signature.magic.to_vec())]);
            all.extend(
                positions(signature)
                    .into_iter()
                    .take(600)
                    .step_by(37)
                    .map(of),
            );
            all.extend(positions(signature).into_iter().take(3).map(of));
        }
    }
    prop::sample::select(all)
}

#[test]
fn swap_alone_is_left_out() {
    let kept = kept(&swap_disk());
    let within = PARTITION + 4096..PARTITION + SIZE;
    assert_eq!(kept.gaps(within.clone()).total(), within.end - within.start);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_second_claimant_of_a_partition_keeps_all_of_it((name, pieces) in other()) {
        let mut disk = swap_disk();
        let before = disk[usize::try_from(PARTITION + 4086).unwrap()..][..10].to_vec();
        for (at, piece) in pieces {
            put(&mut disk, PARTITION + at, &piece);
        }
        // What lies over the swap's own signature is the only owner then.
        let both = disk[usize::try_from(PARTITION + 4086).unwrap()..][..10] == before[..];
        let range = PARTITION..PARTITION + SIZE;
        prop_assert!(kept(&disk).gaps(range).is_empty(), "{} {}", name, both);
    }

    #[test]
    fn a_claimant_of_the_whole_disk_keeps_all_of_it((name, pieces) in other(), end in any::<bool>()) {
        let mut disk = swap_disk();
        let size = disk.len() as u64;
        let mut outside = true;
        for (at, piece) in pieces {
            // Places near the end of a volume of that size are at the disk's own end.
            let at = if end && at > SIZE / 2 { size - (SIZE - at) } else { at };
            outside &= at + (piece.len() as u64) <= 446 || (512..PARTITION).contains(&at) || at >= PARTITION + SIZE;
            put(&mut disk, at, &piece);
        }
        let found = {
            let mut cursor = Cursor::new(&disk[..]);
            Claims::of(&Disk::new(&mut cursor, size), Level::Disk)
        };
        // Some are one only at their own place, and ISO 9660 tells where it ends.
        let claims = found.list.iter().any(|claim| claim.name == name);
        prop_assume!(outside && claims);
        prop_assert!(kept(&disk).gaps(0..size).is_empty(), "{}", name);
    }
}
