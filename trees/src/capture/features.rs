//! Features of filesystems, by the names that `mkfs` takes: so that another disk gets the same ones, and no newer ones that the
//! system's boot loader or kernel does not know.

use pitstop_imaging::source::ReadAt;

/// A word of a superblock, a bit of it, and the feature that it says.
type Feature = (usize, u64, &'static str);

/// Documentation/filesystems/ext4/super.rst: words of 32 bits.
const EXT: [Feature; 31] = [
    (0x5c, 0x1, "dir_prealloc"),
    (0x5c, 0x4, "has_journal"),
    (0x5c, 0x8, "ext_attr"),
    (0x5c, 0x10, "resize_inode"),
    (0x5c, 0x20, "dir_index"),
    (0x5c, 0x200, "sparse_super2"),
    (0x5c, 0x400, "fast_commit"),
    (0x5c, 0x800, "stable_inodes"),
    (0x5c, 0x1000, "orphan_file"),
    (0x60, 0x2, "filetype"),
    (0x60, 0x10, "meta_bg"),
    (0x60, 0x40, "extent"),
    (0x60, 0x80, "64bit"),
    (0x60, 0x100, "mmp"),
    (0x60, 0x200, "flex_bg"),
    (0x60, 0x400, "ea_inode"),
    (0x60, 0x2000, "metadata_csum_seed"),
    (0x60, 0x4000, "large_dir"),
    (0x60, 0x8000, "inline_data"),
    (0x60, 0x10000, "encrypt"),
    (0x60, 0x20000, "casefold"),
    (0x64, 0x1, "sparse_super"),
    (0x64, 0x2, "large_file"),
    (0x64, 0x8, "huge_file"),
    (0x64, 0x10, "uninit_bg"),
    (0x64, 0x20, "dir_nlink"),
    (0x64, 0x40, "extra_isize"),
    (0x64, 0x100, "quota"),
    (0x64, 0x400, "metadata_csum"),
    (0x64, 0x2000, "project"),
    (0x64, 0x8000, "verity"),
];

/// The kernel's `struct xfs_dsb`: the words of version 5, `sb_features_ro_compat` and `sb_features_incompat`.
const XFS: [Feature; 10] = [
    (212, 0x1, "finobt"),
    (212, 0x2, "rmapbt"),
    (212, 0x4, "reflink"),
    (212, 0x8, "inobtcount"),
    (216, 0x1, "ftype"),
    (216, 0x2, "sparse"),
    (216, 0x8, "bigtime"),
    (216, 0x20, "nrext64"),
    (216, 0x40, "exchange"),
    (216, 0x80, "parent"),
];

/// The kernel's `struct btrfs_super_block`: `compat_ro_flags` and `incompat_flags`.
const BTRFS: [Feature; 6] = [
    (0xb4, 0x1, "free-space-tree"),
    (0xb4, 0x8, "block-group-tree"),
    (0xbc, 0x4, "mixed-bg"),
    (0xbc, 0x40, "extref"),
    (0xbc, 0x100, "skinny-metadata"),
    (0xbc, 0x200, "no-holes"),
];

/// The features of the filesystem of type `kind` on `device`; none where they cannot be read.
pub fn of(kind: &str, device: &dyn ReadAt) -> Vec<String> {
    let superblock = |at| device.bytes_at(at, 1024).unwrap_or_default();
    match kind {
        "ext2" | "ext3" | "ext4" => of_ext(&superblock(1024)),
        "xfs" => of_xfs(&superblock(0)),
        "btrfs" => of_btrfs(&superblock(64 << 10)),
        _ => Vec::new(),
    }
}

fn of_ext(superblock: &[u8]) -> Vec<String> {
    let word = |at| bytes(superblock, at).map_or(0, u32::from_le_bytes).into();
    names(&EXT, word)
}

fn of_xfs(superblock: &[u8]) -> Vec<String> {
    // `sb_versionnum`: only version 5 has these words.
    let version = bytes(superblock, 100).map_or(0, u16::from_be_bytes) & 0xf;
    if version != 5 {
        return Vec::new();
    }
    let word = |at| bytes(superblock, at).map_or(0, u32::from_be_bytes).into();
    let mut found = vec!["crc".to_owned()];
    found.extend(names(&XFS, word));
    found
}

fn of_btrfs(superblock: &[u8]) -> Vec<String> {
    let word = |at| bytes(superblock, at).map_or(0, u64::from_le_bytes);
    names(&BTRFS, word)
}

fn names(features: &[Feature], word: impl Fn(usize) -> u64) -> Vec<String> {
    let set = features.iter().filter(|(at, bit, _)| word(*at) & bit != 0);
    set.map(|(.., name)| (*name).to_owned()).collect()
}

fn bytes<const N: usize>(superblock: &[u8], at: usize) -> Option<[u8; N]> {
    superblock.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::image::FileSource;
    use std::fs::File;
    use std::process::Command;

    fn made(program: &str, arguments: &[&str], kind: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        File::options()
            .write(true)
            .open(file.path())
            .unwrap()
            .set_len(400 << 20)
            .unwrap();
        let status = Command::new(program)
            .args(arguments)
            .arg(file.path())
            .status()
            .unwrap();
        assert!(status.success());
        of(kind, &FileSource::open(file.path()).unwrap())
    }

    #[test]
    fn what_the_tools_switch_on_and_off_is_read() {
        let ext = made(
            "mkfs.ext4",
            &["-qF", "-O", "^metadata_csum,uninit_bg"],
            "ext4",
        );
        let has = |found: &[String], name: &str| found.iter().any(|found| found == name);
        assert!(has(&ext, "uninit_bg") && has(&ext, "extent") && !has(&ext, "metadata_csum"));
        let xfs = made("mkfs.xfs", &["-q", "-m", "bigtime=0,rmapbt=1"], "xfs");
        assert!(
            has(&xfs, "crc") && has(&xfs, "rmapbt") && !has(&xfs, "bigtime"),
            "{xfs:?}"
        );
        let btrfs = made("mkfs.btrfs", &["-q", "-O", "^no-holes"], "btrfs");
        assert!(
            has(&btrfs, "extref") && !has(&btrfs, "no-holes"),
            "{btrfs:?}"
        );
    }
}
