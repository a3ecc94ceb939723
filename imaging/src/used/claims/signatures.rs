//! What metadata is known by: partition tables, RAID, volumes, encryption, filesystems, swap. The only list of it.
//!
//! Places and fields are those of util-linux' libblkid, which udev asks, and of each format's own documents. A signature
//! of four bytes and more is taken at its word; one that is shorter has other fields checked.

use super::checks;
use super::edges::Edges;
use super::{Claim, Filesystem, Owner};
use crate::source::ReadAt;

pub const ZFS: &str = "ZFS";
pub const MD: &str = "md member";
/// What begins the hashes of dm-verity, wherever they lie.
pub const VERITY: &[u8] = b"verity\0\0";

type Check = fn(&mut Edges<'_>, u64) -> bool;

/// Bytes that are somebody's at these places.
pub struct Signature {
    pub owner: Owner,
    pub name: &'static str,
    pub magic: &'static [u8],
    pub places: &'static [Place],
    /// Whether the other fields of what is found at a place make sense.
    check: Option<Check>,
    /// So many bytes before the magic begins what `wipefs` calls the signature; negative: behind its beginning.
    lead: i64,
}

/// Where, in bytes of the volume.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Start(u64),
    /// So far before the end of the last whole `unit`.
    End {
        unit: u64,
        back: u64,
    },
    /// The rings of uberblocks in the four labels of ZFS.
    ZfsRings,
}

use Place::Start;

/// ZFS keeps two labels at each end, each with a ring of uberblocks in its second half.
const LABEL: u64 = 256 << 10;
const UBERBLOCK: u64 = 1024;

impl Place {
    pub fn positions(self, size: u64) -> Vec<u64> {
        match self {
            Start(at) => vec![at],
            Self::End { unit, back } => {
                let end = size - size % unit;
                end.checked_sub(back).into_iter().collect()
            }
            Self::ZfsRings => {
                let end = size - size % LABEL;
                let labels = [
                    Some(0),
                    Some(LABEL),
                    end.checked_sub(2 * LABEL),
                    end.checked_sub(LABEL),
                ];
                let slots = (LABEL / 2..LABEL).step_by(1024);
                let slots: Vec<u64> = slots.collect();
                labels
                    .into_iter()
                    .flatten()
                    .flat_map(|label| slots.iter().map(move |slot| label + slot))
                    .collect()
            }
        }
    }

    /// Bytes from the beginning of a sector of 512 bytes, wherever the volume begins and ends on one.
    pub fn in_sector(self) -> usize {
        const SECTOR: u64 = 512;
        let at = match self {
            Start(at) => at % SECTOR,
            Self::End { back, .. } => (SECTOR - back % SECTOR) % SECTOR,
            Self::ZfsRings => UBERBLOCK % SECTOR,
        };
        usize::try_from(at).unwrap_or(0)
    }
}

impl Signature {
    /// Whether the magic alone is never met by chance.
    pub fn is_long(&self) -> bool {
        let telling = self.magic.iter().filter(|byte| **byte != 0);
        self.magic.len() >= 4 && telling.count() >= 3
    }

    #[cfg(test)]
    pub fn is_unchecked(&self) -> bool {
        self.check.is_none()
    }

    fn find(&self, edges: &mut Edges<'_>, list: &mut Vec<Claim>) {
        let size = edges.size();
        for place in self.places {
            for at in place.positions(size) {
                let makes_sense = |edges: &mut Edges<'_>| self.check.is_none_or(|ok| ok(edges, at));
                if !edges.has(at, self.magic) || !makes_sense(edges) {
                    continue;
                }
                list.push(Claim {
                    owner: self.owner,
                    name: self.name,
                    at: at.saturating_add_signed(-self.lead),
                });
                // One place is enough, but for a RAID: it has to be known which of its places it is.
                if self.owner != Owner::Md {
                    return;
                }
            }
        }
    }
}

/// All claims by signature, but FAT's, which has none worth the name.
pub fn all(edges: &mut Edges<'_>) -> Vec<Claim> {
    let mut list: Vec<Claim> = Vec::new();
    for signature in SIGNATURES {
        let known = |claim: &Claim| claim.name == signature.name && claim.owner != Owner::Md;
        if !list.iter().any(known) {
            signature.find(edges, &mut list);
        }
    }
    list
}

const fn sector_back(sectors: u64) -> Place {
    Place::End {
        unit: 512,
        back: sectors * 512,
    }
}

const fn is(
    owner: Owner,
    name: &'static str,
    magic: &'static [u8],
    places: &'static [Place],
) -> Signature {
    Signature {
        owner,
        name,
        magic,
        places,
        check: None,
        lead: 0,
    }
}

