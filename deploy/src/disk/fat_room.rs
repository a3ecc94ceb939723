//! Whether all that is to be on a FAT fits, to the last cluster and the last entry of a folder, before the disk is written: its tool
//! makes one in a file full of holes, which tells.

use super::volumes::{Volume, Volumes};
use crate::boot::judge::Ways;
use anyhow::{Context, bail, ensure};
use fatfs::{FileSystem, FsOptions};
use pitstop_imaging::event::Silent;
use pitstop_imaging::layout::Wanted;
use pitstop_imaging::units;
use pitstop_trees::entry::Kind;
use pitstop_trees::index::Index;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::FileExt;

/// Bytes of an entry of a folder.
const ENTRY: u64 = 32;
/// Letters of a name that one entry has.
const LETTERS: usize = 13;
/// What the library takes for `.` and `..`.
const DOTS: u64 = 4;
/// The entries of a folder (Microsoft's FAT specification, 6).
const FOLDER_MOST: u64 = 1 << 16;
/// The tables of larger ones are not made to look at: no firmware has so many files.
const LARGEST: u64 = 64 << 30;
/// Where the first sector has the number of entries of the top folder, 0 of a FAT32's, which grows.
const TOP: u64 = 17;

/// A new FAT.
struct Room {
    /// Bytes of a cluster.
    cluster: u64,
    /// How many are free.
    clusters: u64,
    /// How many entries its top folder has.
    top: Option<u64>,
}

impl Room {
    fn of(wanted: &Wanted, sector: u64) -> anyhow::Result<Self> {
        let file = tempfile::NamedTempFile::new().context("making a file for a filesystem")?;
        file.as_file()
            .set_len(wanted.size)
            .context("making a file for a filesystem")?;
        wanted.make(file.path(), sector, &Silent)?;
        let reading = || format!("looking at the vfat that {} gets", wanted.on);
        let mut top = [0; 2];
        file.as_file()
            .read_exact_at(&mut top, TOP)
            .with_context(reading)?;
        let top = u64::from(u16::from_le_bytes(top));
        let opened = file.reopen().with_context(reading)?;
        let system = FileSystem::new(opened, FsOptions::new()).with_context(reading)?;
        let stats = system.stats().with_context(reading)?;
        let named = u64::from(!wanted.entry.label.is_empty());
        Ok(Self {
            cluster: stats.cluster_size().into(),
            clusters: stats.free_clusters().into(),
            top: (top > 0).then(|| top - named),
        })
    }
}

/// What is to go onto it.
#[derive(Default)]
struct Load {
    /// Bytes of each file.
    files: Vec<u64>,
    /// How many entries each folder has, by its path in capitals; the top's is empty.
    folders: BTreeMap<String, u64>,
}

impl Load {
    fn of(index: &Index, volumes: &Volumes, volume: &Volume, ways: &Ways) -> Self {
        let mut load = Self::default();
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        load.folders.insert(String::new(), 0);
        for entry in index.entries() {
            let path = entry.path.to_string();
            let here = volumes.of(&path).is_some_and(|it| std::ptr::eq(it, volume));
            let within = path.strip_prefix(&volume.mount).filter(|_| here);
            let Some(within) = within.and_then(|within| within.strip_prefix('/')) else {
                continue;
            };
            let whole = |kind: &Kind| match kind {
                Kind::File { size, .. } => *size,
                _ => 0,
            };
            match &entry.kind {
                Kind::Folder => load.folder(within),
                // Each of its names is a file there.
                Kind::HardLink(to) => {
                    let found = index.find(to.as_bytes());
                    let size = found.map_or(0, |at| whole(&index.placed()[at].entry.kind));
                    load.file(within, size);
                }
                kind => {
                    load.file(within, whole(kind));
                    sizes.insert(within.to_owned(), whole(kind));
                }
            }
        }
        let added = ways.uefi.iter().filter(|way| way.mount == volume.mount);
        for (from, to) in added.flat_map(|way| &way.found.copies) {
            load.file(to, sizes.get(from).copied().unwrap_or_default());
        }
        load
    }

    fn file(&mut self, path: &str, size: u64) {
        self.name(path);
        self.files.push(size);
    }

    fn folder(&mut self, path: &str) {
        if let Entry::Vacant(folder) = self.folders.entry(path.to_uppercase()) {
            folder.insert(0);
            self.name(path);
        }
    }

