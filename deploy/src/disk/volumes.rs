//! Which filesystem of the tree goes onto which partition of the layout. Pure.

use super::fstab::{Fstab, Line};
use anyhow::{Context, bail};
use pitstop_imaging::layout::stack::Slot;
use pitstop_imaging::layout::{Entry, Layout};
use pitstop_imaging::random;
use pitstop_imaging::table::TableKind;
use pitstop_trees::{Filesystem, Meta};
use std::path::{Component, Path};

/// Filesystems that keep a system's files. FAT has no owners, and serves for what the firmware reads.
const KEEPERS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat"];
/// Where distributions mount the EFI system partition.
const ESP_MOUNTS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];

/// A filesystem that the deployed system has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `/boot`
    pub mount: String,
    /// What it is on: which of the layout's [slots](Layout::slots), from 0.
    pub index: usize,
    /// Of Btrfs: the subvolume, as a path from the filesystem's top; empty for the top itself.
    pub subvolume: String,
    /// Whether no tree had it: only the layout does.
    pub is_new: bool,
}

/// A layout of which everything is known: each filesystem has its UUID, each partition its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volumes {
    pub layout: Layout,
    /// A mount point stands before those in it.
    pub all: Vec<Volume>,
    /// Mount points of the tree whose files are on the filesystem above them.
    pub merged: Vec<String>,
}

impl Volumes {
    pub fn entry(&self, volume: &Volume) -> &Entry {
        self.slot(volume.index).1
    }

    /// What `index` is, and what is on it.
    pub fn slot(&self, index: usize) -> (Slot<'_>, &Entry) {
        self.layout.slots()[index]
    }

    /// For messages: `partition 2`, `volume vg0/root`.
    ///
    /// # Errors
    /// When the layout numbers no such partition.
    pub fn shown(&self, index: usize) -> anyhow::Result<String> {
        Ok(match (self.slot(index).0, self.number(index)?) {
            (Slot::Partition, Some(number)) => format!("partition {number}"),
            (slot, _) => slot.to_string(),
        })
    }

    pub fn filesystem(&self, volume: &Volume) -> &str {
        self.entry(volume).filesystem.as_deref().unwrap_or_default()
    }

    /// The number of a partition of the layout; none of what is no partition.
    ///
    /// # Errors
    /// When the layout numbers none so.
    pub fn number(&self, index: usize) -> anyhow::Result<Option<u32>> {
        let (slot, wanted) = self.slot(index);
        if slot != Slot::Partition {
            return Ok(None);
        }
        let numbers = self.layout.numbers()?;
        let found = numbers
            .iter()
            .find(|(_, entry)| std::ptr::eq(*entry, wanted));
        let (number, _) =
            found.with_context(|| format!("entry {} of the layout has no number", index + 1))?;
        Ok(Some(*number))
    }

    /// The one that `path` is on.
    pub fn of(&self, path: &str) -> Option<&Volume> {
        let holds = |volume: &&Volume| is_within(path, &volume.mount);
        self.all.iter().rfind(holds)
    }
}

/// Whether `path` is `folder`, or in it.
pub fn is_within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Finds a partition of `layout` for each filesystem of the tree. `fstab` is the tree's.
///
/// # Errors
/// When there is none for the root, or one that cannot keep files.
pub fn assign(
    layout: Layout,
    meta: &Meta,
    fstab: &Fstab,
    new_ids: bool,
) -> anyhow::Result<Volumes> {
    let mut found = Volumes {
        layout,
        all: Vec::new(),
        merged: Vec::new(),
    };
    let mut taken = Vec::new();
    for group in groups(&meta.filesystems) {
        match partition_of(&found.layout, &group, &taken) {
            Some(index) => {
                taken.push(index);
                found.place(index, &group);
            }
            None => found
                .merged
                .extend(group.iter().map(|filesystem| filesystem.mount.clone())),
        }
    }
    found.add_new(fstab);
    found.check()?;
    keep_swap(&mut found.layout, fstab);
    if new_ids {
        forget_ids(&mut found.layout);
    }
    identify(&mut found.layout).context("making identifiers")?;
    Ok(found)
}

