//! Members of Linux RAID: what their superblocks say (`struct mdp_superblock_1` of the kernel's `md_p.h`).

use crate::source::ReadAt;
use std::ops::Range;

const MAGIC: u32 = 0xa92b_4efc;
/// The only major version of this form.
const VERSION: u32 = 1;
/// Where versions 1.1 and 1.2 begin. 1.0 is 8 KiB before the end, at a multiple of 4 KiB.
const STARTS: [u64; 2] = [4096, 0];
const SECTOR: u64 = 512;
/// Without the places of its members, which follow.
const HEAD: usize = 256;
/// With them, at the most.
const MOST: u64 = 4096;
/// Places that are none: of a faulty member, of a journal; of a spare.
const FIRST_NO_PLACE: u16 = 0xfffd;
/// `feature_map`: not all of it is copied yet; the array is changing its form.
const RECOVERING: u32 = 2;
const RESHAPING: u32 = 4;
/// `feature_map`: it has a list of blocks that could not be written, and what is there is old.
const BAD_BLOCKS: u32 = 8;

/// What a member says of itself and its array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The array's, without the computer's in front.
    pub name: String,
    /// The array's, as mdadm writes it.
    pub uuid: String,
    pub level: i32,
    /// How many members the array is to have.
    pub disks: u32,
    /// Which of them it is; `None` of a spare, of a faulty one, and of one that is not all copied yet.
    pub place: Option<u16>,
    /// Grows whenever the array changes: what has fewer than another member is old.
    pub events: u64,
    /// Bytes of the member that are the array's own.
    pub data: Range<u64>,
    /// How many of these a mirror shows.
    pub size: u64,
    /// Whether the array is changing its form.
    pub is_reshaping: bool,
    /// Whether some of its blocks are older than the others: they could not be written.
    pub has_bad_blocks: bool,
    /// Whether its checksum is right.
    pub is_sound: bool,
}

/// Which array a volume is part of; `None` also of formats before 1.0.
#[must_use]
pub fn member(volume: &dyn ReadAt) -> Option<Member> {
    let sectors = volume.size() / SECTOR;
    let at_end = sectors
        .checked_sub(16)
        .map(|sector| sector / 8 * 8 * SECTOR);
    let places = STARTS.into_iter().chain(at_end);
    let found = places.filter_map(|at| {
        let length = volume.size().checked_sub(at)?.min(MOST);
        let bytes = volume.bytes_at(at, usize::try_from(length).ok()?).ok()?;
        let superblock = Superblock(&bytes);
        let is_one = superblock.u32(0)? == MAGIC && superblock.u32(4)? == VERSION;
        // An older one of another place may be left.
        let is_its_place = superblock.sectors(144)? == at;
        (is_one && is_its_place).then_some(bytes)
    });
    let members = found.filter_map(|bytes| Superblock(&bytes).member(volume.size()));
    // Of equals the first.
    members.min_by_key(|member| !member.is_sound)
}

struct Superblock<'a>(&'a [u8]);

impl Superblock<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    /// Bytes, where the superblock counts in sectors.
    fn sectors(&self, at: usize) -> Option<u64> {
        Some(self.u64(at)?.saturating_mul(SECTOR))
    }

    fn member(&self, size: u64) -> Option<Member> {
        let features = self.u32(8)?;
        let text = self.0.get(32..64)?.split(|byte| *byte == 0).next()?;
        let text = String::from_utf8_lossy(text);
        let start = self.sectors(128)?;
        let end = start.saturating_add(self.sectors(136)?).min(size);
        Some(Member {
            name: text.rsplit(':').next().unwrap_or(&text).to_owned(),
            uuid: self.uuid()?,
            level: self.bytes(72).map(i32::from_le_bytes)?,
            disks: self.u32(92)?,
            place: self.place().filter(|_| features & RECOVERING == 0),
            events: self.u64(200)?,
            size: self.sectors(80)?.min(end.saturating_sub(start)),
            data: start..end,
            is_reshaping: features & RESHAPING != 0,
            has_bad_blocks: features & BAD_BLOCKS != 0,
            is_sound: self.sum() == self.u32(216),
        })
    }

    fn uuid(&self) -> Option<String> {
        let words: Option<Vec<String>> = (0..4)
            .map(|word| Some(u32::from_be_bytes(self.bytes(16 + 4 * word)?)))
            .map(|word| Some(format!("{:08x}", word?)))
            .collect();
        Some(words?.join(":"))
    }

    fn place(&self) -> Option<u16> {
        let number = usize::try_from(self.u32(160)?).ok()?;
        let place = self.u16(HEAD.checked_add(number.checked_mul(2)?)?)?;
        (place < FIRST_NO_PLACE).then_some(place)
    }

    /// The checksum: a sum of words without its own, folded.
    fn sum(&self) -> Option<u32> {
        let places = usize::try_from(self.u32(220)?).ok()?;
        let all = self.0.get(..HEAD.checked_add(places.checked_mul(2)?)?)?;
        let words = all.chunks(4).enumerate().filter(|(word, _)| *word != 54);
        let sum: u64 = words
            .map(|(_, bytes)| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from(u32::from_le_bytes(word))
            })
            .sum();
        u32::try_from((sum & u64::from(u32::MAX)) + (sum >> 32)).ok()
    }
}