    /// Has the name stand in its folder, which is made where it is not there.
    fn name(&mut self, path: &str) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.folder(above);
        let parts = name.encode_utf16().count().div_ceil(LETTERS);
        *self.folders.entry(above.to_uppercase()).or_default() += parts as u64 + 1;
    }

    /// Why it does not fit.
    fn check(&self, room: &Room) -> anyhow::Result<()> {
        let mut clusters: u64 = self.files.iter().map(|it| it.div_ceil(room.cluster)).sum();
        for (path, entries) in &self.folders {
            let entries = match (path.as_str(), room.top) {
                ("", Some(most)) => {
                    ensure!(
                        *entries <= most,
                        "its top folder would have {entries} entries, of which a long name takes several, and there are {most}: put files into \
                         folders, or give it 512 MiB or more, where there is no such limit"
                    );
                    continue;
                }
                // Its first cluster is there.
                ("", None) => {
                    clusters += (entries * ENTRY).div_ceil(room.cluster).saturating_sub(1);
                    *entries
                }
                _ => {
                    let entries = entries + DOTS;
                    clusters += (entries * ENTRY).div_ceil(room.cluster);
                    entries
                }
            };
            if entries > FOLDER_MOST {
                bail!(
                    "its folder /{path} would have {entries} entries, of which a long name takes several, and FAT has {FOLDER_MOST} in a folder"
                );
            }
        }
        let [takes, has] = [clusters, room.clusters].map(|it| units::bytes(it * room.cluster));
        ensure!(
            clusters <= room.clusters,
            "its files take {takes} in clusters of {}, and there is room for {has}: give it more",
            units::bytes(room.cluster)
        );
        Ok(())
    }
}

/// Looks at each FAT of the new system: `sizes` are those of the layout's slots.
///
/// # Errors
/// When one has no room, with the numbers.
pub fn check(
    index: &Index,
    volumes: &Volumes,
    sizes: &[u64],
    ways: &Ways,
    sector: u64,
) -> anyhow::Result<()> {
    let fats = volumes.all.iter();
    for volume in fats.filter(|volume| volumes.filesystem(volume) == "vfat") {
        let size = sizes.get(volume.index).copied().unwrap_or_default();
        if size > LARGEST {
            continue;
        }
        let on = volumes.shown(volume.index)?;
        let doing = || format!("{} of the new system, vfat on {on}", volume.mount);
        let wanted = Wanted {
            on: on.clone(),
            size,
            entry: volumes.entry(volume),
        };
        let room = Room::of(&wanted, sector)?;
        let load = Load::of(index, volumes, volume, ways);
        load.check(&room).with_context(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fat::HeldBack;
    use pitstop_imaging::layout::Entry;
    use std::fs;

    /// What is told beforehand is what comes of it, to the last file.
    #[test]
    fn as_much_fits_as_is_told_and_no_more() {
        for (mib, label) in [(3, ""), (20, "EFI"), (600, "")] {
            let entry = Entry {
                filesystem: Some("vfat".into()),
                label: label.into(),
                ..Entry::default()
            };
            let size = mib << 20;
            let wanted = Wanted {
                on: "partition 1".into(),
                size,
                entry: &entry,
            };
            let room = Room::of(&wanted, 512).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(size).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let try_all = || {
                wanted.make(file.path(), 512, &Silent).unwrap();
                let mut held = HeldBack::take(file.path(), &(0..size)).unwrap();
                held.fill(folder.path(), "/efi", size)
            };
            let mut load = Load::default();
            load.folders.insert(String::new(), 0);
            let add = |load: &mut Load, path: String, size: u64| {
                let at = folder.path().join(&path);
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::File::create(at).unwrap().set_len(size).unwrap();
                load.file(&path, size);
            };
            // The top of a FAT12 or FAT16, to its last entry.
            if let Some(most) = room.top {
                let long = "a name of more than thirteen letters";
                let each = long.encode_utf16().count().div_ceil(LETTERS) as u64 + 1 + 1;
                for number in 0..(most - 2) / each {
                    add(&mut load, format!("{long}{number:05}"), 0);
                }
                let mut number = 0;
                while load.folders[""] < most - 2 {
                    add(&mut load, format!("s{number}"), 0);
                    number += 1;
                }
            }
            add(&mut load, "f/some longer name in a folder".into(), 1);
            load.check(&room).unwrap();
            // All clusters.
            let taken = (load.folders["F"] + DOTS) * ENTRY;
            let taken = taken.div_ceil(room.cluster) + 1;
            let left = (room.clusters - taken) * room.cluster;
            if mib < 600 {
                add(&mut load, "f/rest".into(), left);
                load.check(&room).unwrap();
                try_all().unwrap();
                add(&mut load, "f/more".into(), 1);
                let why = load.check(&room).unwrap_err().to_string();
                assert!(why.contains("its files take"), "{why}");
                assert!(try_all().is_err());
                add(&mut load, "top".into(), 0);
                let why = load.check(&room).unwrap_err().to_string();
                assert!(why.contains("its top folder would have"), "{why}");
            } else {
                assert_eq!(room.top, None);
                try_all().unwrap();
            }
        }
    }
}