/// Mount points of one filesystem: subvolumes of a Btrfs have the same UUID.
fn groups(filesystems: &[Filesystem]) -> Vec<Vec<&Filesystem>> {
    let mut groups: Vec<Vec<&Filesystem>> = Vec::new();
    for filesystem in filesystems {
        let same = |group: &&mut Vec<&Filesystem>| {
            !filesystem.uuid.is_empty() && group[0].uuid == filesystem.uuid
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(filesystem),
            None => groups.push(vec![filesystem]),
        }
    }
    groups
}

/// By mount point where the layout tells it, else by UUID, label, or what kind of partition it is.
fn partition_of(layout: &Layout, group: &[&Filesystem], taken: &[usize]) -> Option<usize> {
    let first = group.first()?;
    let slots: Vec<&Entry> = layout.slots().into_iter().map(|slot| slot.1).collect();
    let told = slots.iter().any(|entry| !entry.mount.is_empty());
    let find = |fits: &dyn Fn(&Entry) -> bool| {
        let mut entries = slots.iter().enumerate();
        let found = entries.find(|(index, entry)| {
            entry.filesystem.is_some() && !taken.contains(index) && fits(entry)
        });
        found.map(|(index, _)| index)
    };
    let here = |mount: &str| group.iter().any(|filesystem| filesystem.mount == mount);
    let same = |one: &str, other: &str| !one.is_empty() && one.eq_ignore_ascii_case(other);
    let by_name = find(&|entry| here(&entry.mount))
        .or_else(|| find(&|entry| entry.mount.is_empty() && same(&first.uuid, &entry.uuid)))
        .or_else(|| find(&|entry| entry.mount.is_empty() && same(&first.label, &entry.label)));
    if by_name.is_some() || told {
        return by_name;
    }
    let esp = |filesystem: &Filesystem| {
        filesystem.kind == "vfat" && ESP_MOUNTS.contains(&filesystem.mount.as_str())
    };
    let kind = if group.iter().any(|filesystem| esp(filesystem)) {
        "efi"
    } else if here("/") {
        "root"
    } else {
        first.mount.trim_start_matches('/')
    };
    let by_kind = find(&|entry| entry.kind == kind && entry.uuid.is_empty());
    // One partition for files is the root's.
    let alone = || {
        let files = |entry: &&Entry| {
            !matches!(entry.filesystem.as_deref(), None | Some("swap")) && entry.kind != "efi"
        };
        let only = slots.iter().copied().filter(files).count() == 1;
        find(&|entry| here("/") && only && files(&entry))
    };
    by_kind.or_else(alone)
}

impl Volumes {
    fn place(&mut self, index: usize, group: &[&Filesystem]) {
        let Some(first) = group.first() else { return };
        let mut entries = self.layout.entries_mut();
        let entry = &mut *entries[index];
        if entry.filesystem.as_deref() == Some(first.kind.as_str()) {
            if entry.uuid.is_empty() {
                entry.uuid.clone_from(&first.uuid);
            }
            if entry.label.is_empty() {
                entry.label.clone_from(&first.label);
            }
            if entry.features.is_empty() {
                entry.features.clone_from(&first.features);
            }
        }
        let btrfs = entry.filesystem.as_deref() == Some("btrfs");
        let main = group
            .iter()
            .position(|filesystem| filesystem.mount == entry.mount)
            .unwrap_or(0);
        for (number, filesystem) in group.iter().enumerate() {
            // What were subvolumes are folders on another filesystem.
            if !btrfs && number != main {
                self.merged.push(filesystem.mount.clone());
                continue;
            }
            self.all.push(Volume {
                mount: filesystem.mount.clone(),
                index,
                subvolume: if btrfs {
                    filesystem.subvolume.trim_matches('/').to_owned()
                } else {
                    String::new()
                },
                is_new: false,
            });
        }
    }

