//! Which configurations on a disk's filesystems name its partitions by the identifiers of its table. Only ext2-4 and
//! FAT are looked into; what is read is bounded, whatever a filesystem says of itself.

use crate::browse::part::Part;
use crate::source::ReadAt;
use crate::table::{NewId, Partition};
use crate::used;
use ext4_view::Ext4;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Where distributions and boot loaders write identifiers.
const FILES: &[&str] = &[
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "etc/initramfs-tools/conf.d/resume",
    "etc/mkinitcpio.conf",
    "etc/dracut.conf",
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "boot/grub2/grubenv",
    "boot/grub/x86_64-efi/load.cfg",
    "boot/grub/arm64-efi/load.cfg",
    "boot/grub/i386-pc/load.cfg",
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "grub2/grubenv",
    "boot/extlinux/extlinux.conf",
    "extlinux/extlinux.conf",
    "cmdline.txt",
    "boot/bcd",
    "EFI/Microsoft/Boot/BCD",
];
/// Every file in these.
const FOLDERS: &[&str] = &[
    "loader/entries",
    "boot/loader/entries",
    "etc/default/grub.d",
    "etc/dracut.conf.d",
];
/// One for each installed system, with a `grub.cfg` in it.
const SYSTEMS: &str = "EFI";
const FOLDER_MAX: usize = 64;
const FILE_MAX: u64 = 1 << 20;
/// Of one filesystem, its metadata included: a damaged one may go round in circles.
const READ_MAX: u64 = 256 << 20;

/// A file that has an old identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The partition that the file is on.
    pub partition: u32,
    pub file: String,
    /// Whose identifier it is: `the disk` or `partition 2`.
    pub of: String,
    pub id: String,
}

/// What was found, and what was not looked into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    pub references: Vec<Reference>,
    /// A sentence each: `partition 3 (xfs)`.
    pub passed_over: Vec<String>,
}

/// Looks for the old ones of `ids` in the filesystems of `partitions`.
///
/// # Errors
/// When `disk` cannot be read from a second descriptor. A filesystem that cannot be read is passed over.
pub fn find(disk: &File, partitions: &[Partition], ids: &[NewId]) -> io::Result<Looked> {
    let mut looked = Looked::default();
    for partition in partitions {
        let part = part(disk, partition)?;
        let filesystem = used::recognise(&part).filesystem;
        let read = match filesystem.as_str() {
            "" | "swap" => continue,
            "vfat" => look_into_fat(part),
            name if name.starts_with("ext") => look_into_ext(part),
            _ => Err("it is not one that is looked into".into()),
        };
        match read {
            Ok(files) => {
                for file in &files {
                    looked
                        .references
                        .extend(file.references(partition.number, ids));
                }
            }
            Err(why) => looked.passed_over.push(format!(
                "partition {} ({filesystem}): {why}",
                partition.number
            )),
        }
    }
    Ok(looked)
}

/// Whether the FAT on `partition` has the file `path`, whose parts are parted by `/`.
pub fn fat_has(disk: &File, partition: &Partition, path: &str) -> bool {
    let Ok(part) = part(disk, partition) else {
        return false;
    };
    if used::recognise(&part).filesystem != "vfat" {
        return false;
    }
    fatfs::FileSystem::new(part, fatfs::FsOptions::new())
        .is_ok_and(|system| system.root_dir().open_file(path).is_ok())
}

struct Text {
    path: String,
    bytes: Vec<u8>,
}

impl Text {
    fn references<'a>(
        &'a self,
        partition: u32,
        ids: &'a [NewId],
    ) -> impl Iterator<Item = Reference> + 'a {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        // Windows writes them as the table does.
        let raw = self.path.to_ascii_lowercase().ends_with("bcd");
        let named = move |id: &&NewId| {
            let written = id.from.trim_start_matches("0x");
            let blank = id.from_bytes.iter().all(|byte| *byte == 0);
            let within = raw
                && self
                    .bytes
                    .windows(id.from_bytes.len().max(1))
                    .any(|place| place == id.from_bytes);
            !blank && (within || text.contains(written))
        };
        ids.iter().filter(named).map(move |id| Reference {
            partition,
            file: format!("/{}", self.path),
            of: id.of.clone(),
            id: id.from.clone(),
        })
    }
}

/// A disk by a descriptor of its own.
struct Device(File);

impl ReadAt for Device {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }
}

fn part(disk: &File, partition: &Partition) -> io::Result<Part<Device>> {
    let device = Device(disk.try_clone()?);
    Ok(Part::new(device, partition.start, partition.size, READ_MAX))
}

fn look_into_ext(part: Part<Device>) -> Result<Vec<Text>, String> {
    let system = Ext4::load(Box::new(part)).map_err(|error| error.to_string())?;
    let names = |folder: &str| -> Vec<String> {
        let entries = system.read_dir(format!("/{folder}").as_str());
        let names = entries.into_iter().flatten().take(FOLDER_MAX).flatten();
        names
            .map(|entry| entry.file_name().display().to_string())
            .collect()
    };
    let read = |path: &str| {
        let path = format!("/{path}");
        let size = system.metadata(path.as_str()).ok()?.len();
        (size <= FILE_MAX).then(|| system.read(path.as_str()).ok())?
    };
    Ok(gather(&names, &read))
}

fn look_into_fat(part: Part<Device>) -> Result<Vec<Text>, String> {
    let system =
        fatfs::FileSystem::new(part, fatfs::FsOptions::new()).map_err(|error| error.to_string())?;
    let root = system.root_dir();
    let names = |folder: &str| -> Vec<String> {
        let folder = root.open_dir(folder).ok();
        let entries = folder.iter().flat_map(fatfs::Dir::iter);
        let names = entries.take(FOLDER_MAX).map_while(Result::ok);
        names.map(|entry| entry.file_name()).collect()
    };
    let read = |path: &str| {
        let mut bytes = Vec::new();
        let file = root.open_file(path).ok()?;
        file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    Ok(gather(&names, &read))
}

/// Paths of files that may name identifiers, on a filesystem whose folders `names` lists. Not all of them need be there.
pub fn candidates(names: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for folder in FOLDERS {
        paths.extend(names(folder).iter().map(|name| format!("{folder}/{name}")));
    }
    let systems = names(SYSTEMS);
    paths.extend(
        systems
            .iter()
            .map(|name| format!("{SYSTEMS}/{name}/grub.cfg")),
    );
    paths
}

fn gather(
    names: &dyn Fn(&str) -> Vec<String>,
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Vec<Text> {
    let paths = candidates(names);
    let found = paths.into_iter().filter_map(|path| {
        let bytes = read(&path)?;
        Some(Text { path, bytes })
    });
    found.collect()
}