const fn checked(
    owner: Owner,
    name: &'static str,
    magic: &'static [u8],
    places: &'static [Place],
    check: Check,
) -> Signature {
    let mut signature = is(owner, name, magic, places);
    signature.check = Some(check);
    signature
}

const fn opaque(name: &'static str, magic: &'static [u8], places: &'static [Place]) -> Signature {
    is(Owner::Opaque, name, magic, places)
}

const fn with_lead(mut signature: Signature, lead: i64) -> Signature {
    signature.lead = lead;
    signature
}

const fn filesystem(
    own: Filesystem,
    name: &'static str,
    magic: &'static [u8],
    places: &'static [Place],
) -> Signature {
    is(Owner::Filesystem(own), name, magic, places)
}

/// The last ten bytes of a page, of every size that Linux has.
const SWAP: &[Place] = &[
    Start(0xff6),
    Start(0x1ff6),
    Start(0x3ff6),
    Start(0x7ff6),
    Start(0xfff6),
];

const fn swap(magic: &'static [u8]) -> Signature {
    filesystem(Filesystem::Swap, "swap", magic, SWAP)
}

/// Superblocks of UFS, each with its magic at 1372.
const UFS: &[Place] = &[
    Start(1372),
    Start((8 << 10) + 1372),
    Start((64 << 10) + 1372),
    Start((256 << 10) + 1372),
];

const fn ufs(magic: &'static [u8]) -> Signature {
    opaque("ufs", magic, UFS)
}

const MD_0: Place = Place::End {
    unit: 64 << 10,
    back: 64 << 10,
};
const MD_1_0: Place = Place::End {
    unit: 4 << 10,
    back: 8 << 10,
};
const DISC: &[Place] = &[Start((32 << 10) + 1)];
const DRBD: &[Place] = &[Place::End {
    unit: 512,
    back: 4096 - 60,
}];
const LUKS2_SECOND: &[Place] = &[
    Start(0x4000),
    Start(0x8000),
    Start(0x1_0000),
    Start(0x2_0000),
    Start(0x4_0000),
    Start(0x8_0000),
    Start(0x10_0000),
    Start(0x20_0000),
    Start(0x40_0000),
];
/// Promise looks for it in all of these (as `dmraid` does).
const PROMISE: &[Place] = &[
    sector_back(16),
    sector_back(63),
    sector_back(255),
    sector_back(256),
    sector_back(399),
    sector_back(591),
    sector_back(675),
    sector_back(735),
    sector_back(911),
    sector_back(951),
    sector_back(974),
    sector_back(991),
    sector_back(3087),
];
const DDF: &[Place] = &[
    sector_back(1),
    sector_back(257),
    // The same on sectors of 4096 bytes.
    sector_back(8),
];
const BCACHE_MAGIC: Place = Start(4096 + 24);
const MINIX: &[Place] = &[Start(1024 + 16)];
const SYSV: &[Place] = &[
    Start(512 + 504),
    Start((9 << 10) + 512 + 504),
    Start((15 << 10) + 512 + 504),
    Start((18 << 10) + 512 + 504),
];
const FIRMWARE: Owner = Owner::Firmware;

