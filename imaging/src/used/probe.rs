//! Recognises what is on a partition. Two signatures at once mean that one is a leftover, and nobody can
//! tell which: such a partition is kept whole.

use super::{Doubt, Label, btrfs, exfat, ext, f2fs, fat, lvm, ntfs, swap, xfs};
use crate::extents::Extents;
use crate::source::ReadAt;

/// What is on a volume.
pub(super) struct Found {
    /// Empty when nothing was recognised.
    pub(super) name: String,
    pub(super) label: Label,
    pub(super) map: Result<Extents, Doubt>,
    /// What of it is kept whole although there is a map.
    pub(super) remark: String,
}

impl Found {
    fn whole(name: &str, doubt: Doubt) -> Self {
        Self {
            name: name.into(),
            label: Label::default(),
            map: Err(doubt),
            remark: String::new(),
        }
    }
}

/// A signature at a fixed place; a negative place counts from the end.
struct Magic {
    name: &'static str,
    at: i64,
    bytes: &'static [u8],
}

const fn magic(name: &'static str, at: i64, bytes: &'static [u8]) -> Magic {
    Magic { name, at, bytes }
}

/// What is recognised, but not read: every block of it is kept.
const OPAQUE: &[Magic] = &[
    magic("LUKS", 0, b"LUKS\xba\xbe"),
    magic("LUKS", 0x4000, b"SKUL\xba\xbe"),
    magic("LUKS", 0x8000, b"SKUL\xba\xbe"),
    magic("BitLocker", 3, b"-FVE-FS-"),
    magic("ReFS", 3, b"ReFS\0"),
    magic("apfs", 32, b"NXSB"),
    magic("hfsplus", 1024, b"H+\0\x04"),
    magic("hfsplus", 1024, b"HX\0\x05"),
    magic("hfs", 1024, b"BD"),
    magic("iso9660", 32769, b"CD001"),
    magic("udf", 32769, b"BEA01"),
    magic("squashfs", 0, b"hsqs"),
    magic("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    magic("jfs", 32768, b"JFS1"),
    magic("nilfs2", 1030, b"\x34\x34"),
    magic("reiserfs", 65588, b"ReIsEr"),
    magic("reiserfs", 8244, b"ReIsEr"),
    magic("gfs2", 65536, b"\x01\x16\x19\x70"),
    magic("ocfs2", 8192, b"OCFSV2"),
    magic("bcachefs", 4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    magic("bcache", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    magic("md member", 0, b"\xfc\x4e\x2b\xa9"),
    magic("md member", 4096, b"\xfc\x4e\x2b\xa9"),
    magic("vmfs", 0x10_0000, b"\x0d\xd0\x01\xc0"),
    magic("stratis", 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    magic("ubi", 0, b"UBI#"),
    magic("DRBD", -4036, b"\x83\x74\x02\x6b"),
    magic("DRBD", -4036, b"\x83\x74\x02\x6c"),
];

/// A filesystem whose map can be read.
struct Reader {
    probe: fn(&mut dyn ReadAt) -> Option<&'static str>,
    label: fn(&mut dyn ReadAt) -> Result<Label, Doubt>,
    map: fn(&mut dyn ReadAt) -> Result<Extents, Doubt>,
}

const READERS: &[Reader] = &[
    Reader {
        probe: |volume| ext::probe(volume).then(|| ext::name(volume)),
        label: ext::label,
        map: ext::map,
    },
    Reader {
        probe: |volume| fat::probe(volume).map(|_| "vfat"),
        label: fat::label,
        map: fat::map,
    },
    Reader {
        probe: |volume| swap::probe(volume).then_some("swap"),
        label: swap::label,
        map: swap::map,
    },
    Reader {
        probe: |volume| xfs::probe(volume).then_some("xfs"),
        label: xfs::label,
        map: xfs::map,
    },
    Reader {
        probe: |volume| btrfs::probe(volume).then_some("btrfs"),
        label: btrfs::label,
        map: btrfs::map,
    },
    Reader {
        probe: |volume| ntfs::probe(volume).then_some("ntfs"),
        label: ntfs::label,
        map: ntfs::map,
    },
    Reader {
        probe: |volume| exfat::probe(volume).then_some("exfat"),
        label: exfat::label,
        map: exfat::map,
    },
    Reader {
        probe: |volume| f2fs::probe(volume).then_some("f2fs"),
        label: f2fs::label,
        map: f2fs::map,
    },
];

/// Recognises what is on `volume` and reads its map, through logical volumes if there are any.
pub(super) fn look(volume: &mut dyn ReadAt) -> Found {
    if !lvm::probe(volume) {
        return look_plain(volume);
    }
    let others = names(volume);
    if !others.is_empty() {
        return Found::whole("", ambiguous("LVM2", &others));
    }
    let (map, remark) = match lvm::map(volume) {
        Ok(mapped) => (Ok(mapped.kept), mapped.remarks.join("; ")),
        Err(doubt) => (Err(doubt), String::new()),
    };
    Found {
        name: "LVM2_member".into(),
        label: lvm::label(volume).unwrap_or_default(),
        map,
        remark,
    }
}

/// What the signatures on `volume` say, without a look at its map.
pub(super) fn recognise(volume: &mut dyn ReadAt) -> (String, Label) {
    if lvm::probe(volume) {
        return ("LVM2_member".into(), lvm::label(volume).unwrap_or_default());
    }
    let label = match readers(volume).as_slice() {
        [(reader, _)] => (reader.label)(volume).unwrap_or_default(),
        _ => Label::default(),
    };
    (names(volume).join(" or "), label)
}

/// The same for what has no volumes within.
pub(super) fn look_plain(volume: &mut dyn ReadAt) -> Found {
    if let Some(name) = opaque(volume) {
        let others = readers(volume);
        return match others.as_slice() {
            [] => Found::whole(name, Doubt::new(format!("{name} is kept as it is"))),
            _ => Found::whole("", ambiguous(name, &names(volume))),
        };
    }
    if lvm::probe(volume) {
        return Found::whole(
            "LVM2_member",
            Doubt::new("LVM2 within LVM2 is kept as it is"),
        );
    }
    match readers(volume).as_slice() {
        [] => Found::whole("", Doubt::new("nothing was recognised here")),
        [(reader, name)] => Found {
            name: (*name).into(),
            label: (reader.label)(volume).unwrap_or_default(),
            map: (reader.map)(volume),
            remark: String::new(),
        },
        [(_, first), ..] => Found::whole("", ambiguous(first, &names(volume))),
    }
}

fn ambiguous(first: &str, names: &[&'static str]) -> Doubt {
    let others: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| *name != first)
        .collect();
    Doubt::new(format!("it could be {first} or {}", others.join(" or ")))
}

fn readers(volume: &mut dyn ReadAt) -> Vec<(&'static Reader, &'static str)> {
    READERS
        .iter()
        .filter_map(|reader| (reader.probe)(volume).map(|name| (reader, name)))
        .collect()
}

/// Everything that is recognised, but LVM2.
fn names(volume: &mut dyn ReadAt) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = opaque(volume).into_iter().collect();
    names.extend(readers(volume).into_iter().map(|(_, name)| name));
    names
}

/// A filesystem on the whole disk that contradicts the MBR it was found with: one of them is a leftover.
pub(super) fn beside_mbr(disk: &mut dyn ReadAt) -> Option<&'static str> {
    let lvm = lvm::probe(disk).then_some("LVM2");
    lvm.or_else(|| names(disk).first().copied())
}

fn opaque(volume: &mut dyn ReadAt) -> Option<&'static str> {
    OPAQUE
        .iter()
        .find(|magic| is_there(volume, magic))
        .map(|magic| magic.name)
        .or_else(|| is_old_md(volume).then_some("md member"))
        .or_else(|| is_zfs(volume).then_some("ZFS"))
}

fn is_there(volume: &mut dyn ReadAt, magic: &Magic) -> bool {
    let at = if magic.at < 0 {
        volume.size().checked_sub(magic.at.unsigned_abs())
    } else {
        u64::try_from(magic.at).ok()
    };
    at.is_some_and(|at| {
        volume
            .bytes_at(at, magic.bytes.len())
            .is_ok_and(|found| found == magic.bytes)
    })
}

/// md superblocks 0.90 and 1.0 are near the end, so that the start looks like the filesystem inside.
fn is_old_md(volume: &mut dyn ReadAt) -> bool {
    const MAGIC: u32 = 0xa92b_4efc;
    let size = volume.size();
    // md.rst: 64 KiB from the end, on a 64 KiB boundary; and at least 8 KiB from the end, on 4 KiB.
    let places = [
        (size & !0xffff).checked_sub(0x1_0000),
        size.checked_sub(0x2000).map(|at| at & !0xfff),
    ];
    places.into_iter().flatten().any(|at| {
        volume
            .bytes_at(at, 4)
            .is_ok_and(|bytes| bytes == MAGIC.to_le_bytes() || bytes == MAGIC.to_be_bytes())
    })
}

/// ZFS keeps two labels at each end, each with a ring of uberblocks from 128 KiB on.
fn is_zfs(volume: &mut dyn ReadAt) -> bool {
    const LABEL: u64 = 256 << 10;
    const UBERBLOCK: u64 = 0x00ba_b10c;
    let end = volume.size() & !(LABEL - 1);
    let labels = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    labels.into_iter().flatten().any(|label| {
        volume
            .bytes_at(label + LABEL / 2, 128 << 10)
            .is_ok_and(|ring| {
                ring.chunks(1024).any(|slot| {
                    slot.starts_with(&UBERBLOCK.to_le_bytes())
                        || slot.starts_with(&UBERBLOCK.to_be_bytes())
                })
            })
    })
}
