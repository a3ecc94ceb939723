//! What a file is that is no disk: disks of virtual machines, images of other tools, archives, packed files. Each has
//! a name, and where there is one the command that makes a raw disk of it.
//!
//! A raw disk may begin with any bytes. So a short magic counts only with other fields that must be right too, and
//! never where the first sector is a boot sector.

use crate::units;

/// Bytes of the beginning that are looked at.
pub const START: usize = 1024;
/// Bytes of the end that are looked at: the footers are as long.
pub const END: usize = 512;
/// Every disk has at least one sector of this many bytes.
pub const SECTOR: usize = 512;

/// A file that holds a disk, or files, but is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Qcow,
    Vmdk,
    VmdkDescriptor,
    Vdi,
    Vhd,
    FixedVhd,
    Vhdx,
    Qed,
    Parallels,
    Bochs,
    Cloop,
    Dmg,
    AndroidSparse,
    Partclone,
    Partimage,
    Ntfsclone,
    Fsarchiver,
    Wim,
    Tar,
    Cpio,
    Zip,
    SevenZip,
    Rar,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    Lz4,
    Lzip,
    Lzop,
    Lzma,
    Compress,
    WebPage,
}

/// How a raw disk is made of it.
enum WayOut {
    /// A command, in which `{}` is the file.
    Disk(&'static str),
    /// A command that makes one partition, not a disk.
    Partition(&'static str),
    /// A command that takes out the files in it.
    Files(&'static str),
    /// There is none.
    None,
}

impl Container {
    /// With its article.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// What a person types to get what is in `file`, with what it is for.
    pub fn advice(self, file: &str) -> String {
        match self.facts().1 {
            WayOut::Disk(command) => {
                format!("to make a raw disk of it: {}", command.replace("{}", file))
            }
            WayOut::Partition(command) => format!(
                "it holds a partition, not a disk; to write that: {}",
                command.replace("{}", file)
            ),
            WayOut::Files(command) => format!(
                "if there is an image in it, take that out: {}",
                command.replace("{}", file)
            ),
            WayOut::None => "it holds no disk".to_owned(),
        }
    }

    fn facts(self) -> (&'static str, WayOut) {
        use WayOut::{Disk, Files, Partition};
        match self {
            Self::Qcow => ("a qcow2 image", Disk("qemu-img convert -O raw {} disk.raw")),
            Self::Vmdk => ("a VMDK image", Disk("qemu-img convert -O raw {} disk.raw")),
            Self::VmdkDescriptor => (
                "the descriptor of a VMDK image, whose bytes are in other files",
                Disk("qemu-img convert -O raw {} disk.raw"),
            ),
            Self::Vdi => ("a VDI image", Disk("qemu-img convert -O raw {} disk.raw")),
            Self::Vhd => (
                "a VHD image",
                Disk("qemu-img convert -f vpc -O raw {} disk.raw"),
            ),
            Self::FixedVhd => (
                "a VHD image of fixed size",
                Disk("qemu-img convert -f vpc -O raw {} disk.raw"),
            ),
            Self::Vhdx => ("a VHDX image", Disk("qemu-img convert -O raw {} disk.raw")),
            Self::Qed => ("a QED image", Disk("qemu-img convert -O raw {} disk.raw")),
            Self::Parallels => (
                "a Parallels image",
                Disk("qemu-img convert -f parallels -O raw {} disk.raw"),
            ),
            Self::Bochs => (
                "a Bochs image",
                Disk("qemu-img convert -f bochs -O raw {} disk.raw"),
            ),
            Self::Cloop => (
                "a cloop image",
                Disk("qemu-img convert -f cloop -O raw {} disk.raw"),
            ),
            Self::Dmg => (
                "an Apple disk image (dmg)",
                Disk("qemu-img convert -f dmg -O raw {} disk.raw"),
            ),
            Self::AndroidSparse => ("an Android sparse image", Disk("simg2img {} disk.raw")),
            Self::Partclone => (
                "an image of partclone (Clonezilla)",
                Partition("partclone.restore -s {} -o /dev/PARTITION"),
            ),
            Self::Partimage => (
                "an image of partimage",
                Partition("partimage restore /dev/PARTITION {}"),
            ),
            Self::Ntfsclone => (
                "an image of ntfsclone",
                Partition("ntfsclone --restore-image --overwrite /dev/PARTITION {}"),
            ),
            Self::Fsarchiver => (
                "an archive of fsarchiver",
                Partition("fsarchiver restfs {} id=0,dest=/dev/PARTITION"),
            ),
            Self::Wim => ("a WIM image", Partition("wimapply {} 1 /dev/PARTITION")),
            Self::Tar => ("a tar archive", Files("tar -xf {}")),
            Self::Cpio => ("a cpio archive", Files("cpio -i -d < {}")),
            Self::Zip => ("a zip archive", Files("unzip {}")),
            Self::SevenZip => ("a 7-Zip archive", Files("7z x {}")),
            Self::Rar => ("a RAR archive", Files("unrar x {}")),
            Self::Gzip => ("a gzip file", Disk("gzip -dc {} > disk.raw")),
            Self::Xz => ("an xz file", Disk("xz -dc {} > disk.raw")),
            Self::Zstd => ("a zstd file", Disk("zstd -dc {} > disk.raw")),
            Self::Bzip2 => ("a bzip2 file", Disk("bzip2 -dc {} > disk.raw")),
            Self::Lz4 => ("an lz4 file", Disk("lz4 -dc {} > disk.raw")),
            Self::Lzip => ("an lzip file", Disk("lzip -dc {} > disk.raw")),
            Self::Lzop => ("an lzop file", Disk("lzop -dc {} > disk.raw")),
            Self::Lzma => ("an lzma file", Disk("xz --format=lzma -dc {} > disk.raw")),
            Self::Compress => ("a file of compress", Disk("gzip -dc {} > disk.raw")),
            Self::WebPage => ("a web page", WayOut::None),
        }
    }
}

/// What begins with magics of so many bytes that nothing else has to agree.
const MAGICS: [(&[u8], Container); 27] = [
    (b"QFI\xfb", Container::Qcow),
    (b"KDMV", Container::Vmdk),
    (b"COWD", Container::Vmdk),
    (b"# Disk DescriptorFile", Container::VmdkDescriptor),
    (b"conectix", Container::Vhd),
    (b"vhdxfile", Container::Vhdx),
    (b"QED\0", Container::Qed),
    (b"WithoutFreeSpace", Container::Parallels),
    (b"WithouFreSpacExt", Container::Parallels),
    (b"Bochs Virtual HD Image", Container::Bochs),
    (b"#!/bin/sh\n#V2.0 Format\n", Container::Cloop),
    (b"\x3a\xff\x26\xed", Container::AndroidSparse),
    (b"partclone-image", Container::Partclone),
    (b"PaRtImAgE-VoLuMe", Container::Partimage),
    (b"\0ntfsclone-image", Container::Ntfsclone),
    (b"FsArCh_", Container::Fsarchiver),
    (b"MSWIM\0\0\0", Container::Wim),
    (b"<<< Oracle VM Virtu", Container::Vdi),
    (b"PK\x03\x04", Container::Zip),
    (b"PK\x05\x06", Container::Zip),
    (b"7z\xbc\xaf\x27\x1c", Container::SevenZip),
    (b"Rar!\x1a\x07", Container::Rar),
    (b"\xfd7zXZ\0", Container::Xz),
    (b"LZIP\x01", Container::Lzip),
    (b"\x89LZO\0\r\n\x1a\n", Container::Lzop),
    (b"\x28\xb5\x2f\xfd", Container::Zstd),
    (b"\x04\x22\x4d\x18", Container::Lz4),
];

/// What a file is that begins with `start`, of which [`START`] bytes are enough.
pub fn at_start(start: &[u8]) -> Option<Container> {
    let by_magic = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
    if let Some((_, found)) = by_magic {
        return Some(*found);
    }
    if is_web_page(start) {
        return Some(Container::WebPage);
    }
    if is_boot_sector(start) {
        return None;
    }
    let weak: [(fn(&[u8]) -> bool, Container); 8] = [
        (is_vdi, Container::Vdi),
        (is_tar, Container::Tar),
        (is_cpio, Container::Cpio),
        (is_gzip, Container::Gzip),
        (is_bzip2, Container::Bzip2),
        (is_legacy_lz4, Container::Lz4),
        (is_lzma, Container::Lzma),
        (is_compress, Container::Compress),
    ];
    let found = weak.iter().find(|(is, _)| is(start));
    found.map(|(_, found)| *found)
}

/// What a file of `size` bytes is that ends in `end`, its last [`END`] bytes.
pub fn at_end(end: &[u8], size: u64) -> Option<Container> {
    if end.len() != END {
        return None;
    }
    if is_vhd_footer(end, size) {
        return Some(Container::FixedVhd);
    }
    // The trailer of a UDIF image: its version is 4, its size 512.
    let is_dmg = end.starts_with(b"koly\0\0\0\x04\0\0\x02\0");
    is_dmg.then_some(Container::Dmg)
}

/// The footer that is right for just this file: a disk that was written from such a file may end in one too, but is
/// 512 bytes smaller then, or larger.
fn is_vhd_footer(footer: &[u8], size: u64) -> bool {
    let word = |at: usize| footer.get(at..).and_then(|it| it.first_chunk::<4>());
    let disk = footer.get(48..).and_then(|it| it.first_chunk::<8>());
    if !footer.starts_with(b"conectix")
        || disk.map(|disk| u64::from_be_bytes(*disk)) != size.checked_sub(END as u64)
    {
        return false;
    }
    let others = footer
        .iter()
        .enumerate()
        .filter(|(at, _)| !(64..68).contains(at));
    let sum: u32 = others.map(|(_, byte)| u32::from(*byte)).sum();
    word(64).is_some_and(|told| u32::from_be_bytes(*told) == !sum)
}

/// Whether the first sector ends as the BIOS wants it of a disk it boots.
fn is_boot_sector(start: &[u8]) -> bool {
    start.get(510..512) == Some(&[0x55, 0xaa])
}

/// The text in front may be anybody's, the signature is not.
fn is_vdi(start: &[u8]) -> bool {
    start.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe])
        && start.get(0x46..0x48) == Some(&[1, 0])
}

/// The checksum of the first header (POSIX.1-2017 pax, ustar): the sum of its bytes, its own field as spaces. Tars
/// from before POSIX have nothing else.
fn is_tar(start: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(header) = start.get(..512).filter(|header| header[0] != 0) else {
        return false;
    };
    let told = header[SUM].iter().skip_while(|byte| **byte == b' ');
    let digits: Vec<u8> = told
        .copied()
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .collect();
    let told = digits
        .iter()
        .fold(0, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let bytes = || {
        let others = header.iter().enumerate();
        others.map(|(at, byte)| if SUM.contains(&at) { b' ' } else { *byte })
    };
    let unsigned: u32 = bytes().map(u32::from).sum();
    // Some old ones summed signed bytes.
    let signed: i32 = bytes().map(|byte| i32::from(byte.cast_signed())).sum();
    !digits.is_empty() && (told == unsigned || i32::try_from(told) == Ok(signed))
}

/// Of its three headers the one in binary has a magic of two bytes: the name must be one as well.
fn is_cpio(start: &[u8]) -> bool {
    let digits = |from: usize, to: usize, radix: u32| {
        let field = start.get(from..to).unwrap_or_default();
        !field.is_empty() && field.iter().all(|byte| char::from(*byte).is_digit(radix))
    };
    if start.starts_with(b"070701") || start.starts_with(b"070702") {
        return digits(6, 110, 16);
    }
    if start.starts_with(b"070707") {
        return digits(6, 76, 8);
    }
    let word = |at: usize| start.get(at..).and_then(|it| it.first_chunk::<2>());
    let length = match word(0) {
        Some([0xc7, 0x71]) => word(20).map(|length| u16::from_le_bytes(*length)),
        Some([0x71, 0xc7]) => word(20).map(|length| u16::from_be_bytes(*length)),
        _ => None,
    };
    let name = length.and_then(|length| start.get(26..26 + usize::from(length)));
    name.and_then(<[u8]>::split_last)
        .is_some_and(|(end, name)| {
            *end == 0 && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
        })
}

/// RFC 1952 2.3: deflate, and no flag that is reserved.
fn is_gzip(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0)
}

/// The level, then the magic of a block, or of an end without blocks.
fn is_bzip2(start: &[u8]) -> bool {
    let magics: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];
    matches!(start, [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
        if magics.iter().any(|magic| rest.starts_with(magic)))
}

/// As the kernel's images have it: blocks of at most 8 MiB, with their size.
fn is_legacy_lz4(start: &[u8]) -> bool {
    matches!(start, [0x02, 0x21, 0x4c, 0x18, size @ ..]
        if size.first_chunk().is_some_and(|size| (1..=8 << 20).contains(&u32::from_le_bytes(*size))))
}

/// It has no magic: the usual properties, a dictionary of a size that encoders choose, a plausible length, and the
/// first byte of the range coder, which is 0.
fn is_lzma(start: &[u8]) -> bool {
    let [0x5d, rest @ ..] = start else {
        return false;
    };
    let (Some(dictionary), Some(length)) = (
        rest.first_chunk::<4>(),
        rest.get(4..).and_then(|it| it.first_chunk::<8>()),
    ) else {
        return false;
    };
    let dictionary = u32::from_le_bytes(*dictionary);
    let length = u64::from_le_bytes(*length);
    let usual = dictionary >= 4096
        && (dictionary.is_power_of_two()
            || (dictionary / 3).is_power_of_two() && dictionary % 3 == 0);
    usual && (length == u64::MAX || (4096..1 << 48).contains(&length)) && rest.get(12) == Some(&0)
}

/// The most bits of a code are 9 to 16.
fn is_compress(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)))
}

