//! What a file is that is no disk: disks of virtual machines, images of other tools, archives, packed files. Each has
//! a name, and where there is one the command that makes a raw disk of it.
//!
//! A raw disk may begin with any bytes. So a short magic counts only with other fields that must be right too, and
//! never where the first sector is a boot sector.

mod weak;

use crate::units;

/// Bytes of the beginning that are looked at: most texts that are no disk end before.
pub const START: usize = 64 << 10;
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
    Vma,
    Ewf,
    Aff,
    Ar,
    Rpm,
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
    Zlib,
    Lrzip,
    Openssl,
    Pgp,
    Pdf,
    Database,
    Program,
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
        match self {
            Self::Qcow => "a qcow2 image",
            Self::Vmdk => "a VMDK image",
            Self::VmdkDescriptor => {
                "the descriptor of a VMDK image, whose bytes are in other files"
            }
            Self::Vdi => "a VDI image",
            Self::Vhd => "a VHD image",
            Self::FixedVhd => "a VHD image of fixed size",
            Self::Vhdx => "a VHDX image",
            Self::Qed => "a QED image",
            Self::Parallels => "a Parallels image",
            Self::Bochs => "a Bochs image",
            Self::Cloop => "a cloop image",
            Self::Dmg => "an Apple disk image (dmg)",
            Self::AndroidSparse => "an Android sparse image",
            Self::Partclone => "an image of partclone (Clonezilla)",
            Self::Partimage => "an image of partimage",
            Self::Ntfsclone => "an image of ntfsclone",
            Self::Fsarchiver => "an archive of fsarchiver",
            Self::Wim => "a WIM image",
            Self::Vma => "a backup of a virtual machine by Proxmox (VMA)",
            Self::Ewf => "an EnCase image (EWF)",
            Self::Aff => "an AFF image",
            Self::Ar => "an ar archive or a Debian package",
            Self::Rpm => "an RPM package",
            Self::Tar => "a tar archive",
            Self::Cpio => "a cpio archive",
            Self::Zip => "a zip archive",
            Self::SevenZip => "a 7-Zip archive",
            Self::Rar => "a RAR archive",
            Self::Gzip => "a gzip file",
            Self::Xz => "an xz file",
            Self::Zstd => "a zstd file",
            Self::Bzip2 => "a bzip2 file",
            Self::Lz4 => "an lz4 file",
            Self::Lzip => "an lzip file",
            Self::Lzop => "an lzop file",
            Self::Lzma => "an lzma file",
            Self::Compress => "a file of compress",
            Self::Zlib => "a zlib stream",
            Self::Lrzip => "an lrzip file",
            Self::Openssl => "a file that openssl has encrypted",
            Self::Pgp => "a file that PGP has encrypted or signed",
            Self::Pdf => "a PDF document",
            Self::Database => "an SQLite database",
            Self::Program => "a program (ELF)",
            Self::WebPage => "a web page",
        }
    }

    /// What a person types to get what is in `file`, with what it is for.
    pub fn advice(self, file: &str) -> String {
        match self.way_out() {
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

    fn way_out(self) -> WayOut {
        use WayOut::{Disk, Files, Partition};
        match self {
            Self::Qcow | Self::Vmdk | Self::VmdkDescriptor | Self::Vdi | Self::Vhdx | Self::Qed => {
                Disk("qemu-img convert -O raw {} disk.raw")
            }
            Self::Vhd | Self::FixedVhd => Disk("qemu-img convert -f vpc -O raw {} disk.raw"),
            Self::Parallels => Disk("qemu-img convert -f parallels -O raw {} disk.raw"),
            Self::Bochs => Disk("qemu-img convert -f bochs -O raw {} disk.raw"),
            Self::Cloop => Disk("qemu-img convert -f cloop -O raw {} disk.raw"),
            Self::Dmg => Disk("qemu-img convert -f dmg -O raw {} disk.raw"),
            Self::AndroidSparse => Disk("simg2img {} disk.raw"),
            Self::Partclone => Partition("partclone.restore -s {} -o /dev/PARTITION"),
            Self::Partimage => Partition("partimage restore /dev/PARTITION {}"),
            Self::Ntfsclone => Partition("ntfsclone --restore-image --overwrite /dev/PARTITION {}"),
            Self::Fsarchiver => Partition("fsarchiver restfs {} id=0,dest=/dev/PARTITION"),
            Self::Wim => Partition("wimapply {} 1 /dev/PARTITION"),
            Self::Vma => Files("vma extract {} FOLDER"),
            Self::Ewf => Disk("ewfexport -f raw -t disk {}"),
            Self::Aff => Disk("affconvert -r -e raw {}"),
            Self::Ar => Files("ar x {}"),
            Self::Rpm => Files("rpm2archive {}"),
            Self::Tar => Files("tar -xf {}"),
            Self::Cpio => Files("cpio -i -d < {}"),
            Self::Zip => Files("unzip {}"),
            Self::SevenZip => Files("7z x {}"),
            Self::Rar => Files("unrar x {}"),
            Self::Gzip | Self::Compress => Disk("gzip -dc {} > disk.raw"),
            Self::Xz => Disk("xz -dc {} > disk.raw"),
            Self::Zstd => Disk("zstd -dc {} > disk.raw"),
            Self::Bzip2 => Disk("bzip2 -dc {} > disk.raw"),
            Self::Lz4 => Disk("lz4 -dc {} > disk.raw"),
            Self::Lzip => Disk("lzip -dc {} > disk.raw"),
            Self::Lzop => Disk("lzop -dc {} > disk.raw"),
            Self::Lzma => Disk("xz --format=lzma -dc {} > disk.raw"),
            Self::Zlib => Disk("pigz -dcz {} > disk.raw"),
            Self::Lrzip => Disk("lrzip -d -o disk.raw {}"),
            Self::Openssl => Disk("openssl enc -d -CIPHER -in {} -out disk.raw"),
            Self::Pgp => Disk("gpg --decrypt {} > disk.raw"),
            Self::Pdf | Self::Database | Self::Program | Self::WebPage => WayOut::None,
        }
    }
}

/// What begins with magics of so many bytes that nothing else has to agree.
const MAGICS: [(&[u8], Container); 41] = [
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
    (b"PK00PK\x03\x04", Container::Zip),
    (b"VMA\0\0\0\0\x01", Container::Vma),
    (b"EVF\x09\x0d\x0a\xff\0", Container::Ewf),
    (b"AFF10\r\n\0", Container::Aff),
    (b"!<arch>\n", Container::Ar),
    (b"\xed\xab\xee\xdb", Container::Rpm),
    (b"7z\xbc\xaf\x27\x1c", Container::SevenZip),
    (b"Rar!\x1a\x07", Container::Rar),
    (b"\xfd7zXZ\0", Container::Xz),
    (b"LZIP\x01", Container::Lzip),
    (b"\x89LZO\0\r\n\x1a\n", Container::Lzop),
    (b"\x28\xb5\x2f\xfd", Container::Zstd),
    (b"\x04\x22\x4d\x18", Container::Lz4),
    (b"LRZI\0", Container::Lrzip),
    (b"Salted__", Container::Openssl),
    (b"-----BEGIN PGP ", Container::Pgp),
    (b"%PDF-1.", Container::Pdf),
    (b"%PDF-2.", Container::Pdf),
    (b"SQLite format 3\0", Container::Database),
    (b"\x7fELF\x02\x01\x01", Container::Program),
    (b"\x7fELF\x01\x01\x01", Container::Program),
];

/// Whether a file begins as one of a format does.
type IsOne = fn(&[u8]) -> bool;

/// What a file is that begins with `start`, of which [`START`] bytes are enough.
pub fn at_start(start: &[u8]) -> Option<Container> {
    let by_magic = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
    if let Some((_, found)) = by_magic {
        return Some(*found);
    }
    if weak::is_web_page(start) {
        return Some(Container::WebPage);
    }
    if weak::is_boot_sector(start) {
        return None;
    }
    let weak: [(IsOne, Container); 10] = [
        (weak::is_vdi, Container::Vdi),
        (weak::is_tar, Container::Tar),
        (weak::is_cpio, Container::Cpio),
        (weak::is_gzip, Container::Gzip),
        (weak::is_skippable, Container::Zstd),
        (weak::is_bzip2, Container::Bzip2),
        (weak::is_legacy_lz4, Container::Lz4),
        (weak::is_lzma, Container::Lzma),
        (weak::is_compress, Container::Compress),
        (weak::is_zlib, Container::Zlib),
    ];
    let found = weak.iter().find(|(is, _)| is(start));
    found.map(|(_, found)| *found)
}

/// What a file of `size` bytes is that ends in `end`, its last [`END`] bytes.
pub fn at_end(end: &[u8], size: u64) -> Option<Container> {
    if end.len() != END {
        return None;
    }
    if weak::is_vhd_footer(end, size) {
        return Some(Container::FixedVhd);
    }
    if weak::is_dynamic_vhd_footer(end) {
        return Some(Container::Vhd);
    }
    // The trailer of a UDIF image: its version is 4, its size 512.
    let is_dmg = end.starts_with(b"koly\0\0\0\x04\0\0\x02\0");
    is_dmg.then_some(Container::Dmg)
}

/// Why what unpacks to `length` bytes, of which `start` are the first, can be no disk; `None` where it can. A disk may
/// have any number of bytes from a sector on: what is behind the last whole sector of it is written as it is.
pub fn no_disk(start: &[u8], length: u64) -> Option<String> {
    let shown = units::bytes(length);
    if length < SECTOR as u64 {
        return Some(format!("{length} bytes are less than a sector of {SECTOR}"));
    }
    let odd = !length.is_multiple_of(SECTOR as u64);
    let text = odd && weak::is_text(&start[..start.len().min(START)]);
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
        assert_eq!(at_start(&padded(&[])), None);
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
            // Of 64 KiB of zeros.
            (
                b"\x78\x9c\xed\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\x0a",
                Container::Zlib,
            ),
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
        // The first copy of a dynamic one may be damaged: the one at the end counts for any size.
        footer[63] = 3;
        footer[64..68].fill(0);
        let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
        assert_eq!(at_end(&footer, 4096), Some(Container::Vhd));
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
            let _ = weak::is_text(&start);
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
