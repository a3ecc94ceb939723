//! Which configurations on a disk's filesystems name its partitions by the identifiers of its table. Only ext2-4 and
//! FAT are looked into; what is read is bounded, whatever a filesystem says of itself.

use crate::source::{ReadAt, Stream, Window};
use crate::table::{NewId, Partition};
use crate::used;
use ext4_view::{Ext4, Ext4Read};
use std::cell::Cell;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Where distributions and boot loaders write identifiers.
const FILES: &[&str] = &[
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "boot/extlinux/extlinux.conf",
    "extlinux/extlinux.conf",
    "cmdline.txt",
    "boot/bcd",
    "EFI/Microsoft/Boot/BCD",
];
/// Every file in these.
const FOLDERS: &[&str] = &["loader/entries", "boot/loader/entries"];
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
        let part = Part::new(disk, partition)?;
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
    let Ok(part) = Part::new(disk, partition) else {
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

/// A partition that is read, and nothing written.
struct Part {
    disk: File,
    start: u64,
    size: u64,
    at: u64,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

impl Part {
    fn new(disk: &File, partition: &Partition) -> io::Result<Self> {
        Ok(Self {
            disk: disk.try_clone()?,
            start: partition.start,
            size: partition.size,
            at: 0,
            left: Cell::new(READ_MAX),
        })
    }
}

impl ReadAt for Part {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let length = buffer.len() as u64;
        if at.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = self.left.get().checked_sub(length);
        self.left
            .set(left.ok_or_else(|| io::Error::other("too much is to be read of it"))?);
        self.disk
            .read_exact_at(buffer, self.start.saturating_add(at))
    }
}

impl Ext4Read for Part {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.read_exact_at(buffer, at)?)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let size = self.size;
        let window = Window::new(self, 0, size);
        let mut stream = Stream::new(&window);
        stream.seek(SeekFrom::Start(at))?;
        let read = stream.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl Write for Part {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn look_into_ext(part: Part) -> Result<Vec<Text>, String> {
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

fn look_into_fat(part: Part) -> Result<Vec<Text>, String> {
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

fn gather(
    names: &dyn Fn(&str) -> Vec<String>,
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Vec<Text> {
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
    let found = paths.into_iter().filter_map(|path| {
        let bytes = read(&path)?;
        Some(Text { path, bytes })
    });
    found.collect()
}
