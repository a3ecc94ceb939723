//! What no FAT can hold, found in the tree before the disk is written.

use super::volumes::Volumes;
use anyhow::bail;
use pitstop_trees::entry::Kind;
use pitstop_trees::index::Index;
use std::collections::HashSet;

/// Bytes of a file (Microsoft's FAT specification, 6).
const FILE_MOST: u64 = u32::MAX as u64;
/// Bytes of a name.
const NAME_MOST: usize = 255;
/// Letters that no long name has (Microsoft's FAT specification, 7), beside those below a space.
const FORBIDDEN: &str = "\"*/:<>?\\|\x7f";

pub const KINDS: &str = "FAT keeps files and folders alone";
pub const CAPITALS: &str = "another name in that folder is the same but for capitals";

/// # Errors
/// Names the first path of the tree that cannot be on the FAT where it would go.
pub fn check(index: &Index, volumes: &Volumes) -> anyhow::Result<()> {
    let is_fat = |filesystem: &str| filesystem == "vfat";
    if !volumes.all.iter().any(|it| is_fat(volumes.filesystem(it))) {
        return Ok(());
    }
    let mut names = HashSet::new();
    for entry in index.entries() {
        let path = entry.path.to_string();
        let volume = volumes.of(&path);
        let on_fat = |volume: &&_| is_fat(volumes.filesystem(volume));
        let Some(volume) = volume.filter(on_fat).filter(|it| it.mount != path) else {
            continue;
        };
        let name = entry.path.name();
        let folded = String::from_utf8_lossy(name).to_uppercase();
        let why = match fault(name, &entry.kind) {
            None if names.insert((entry.path.folder(), folded)) => continue,
            None => CAPITALS,
            Some(why) => why,
        };
        bail!(
            "{path} of the tree cannot be on {}, which is to be vfat: {why}. Give {} another filesystem, or leave {path} out of the \
             tree",
            volume.mount,
            volume.mount
        );
    }
    Ok(())
}

/// Why something with this name is on no FAT.
fn fault(name: &[u8], kind: &Kind) -> Option<&'static str> {
    if !matches!(kind, Kind::Folder | Kind::File { .. } | Kind::HardLink(_)) {
        return Some(KINDS);
    }
    if matches!(kind, Kind::File { size, .. } if *size > FILE_MOST) {
        return Some("FAT keeps no file of 4 GiB or more");
    }
    of_name(name)
}

/// Why FAT takes no such name.
pub fn of_name(name: &[u8]) -> Option<&'static str> {
    let Ok(name) = str::from_utf8(name) else {
        return Some("its name is no UTF-8");
    };
    let is_forbidden =
        |letter: char| !(' '..='\u{ffff}').contains(&letter) || FORBIDDEN.contains(letter);
    if name.contains(is_forbidden) {
        return Some("its name has a letter that FAT has not");
    }
    (name.len() > NAME_MOST).then_some("its name is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Kind {
        Kind::File {
            size,
            extents: None,
            hash: pitstop_trees::entry::Hash::default(),
        }
    }

    #[test]
    fn a_fat_has_files_and_folders_with_plain_names() {
        assert_eq!(fault(b"large", &file(u32::MAX.into())), None);
        for name in ["vmlinuz-6.1.0", "a b+c,d;e=f[g]", ".dot", "grün"] {
            assert_eq!(fault(name.as_bytes(), &Kind::Folder), None, "{name}");
        }
        for (name, kind, why) in [
            (&b"vmlinuz"[..], Kind::Symlink(b"x".into()), "alone"),
            (b"pipe", Kind::Fifo, "alone"),
            (b"a:b", Kind::Folder, "a letter"),
            (b"a\nb", Kind::Folder, "a letter"),
            (b"\xff", Kind::Folder, "no UTF-8"),
            (b"large", file(1 << 32), "4 GiB"),
        ] {
            assert!(fault(name, &kind).unwrap().contains(why), "{why}");
        }
    }
}