    /// Mount points that the layout alone has. On a Btrfs the tree's fstab may name subvolumes, as that of a system which was
    /// imported does: they are made, for it stays so.
    fn add_new(&mut self, fstab: &Fstab) {
        let slots = self.layout.slots().into_iter();
        let taken: Vec<String> = slots.map(|(_, entry)| entry.mount.clone()).collect();
        for (index, (_, entry)) in self.layout.slots().into_iter().enumerate() {
            let known = |volume: &Volume| volume.index == index || volume.mount == entry.mount;
            if entry.mount.is_empty() || self.all.iter().any(known) {
                continue;
            }
            let new = |mount: &str, subvolume: &str| Volume {
                mount: mount.to_owned(),
                index,
                subvolume: subvolume.trim_matches('/').to_owned(),
                is_new: true,
            };
            let line = fstab.at(&entry.mount);
            let is_btrfs = entry.filesystem.as_deref() == Some("btrfs");
            let line = line.filter(|line| is_btrfs && line.filesystem == "btrfs");
            let subvolume = |line: &Line| line.option("subvol").unwrap_or_default().to_owned();
            self.all
                .push(new(&entry.mount, &line.map(subvolume).unwrap_or_default()));
            let Some(line) = line else { continue };
            // Other subvolumes of the same filesystem, where nothing else is for them.
            for other in fstab.lines().filter(|other| other.spec == line.spec) {
                let named = other.option("subvol").is_some() && other.filesystem == "btrfs";
                let is_free = !taken.contains(&other.mount)
                    && self.all.iter().all(|it| it.mount != other.mount);
                if named && is_free {
                    self.all.push(new(&other.mount, &subvolume(other)));
                }
            }
        }
        let parts = |volume: &Volume| volume.mount.trim_end_matches('/').matches('/').count();
        self.all
            .sort_by(|a, b| (parts(a), &a.mount).cmp(&(parts(b), &b.mount)));
    }

    fn check(&self) -> anyhow::Result<()> {
        let Some(root) = self.all.first().filter(|volume| volume.mount == "/") else {
            bail!(
                "no partition of the layout is for the root of the system: give one mount = \"/\""
            );
        };
        for volume in &self.all {
            // Of an image or a layout that somebody else made: nothing is mounted beside the new system.
            let parts = Path::new(&volume.mount).components().skip(1);
            let is_plain = |part: Component| matches!(part, Component::Normal(_));
            if !volume.mount.starts_with('/') || !parts.into_iter().all(is_plain) {
                bail!("{:?} is no place for a filesystem", volume.mount);
            }
            if !Path::new(&volume.subvolume).components().all(is_plain) {
                bail!("{:?} is no path of a subvolume", volume.subvolume);
            }
            let filesystem = self.filesystem(volume);
            if !KEEPERS.contains(&filesystem) {
                bail!(
                    "{} cannot be on {filesystem:?}: a system's files are kept on {}",
                    volume.mount,
                    KEEPERS.join(", ")
                );
            }
        }
        if self.filesystem(root) == "vfat" {
            bail!("the root cannot be on vfat, which keeps neither owners nor modes");
        }
        Ok(())
    }
}

/// The tree's swap space keeps its UUID, so that its fstab stays true.
fn keep_swap(layout: &mut Layout, fstab: &Fstab) {
    let swap = |entry: &Entry| entry.filesystem.as_deref() == Some("swap");
    let mut named: Vec<String> = fstab
        .lines()
        .filter(|line| line.is_swap())
        .filter_map(|line| line.spec.strip_prefix("UUID=").map(str::to_owned))
        .collect();
    let mut entries = layout.entries_mut();
    for entry in entries.iter_mut().filter(|entry| swap(entry)) {
        named.retain(|uuid| !uuid.eq_ignore_ascii_case(&entry.uuid));
    }
    let without = entries
        .iter_mut()
        .filter(|entry| swap(entry))
        .filter(|entry| entry.uuid.is_empty());
    for (entry, uuid) in without.zip(named) {
        entry.uuid = uuid;
    }
}

fn forget_ids(layout: &mut Layout) {
    layout.id = None;
    for entry in layout.entries_mut() {
        entry.id = None;
        entry.uuid.clear();
    }
}

/// The same partitions for another disk of the same machine. What the firmware reads has the same name there: the system finds it
/// with either disk.
pub fn mirrored(layout: &Layout) -> Layout {
    let mut other = layout.clone();
    other.id = None;
    for entry in &mut other.partitions {
        entry.id = None;
    }
    other
}