pub const SIGNATURES: &[Signature] = &[
    // Read.
    checked(
        Owner::Filesystem(Filesystem::Ext),
        "ext4",
        b"\x53\xef",
        &[Start(1024 + 0x38)],
        checks::ext,
    ),
    swap(b"SWAPSPACE2"),
    swap(b"SWAP-SPACE"),
    // What the kernel, uswsusp and TuxOnIce put there while a system sleeps.
    swap(b"S1SUSPEND"),
    swap(b"S2SUSPEND"),
    swap(b"ULSUSPEND"),
    swap(b"LINHIB0001"),
    swap(b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"),
    filesystem(Filesystem::Xfs, "xfs", b"XFSB", &[Start(0)]),
    filesystem(
        Filesystem::Btrfs,
        "btrfs",
        b"_BHRfS_M",
        &[Start((64 << 10) + 64)],
    ),
    filesystem(Filesystem::Ntfs, "ntfs", b"NTFS    ", &[Start(3)]),
    filesystem(Filesystem::Exfat, "exfat", b"EXFAT   ", &[Start(3)]),
    filesystem(
        Filesystem::F2fs,
        "f2fs",
        b"\x10\x20\xf5\xf2",
        &[Start(1024), Start(5120)],
    ),
    with_lead(
        checked(
            Owner::Lvm2,
            "LVM2_member",
            b"LABELONE",
            &[Start(0), Start(512), Start(1024), Start(1536)],
            checks::lvm2,
        ),
        -24,
    ),
    // RAID.
    is(Owner::Md, MD, b"\xfc\x4e\x2b\xa9", &[MD_0]),
    is(Owner::Md, MD, b"\xa9\x2b\x4e\xfc", &[MD_0]),
    checked(
        Owner::Md,
        MD,
        b"\xfc\x4e\x2b\xa9",
        &[MD_1_0, Start(0), Start(4096)],
        checks::md_1,
    ),
    is(FIRMWARE, "DDF RAID", b"\xde\x11\xde\x11", DDF),
    is(FIRMWARE, "DDF RAID", b"\x11\xde\x11\xde", DDF),
    is(
        FIRMWARE,
        "Intel RAID",
        b"Intel Raid ISM Cfg Sig. ",
        &[sector_back(2), sector_back(16)],
    ),
    is(FIRMWARE, "LSI MegaRAID", b"$XIDE$", &[sector_back(1)]),
    checked(
        FIRMWARE,
        "VIA RAID",
        b"\x55\xaa",
        &[sector_back(1)],
        checks::via,
    ),
    checked(
        FIRMWARE,
        "Silicon Image RAID",
        b"\x00\x00\x00\x2f",
        &[Place::End {
            unit: 512,
            back: 512 - 0x60,
        }],
        checks::silicon,
    ),
    is(FIRMWARE, "NVIDIA RAID", b"NVIDIA  ", &[sector_back(2)]),
    is(
        FIRMWARE,
        "Promise RAID",
        b"Promise Technology, Inc.",
        PROMISE,
    ),
    is(
        FIRMWARE,
        "HighPoint RAID",
        b"\xf0\x16\x78\x5a",
        &[sector_back(11), Start(4608 + 32)],
    ),
    is(
        FIRMWARE,
        "HighPoint RAID",
        b"\xfd\x16\x78\x5a",
        &[sector_back(11), Start(4608 + 32)],
    ),
    checked(
        FIRMWARE,
        "JMicron RAID",
        b"JM",
        &[sector_back(1)],
        checks::jmicron,
    ),
    checked(
        FIRMWARE,
        "Adaptec RAID",
        b"\x37\xfc\x4d\x1e",
        &[sector_back(1)],
        checks::adaptec,
    ),
    opaque("DRBD", b"\x83\x74\x02\x6b", DRBD),
    opaque("DRBD", b"\x83\x74\x02\x6c", DRBD),
    opaque("DRBD", b"\x83\x74\x02\x6d", DRBD),
    opaque("DRBD", b"$DRBDmgr=q", &[Start(0)]),
    opaque("DRBD", b"DRBDdlh*", &[Start(0)]),
    opaque("GEOM", b"GEOM::", &[sector_back(1), sector_back(8)]),
    opaque("OpenBSD softraid", b"marcCRAM", &[Start(8192)]),
    // Volume managers and caches.
    checked(Owner::Opaque, "LVM1", b"HM", &[Start(0)], checks::lvm1),
    opaque("Windows LDM", b"PRIVHEAD", &[Start(3072)]),
    opaque(ZFS, b"\x0c\xb1\xba\0\0\0\0\0", &[Place::ZfsRings]),
    opaque(ZFS, b"\0\0\0\0\0\xba\xb1\x0c", &[Place::ZfsRings]),
    opaque(
        "bcache",
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        &[BCACHE_MAGIC],
    ),
    opaque(
        "bcachefs",
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        &[
            BCACHE_MAGIC,
            Start((2 << 20) + 24),
            Place::End {
                unit: 512,
                back: (1 << 20) - 24,
            },
        ],
    ),
    opaque("Ceph BlueStore", b"bluestore block device", &[Start(0)]),
    opaque("VDO", b"dmvdo001", &[Start(0)]),
    opaque(
        "stratis",
        b"!Stra0tis\x86\xff\x02^\x41rh",
        &[Start(512 + 4), Start(9 * 512 + 4)],
    ),
    opaque("dm-integrity", b"integrt\0", &[Start(0)]),
    is(Owner::Verity, "dm-verity", VERITY, &[Start(0)]),
    opaque("LVM snapshot", b"SnAp", &[Start(0)]),
    opaque("Oracle ASM", b"ORCLDISK", &[Start(32)]),
    opaque("mpool", b"mpoolDev", &[Start(0)]),
    opaque(
        "Android verified boot",
        b"AVBf",
        &[Place::End {
            unit: 512,
            back: 64,
        }],
    ),
    // Encryption.
    opaque("LUKS", b"LUKS\xba\xbe", &[Start(0)]),
    checked(
        Owner::Opaque,
        "LUKS",
        b"SKUL\xba\xbe",
        LUKS2_SECOND,
        checks::luks_second,
    ),
    with_lead(
        is(Owner::BitLocker, "BitLocker", b"-FVE-FS-", &[Start(3)]),
        3,
    ),
    // BitLocker To Go, and one that encrypts used space alone: their GUIDs in the boot sector.
    with_lead(
        is(
            Owner::BitLocker,
            "BitLocker",
            b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
            &[Start(424)],
        ),
        424,
    ),
    with_lead(
        is(
            Owner::BitLocker,
            "BitLocker",
            b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8",
            &[Start(424)],
        ),
        424,
    ),
    checked(
        Owner::Opaque,
        "FileVault 2",
        b"CS",
        &[Start(88)],
        checks::filevault,
    ),
    // Filesystems that are kept whole.
    with_lead(opaque("ReFS", b"ReFS\0", &[Start(3)]), 3),
    opaque("apfs", b"NXSB", &[Start(32)]),
    opaque("hfsplus", b"H+\0\x04", &[Start(1024)]),
    opaque("hfsplus", b"HX\0\x05", &[Start(1024)]),
    checked(Owner::Opaque, "hfs", b"BD", &[Start(1024)], checks::hfs),
    is(Owner::Disc, "iso9660", b"CD001", DISC),
    is(Owner::Disc, "iso9660", b"CDROM", &[Start((32 << 10) + 9)]),
    is(Owner::Disc, "udf", b"BEA01", DISC),
    is(Owner::Disc, "udf", b"NSR02", DISC),
    is(Owner::Disc, "udf", b"NSR03", DISC),
    is(Owner::Disc, "udf", b"BOOT2", DISC),
    is(Owner::Disc, "udf", b"CDW02", DISC),
    is(Owner::Disc, "udf", b"TEA01", DISC),
    opaque("squashfs", b"hsqs", &[Start(0)]),
    opaque("squashfs", b"sqsh", &[Start(0)]),
    opaque("erofs", b"\xe2\xe1\xf5\xe0", &[Start(1024)]),
    opaque("jfs", b"JFS1", &[Start(32 << 10)]),
    checked(
        Owner::Opaque,
        "nilfs2",
        b"\x34\x34",
        &[
            Start(1024 + 6),
            // Its second superblock, by the end's last 4 KiB and by the last eight sectors.
            Place::End {
                unit: 4096,
                back: 4096 - 6,
            },
            Place::End {
                unit: 512,
                back: 4096 - 6,
            },
        ],
        checks::nilfs,
    ),
    opaque(
        "reiserfs",
        b"ReIsEr",
        &[
            Start((64 << 10) + 0x34),
            Start((8 << 10) + 0x34),
            Start((8 << 10) + 20),
        ],
    ),
    opaque("reiser4", b"ReIsEr4", &[Start(64 << 10)]),
    opaque("gfs2", b"\x01\x16\x19\x70", &[Start(64 << 10)]),
    opaque(
        "ocfs2",
        b"OCFSV2",
        &[Start(1024), Start(2048), Start(4096), Start(8192)],
    ),
    opaque("ocfs", b"OracleCFS", &[Start(8192)]),
    opaque("vmfs", b"\x0d\xd0\x01\xc0", &[Start(1 << 20)]),
    opaque("vmfs", b"\x5e\xf1\xab\x2f", &[Start(2 << 20)]),
    ufs(b"\x19\x01\x54\x19"),
    ufs(b"\x19\x54\x01\x19"),
    ufs(b"\x54\x19\x01\0"),
    ufs(b"\0\x01\x19\x54"),
    ufs(b"\x12\x56\x19\0"),
    ufs(b"\0\x19\x56\x12"),
    ufs(b"\x14\x50\x09\0"),
    ufs(b"\0\x09\x50\x14"),
    ufs(b"\x95\x21\x61\0"),
    ufs(b"\0\x61\x21\x95"),
    ufs(b"\x94\x19\x23\x05"),
    ufs(b"\x05\x23\x19\x94"),
    opaque("hammer", b"\x31\x30\x52\xc5\x4d\x4d\x41\xc8", &[Start(0)]),
    opaque("hammer2", b"\x11\x20\x17\x05\x32\x4d\x41\x48", &[Start(0)]),
    checked(Owner::Opaque, "minix", b"\x7f\x13", MINIX, checks::minix_le),
    checked(Owner::Opaque, "minix", b"\x8f\x13", MINIX, checks::minix_le),
    checked(Owner::Opaque, "minix", b"\x68\x24", MINIX, checks::minix_le),
    checked(Owner::Opaque, "minix", b"\x78\x24", MINIX, checks::minix_le),
    checked(Owner::Opaque, "minix", b"\x13\x7f", MINIX, checks::minix_be),
    checked(Owner::Opaque, "minix", b"\x13\x8f", MINIX, checks::minix_be),
    checked(Owner::Opaque, "minix", b"\x24\x68", MINIX, checks::minix_be),
    checked(Owner::Opaque, "minix", b"\x24\x78", MINIX, checks::minix_be),
    checked(
        Owner::Opaque,
        "minix",
        b"\x5a\x4d",
        &[Start(1024 + 24)],
        checks::minix_3,
    ),
    opaque("sysv", b"\x20\x7e\x18\xfd", SYSV),
    opaque("sysv", b"\xfd\x18\x7e\x20", SYSV),
    opaque("xenix", b"\x44\x55\x2b\0", &[Start(1024 + 0x3f8)]),
    opaque("xenix", b"\0\x2b\x55\x44", &[Start(1024 + 0x3f8)]),
    opaque("bfs", b"\xce\xfa\xad\x1b", &[Start(0)]),
    checked(
        Owner::Opaque,
        "befs",
        b"BFS1",
        &[Start(32), Start(512 + 32)],
        checks::befs,
    ),
    checked(
        Owner::Opaque,
        "befs",
        b"1SFB",
        &[Start(32), Start(512 + 32)],
        checks::befs,
    ),
    opaque("hpfs", b"\x49\xe8\x95\xf9", &[Start(8192)]),
    opaque("qnx6", b"\x22\x11\x19\x68", &[Start(8192)]),
    opaque("vxfs", b"\xf5\xfc\x01\xa5", &[Start(1024)]),
    opaque("vxfs", b"\xa5\x01\xfc\xf5", &[Start(8192)]),
    opaque("netware", b"SPB5", &[Start(4096)]),
    opaque("romfs", b"-rom1fs-", &[Start(0)]),
    opaque("cramfs", b"\x45\x3d\xcd\x28", &[Start(0), Start(512)]),
    opaque("cramfs", b"\x28\xcd\x3d\x45", &[Start(0), Start(512)]),
    opaque("zonefs", b"SFOZ", &[Start(0)]),
    opaque("scoutfs", b"\x8b\x42\x3c\x10", &[Start((64 << 10) + 4)]),
    opaque("exfs", b"EXFS", &[Start(0)]),
    opaque("ubi", b"UBI#", &[Start(0)]),
    opaque("ubifs", b"\x31\x18\x10\x06", &[Start(0)]),
    // Tables of other systems, which have partitions of their own within.
    checked(
        Owner::Table,
        "BSD disklabel",
        b"\x57\x45\x56\x82",
        &[Start(512), Start(64), Start(0)],
        checks::bsd_label,
    ),
    is(
        Owner::Table,
        "DragonFly disklabel",
        b"\x59\x4c\x46\xc4",
        &[Start(512)],
    ),
    checked(
        Owner::Table,
        "Sun disklabel",
        b"\xda\xbe",
        &[Start(508)],
        checks::sun_label,
    ),
    is(
        Owner::Table,
        "Solaris label",
        b"\xee\xde\x0d\x60",
        &[Start(512 + 12)],
    ),
    is(
        Owner::Table,
        "SGI disklabel",
        b"\x0b\xe5\xa9\x41",
        &[Start(0)],
    ),
    is(Owner::Table, "AIX label", b"\xc9\xc2\xd4\xc1", &[Start(0)]),
    checked(
        Owner::Table,
        "Apple partition map",
        b"ER",
        &[Start(0)],
        checks::apple_map,
    ),
    is(
        Owner::Table,
        "UnixWare table",
        b"\x0d\x60\x5e\xca",
        &[Start(29 * 512 + 4)],
    ),
];

/// What a leftover is looked for by, wherever it lies: what begins a boot sector, or is too short for the list above.
pub fn in_any_sector() -> impl Iterator<Item = (&'static str, &'static [u8], usize)> {
    const BOOT: [(&str, &[u8], usize); 4] = [
        ("GPT", b"EFI PART", 0),
        ("partition table or boot sector", b"\x55\xaa", 510),
        ("vfat", b"FAT1", 54),
        ("vfat", b"FAT32   ", 82),
    ];
    let known = SIGNATURES
        .iter()
        .filter(|signature| signature.is_long())
        .flat_map(|signature| {
            let at = signature.places.iter().map(|place| place.in_sector());
            at.map(|at| (signature.name, signature.magic, at))
        });
    BOOT.into_iter().chain(known)
}