/// Superblocks for tests.
#[cfg(any(test, feature = "fakes"))]
pub mod fake {
    use super::{HEAD, MAGIC, SECTOR, VERSION};
    use std::ops::Range;

    /// The superblock of version 1.2 of a mirror's member, to be written at 4096: the one at `place` of `disks`, whose data is in
    /// `sectors`. Arrays with names of different lengths are different arrays.
    #[must_use]
    pub fn mirror(
        name: &str,
        place: u16,
        disks: u16,
        sectors: &Range<u64>,
        events: u64,
    ) -> Vec<u8> {
        let mut bytes = vec![0; HEAD + 2 * usize::from(disks)];
        let count = sectors.end - sectors.start;
        let number = u8::try_from(name.len()).unwrap_or_default();
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(4, &VERSION.to_le_bytes());
        put(16, &[number; 16]);
        put(32, name.as_bytes());
        put(72, &1_u32.to_le_bytes());
        put(80, &count.to_le_bytes());
        put(92, &u32::from(disks).to_le_bytes());
        put(128, &sectors.start.to_le_bytes());
        put(136, &count.to_le_bytes());
        put(144, &(4096 / SECTOR).to_le_bytes());
        put(160, &u32::from(place).to_le_bytes());
        put(200, &events.to_le_bytes());
        put(208, &u64::MAX.to_le_bytes());
        put(220, &u32::from(disks).to_le_bytes());
        for number in 0..disks {
            put(HEAD + 2 * usize::from(number), &number.to_le_bytes());
        }
        let sum = super::Superblock(&bytes).sum().unwrap_or_default();
        bytes[216..220].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use std::io::Cursor;

    fn member_of(bytes: &[u8]) -> Option<Member> {
        let mut bytes = Cursor::new(bytes);
        let size = bytes.get_ref().len() as u64;
        member(&Disk::new(&mut bytes, size))
    }

    /// 64 KiB of a member of the second place of two.
    fn volume() -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        let head = fake::mirror("host:mirror", 1, 2, &(16..48), 9);
        bytes[4096..4096 + head.len()].copy_from_slice(&head);
        bytes
    }

    #[test]
    fn a_member_says_which_array_it_is_of_and_what_of_it_is_the_arrays() {
        let mut bytes = volume();
        let found = member_of(&bytes).unwrap();
        let expected = Member {
            name: "mirror".into(),
            uuid: "0b0b0b0b:0b0b0b0b:0b0b0b0b:0b0b0b0b".into(),
            level: 1,
            disks: 2,
            place: Some(1),
            events: 9,
            data: 8192..24576,
            size: 16384,
            is_reshaping: false,
            has_bad_blocks: false,
            is_sound: true,
        };
        assert_eq!(found, expected);
        // Some of its blocks could not be written.
        bytes[4096 + 8] = 8;
        assert!(member_of(&bytes).unwrap().has_bad_blocks);
        // One that is still copied to.
        bytes[4096 + 8] = 2;
        let found = member_of(&bytes).unwrap();
        assert_eq!((found.place, found.is_sound), (None, false));
        bytes[4096 + 8] = 0;
        // A spare.
        bytes[4096 + HEAD + 2..4096 + HEAD + 4].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(member_of(&bytes).unwrap().place, None);
        // One that was elsewhere once.
        bytes[4096 + 144] = 0;
        assert_eq!(member_of(&bytes), None);
        bytes[4096 + 144] = 8;
        assert!(member_of(&bytes).is_some());
        // Another version of the format.
        bytes[4096 + 4] = 0;
        assert_eq!(member_of(&bytes), None);
    }

    #[test]
    fn what_a_member_says_of_bytes_that_are_none_ends_with_it() {
        let mut bytes = volume();
        bytes[4096 + 136..4096 + 144].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes[4096 + 80..4096 + 88].copy_from_slice(&u64::MAX.to_le_bytes());
        let found = member_of(&bytes).unwrap();
        assert_eq!(found.data, 8192..64 << 10);
        assert_eq!(found.size, (64 << 10) - 8192);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_no_panic(
            rest in proptest::collection::vec(0u8.., 0..600),
            at in proptest::sample::select(vec![0_usize, 4096]),
        ) {
            let mut bytes = vec![0; at + 8];
            bytes[at..at + 4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[at + 4] = 1;
            bytes.extend(rest);
            if let Some(place) = bytes.get_mut(at + 144..at + 152) {
                place.copy_from_slice(&(at as u64 / SECTOR).to_le_bytes());
            }
            let _ = member_of(&bytes);
        }
    }
}