/// What has no identifier gets one now: fstab and boot loader are told it.
fn identify(layout: &mut Layout) -> std::io::Result<()> {
    let gpt = layout.table == TableKind::Gpt;
    let guid = || Ok::<_, std::io::Error>(random::guid()?.hyphenated().to_string());
    if layout.id.is_none() {
        layout.id = Some(if gpt {
            guid()?
        } else {
            format!("0x{:08x}", random::signature()?)
        });
    }
    for entry in &mut layout.partitions {
        if gpt && entry.id.is_none() {
            entry.id = Some(guid()?);
        }
    }
    for entry in layout.entries_mut() {
        if !entry.uuid.is_empty() {
            entry.uuid = as_linked(entry.filesystem.as_deref(), &entry.uuid);
            continue;
        }
        match entry.filesystem.as_deref() {
            None | Some("exfat" | "ntfs") => {}
            Some("vfat") => {
                let number = random::signature()?;
                entry.uuid = format!("{:04X}-{:04X}", number >> 16, number & 0xffff);
            }
            Some(_) => entry.uuid = guid()?,
        }
    }
    Ok(())
}

/// A layout's UUID as `/dev/disk/by-uuid` has it: a system looks for those of its fstab there, letter by letter.
fn as_linked(filesystem: Option<&str>, uuid: &str) -> String {
    if filesystem != Some("vfat") {
        return uuid.to_ascii_lowercase();
    }
    let digits = uuid.replace('-', "").to_ascii_uppercase();
    match digits.split_at_checked(4) {
        Some((first, rest)) => format!("{first}-{rest}"),
        None => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filesystem(mount: &str, kind: &str, uuid: &str, subvolume: &str) -> Filesystem {
        Filesystem {
            mount: mount.into(),
            kind: kind.into(),
            uuid: uuid.into(),
            subvolume: subvolume.into(),
            features: vec!["x".into()],
            ..Filesystem::default()
        }
    }

    fn layout(text: &str) -> Layout {
        let mut layout = Layout::parse(&format!("version = 1\ntable = \"gpt\"\n{text}")).unwrap();
        for entry in &mut layout.partitions {
            if let Some(uuid) = entry.name.strip_prefix("uuid-") {
                entry.uuid = uuid.into();
            }
        }
        layout
    }

    fn meta(filesystems: Vec<Filesystem>) -> Meta {
        Meta {
            filesystems,
            ..Meta::default()
        }
    }

    fn places(found: &Volumes) -> Vec<(&str, usize, &str)> {
        let volumes = found.all.iter();
        volumes
            .map(|v| (v.mount.as_str(), v.index, v.subvolume.as_str()))
            .collect()
    }

    const OWN: &str = "[[partition]]\ntype=\"efi\"\nsize=\"1M\"\nfilesystem=\"vfat\"\nname=\"uuid-E\"\n\
                       [[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"btrfs\"\nname=\"uuid-b\"\n\
                       [[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"swap\"\n";

    #[test]
    fn the_images_own_layout_is_taken_by_uuids() {
        let meta = meta(vec![
            filesystem("/", "btrfs", "b", "/@"),
            filesystem("/boot/efi", "vfat", "E", ""),
            filesystem("/home", "btrfs", "b", "/@home"),
        ]);
        let fstab = Fstab::parse("UUID=sw none swap sw 0 0");
        let found = assign(layout(OWN), &meta, &fstab, false).unwrap();
        assert_eq!(
            places(&found),
            [("/", 1, "@"), ("/home", 1, "@home"), ("/boot/efi", 0, "")]
        );
        assert_eq!(found.layout.partitions[1].features, ["x"]);
        assert_eq!(found.layout.partitions[2].uuid, "sw");
        assert!(
            found
                .layout
                .partitions
                .iter()
                .all(|entry| entry.id.is_some())
        );
        assert_eq!(found.of("/home/x").unwrap().mount, "/home");
        assert_eq!(found.of("/homes").unwrap().mount, "/");
        let new = assign(layout(OWN), &meta, &fstab, true).unwrap();
        assert!(new.layout.partitions.iter().all(|entry| {
            !["E", "b", "sw", ""].contains(&entry.uuid.as_str()) && entry.id.is_some()
        }));
    }

    #[test]
    fn another_layout_tells_mount_points_and_what_it_lacks_is_merged() {
        let meta = meta(vec![
            filesystem("/", "btrfs", "b", "/@"),
            filesystem("/boot/efi", "vfat", "E", ""),
            filesystem("/home", "btrfs", "b", "/@home"),
        ]);
        let text = "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"ext4\"\nmount=\"/\"\n\
                    [[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"xfs\"\nmount=\"/srv\"\n";
        let found = assign(layout(text), &meta, &Fstab::parse(""), false).unwrap();
        assert_eq!(places(&found), [("/", 0, ""), ("/srv", 1, "")]);
        assert_eq!(found.merged, ["/home", "/boot/efi"]);
        assert!(found.all[1].is_new && !found.all[0].is_new);
        // The kinds differ: neither UUID nor features are the tree's.
        let root = &found.layout.partitions[0];
        assert!(root.features.is_empty() && root.uuid.len() == 36);
    }

    #[test]
    fn subvolumes_that_fstab_names_are_made_where_no_image_tells_of_them() {
        let text =
            "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"btrfs\"\nmount=\"/\"\n";
        let fstab = Fstab::parse(
            "LABEL=x / btrfs subvol=root,noatime 0 0\nLABEL=x /home btrfs subvol=/home 0 0\n\
             LABEL=y /srv btrfs subvol=srv 0 0\n",
        );
        let found = assign(layout(text), &meta(Vec::new()), &fstab, false).unwrap();
        assert_eq!(places(&found), [("/", 0, "root"), ("/home", 0, "home")]);
        let ext4 = layout(&text.replace("btrfs", "ext4"));
        let found = assign(ext4, &meta(Vec::new()), &fstab, false).unwrap();
        assert_eq!(places(&found), [("/", 0, "")]);
    }

    #[test]
    fn a_layouts_uuids_are_written_as_a_system_looks_for_them() {
        let written = |filesystem: &str, uuid: &str| {
            let text = format!(
                "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"{filesystem}\"\nuuid=\"{uuid}\"\n"
            );
            let mut layout = layout(&text);
            identify(&mut layout).unwrap();
            layout.partitions[0].uuid.clone()
        };
        let upper = "3C6EF372-FE94-4F82-A54F-F53A5F1D36F1";
        assert_eq!(written("ext4", upper), upper.to_ascii_lowercase());
        assert_eq!(written("vfat", "a1b2-c3d4"), "A1B2-C3D4");
        assert_eq!(written("vfat", "a1b2c3d4"), "A1B2-C3D4");
    }

    #[test]
    fn kinds_of_partitions_tell_what_nothing_else_does() {
        let meta = meta(vec![
            filesystem("/", "ext4", "r", ""),
            filesystem("/boot/efi", "vfat", "E", ""),
            filesystem("/home", "ext4", "h", ""),
        ]);
        let text = "[[partition]]\ntype=\"efi\"\nsize=\"1M\"\nfilesystem=\"vfat\"\n\
                    [[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"ext4\"\n";
        let found = assign(layout(text), &meta, &Fstab::parse(""), false).unwrap();
        assert_eq!(places(&found), [("/", 1, ""), ("/boot/efi", 0, "")]);
        assert_eq!(found.layout.partitions[1].uuid, "r");
        assert_eq!(found.merged, ["/home"]);
        for (text, why) in [
            ("", "no partition of the layout is for the root"),
            (
                "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"ntfs\"\nmount=\"/\"\n",
                "/ cannot be on \"ntfs\"",
            ),
            (
                "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"vfat\"\nmount=\"/\"\n",
                "cannot be on vfat",
            ),
            (
                "[[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"ext4\"\nmount=\"/\"\n\
                 [[partition]]\ntype=\"linux\"\nsize=\"1M\"\nfilesystem=\"ext4\"\nmount=\"/srv/../../etc\"\n",
                "is no place for a filesystem",
            ),
        ] {
            let error = assign(layout(text), &meta, &Fstab::parse(""), false).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