/// What a server says instead of giving the image.
fn is_web_page(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let begins = |tag: &str| {
        let text = start.get(..tag.len());
        text.is_some_and(|text| text.eq_ignore_ascii_case(tag.as_bytes()))
    };
    begins("<!doctype html") || begins("<html")
}

/// Whether these bytes can only be a text.
pub fn is_text(bytes: &[u8]) -> bool {
    let printable =
        |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c) || *byte >= 0x20 && *byte != 0x7f;
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // A character that the end of the piece cuts in two.
        Err(error) => error.error_len().is_none(),
    };
    !bytes.is_empty() && whole && bytes.iter().all(printable)
}

/// Why what unpacks to `length` bytes, of which `start` are the first, can be no disk; `None` where it can. A disk may
/// have any number of bytes from a sector on: what is behind the last whole sector of it is written as it is.
pub fn no_disk(start: &[u8], length: u64) -> Option<String> {
    let shown = units::bytes(length);
    if length < SECTOR as u64 {
        return Some(format!("{length} bytes are less than a sector of {SECTOR}"));
    }
    let odd = !length.is_multiple_of(SECTOR as u64);
    let text = odd && is_text(&start[..start.len().min(START)]);
    text.then(|| format!("{shown} ({length} bytes) of text, and no whole sectors"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded(start: &[u8]) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(START, 0);
        bytes
    }

    #[test]
    fn what_begins_with_a_magic_is_named() {
        for (magic, found) in MAGICS {
            assert_eq!(at_start(&padded(magic)), Some(found), "{magic:?}");
        }
    }

    #[test]
    fn a_cut_magic_is_no_format() {
        for length in 0..4 {
            assert_eq!(at_start(&b"QFI\xfb"[..length]), None);
        }
        assert_eq!(at_start(&[]), None);
        assert_eq!(at_start(&[0; START]), None);
    }

    /// A header as tar wrote it before POSIX: a name, numbers and a sum.
    fn old_tar() -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(b"disk");
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(b"00000001000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    #[test]
    fn a_tar_is_told_by_its_sum_and_is_never_a_boot_sector() {
        let mut header = old_tar();
        assert_eq!(at_start(&header), Some(Container::Tar));
        header[0] ^= 1;
        assert_eq!(at_start(&header), None);
        let mut header = old_tar();
        header[510..].copy_from_slice(&[0x55, 0xaa]);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert_eq!(at_start(&header), None);
    }

    /// Boot sectors and first sectors of filesystems, as they really begin.
    #[test]
    fn real_disks_are_none_of_these() {
        let mut mbr = padded(b"\xeb\x63\x90\x10\x8e\xd0\xbc\x00\xb0\xb8");
        mbr[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(at_start(&mbr), None);
        for start in [
            &b"XFSB\0\0\x10\0"[..],
            b"hsqs\x01\0\0\0",
            b"LUKS\xba\xbe\0\x02",
            b"\xeb\x52\x90NTFS    ",
            b"UBI#\x01",
            b"\x1f\x8b",
            b"BZh9 and no more",
            b"\x5d\0\0\x80\0\x12",
            b"\x1f\x9d\xff",
        ] {
            assert_eq!(at_start(&padded(start)), None, "{start:?}");
        }
    }

    #[test]
    fn short_magics_count_with_their_fields() {
        for (start, found) in [
            (&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], Container::Gzip),
            (b"BZh91AY&SY", Container::Bzip2),
            (b"\x02\x21\x4c\x18\x10\0\0\0", Container::Lz4),
            (
                b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0",
                Container::Lzma,
            ),
            (b"\x1f\x9d\x90", Container::Compress),
            (b"\n<!DOCTYPE HTML><html>", Container::WebPage),
        ] {
            assert_eq!(at_start(&padded(start)), Some(found), "{start:?}");
        }
        let newc = [&b"070701"[..], &[b'0'; 104], b"name\0"].concat();
        assert_eq!(at_start(&newc), Some(Container::Cpio));
        let mut binary = vec![0; 64];
        binary[..2].copy_from_slice(&[0xc7, 0x71]);
        binary[20] = 5;
        binary[26..31].copy_from_slice(b"name\0");
        assert_eq!(at_start(&binary), Some(Container::Cpio));
        binary[27] = 7;
        assert_eq!(at_start(&binary), None);
    }

    #[test]
    fn a_footer_counts_only_for_the_file_it_is_of() {
        let mut footer = vec![0; END];
        footer[..8].copy_from_slice(b"conectix");
        footer[48..56].copy_from_slice(&(1u64 << 20).to_be_bytes());
        let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
        let size = (1 << 20) + END as u64;
        assert_eq!(at_end(&footer, size), Some(Container::FixedVhd));
        assert_eq!(at_end(&footer, 1 << 20), None);
        footer[100] = 1;
        assert_eq!(at_end(&footer, size), None);
        let mut koly = vec![0; END];
        koly[..12].copy_from_slice(b"koly\0\0\0\x04\0\0\x02\0");
        assert_eq!(at_end(&koly, size), Some(Container::Dmg));
    }

    #[test]
    fn a_disk_may_have_any_size_from_a_sector_on_unless_it_is_text() {
        assert!(no_disk(&[7; 511], 511).is_some());
        assert_eq!(no_disk(&[0; 512], 512), None);
        assert_eq!(no_disk(&[0; 513], 513), None);
        assert!(no_disk(&[b'x'; 513], 513).is_some());
        assert_eq!(no_disk(&[b'x'; 1024], 1024), None);
    }

    #[test]
    fn the_advice_names_the_file() {
        let advice = Container::Qcow.advice("sda.qcow2");
        assert!(advice.ends_with("qemu-img convert -O raw sda.qcow2 disk.raw"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(start in prop::collection::vec(any::<u8>(), 0..1100), size in any::<u64>()) {
            let _ = at_start(&start);
            let _ = at_end(&start, size);
            let _ = is_text(&start);
            let _ = no_disk(&start, size);
        }

        /// Weak magics never speak against a boot sector.
        #[test]
        fn random_boot_sectors_are_disks(mut start in prop::collection::vec(any::<u8>(), 512)) {
            start[0] = 0xeb;
            start[510..].copy_from_slice(&[0x55, 0xaa]);
            prop_assert_eq!(at_start(&start), None);
        }
    }
}
