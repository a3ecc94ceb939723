//! A disk that is written: opened alone, zeroed by the device where it can, flushed to the platter.

use super::buffer::is_aligned;
use super::{busy_loop_of, ioctl, kernel_view, lock};
use crate::inventory::disks;
use crate::patience::patiently;
use crate::source::ReadAt;
use crate::table::Table;
use crate::units;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::libc::{O_DIRECT, O_EXCL};
use nix::sys::stat::{major, minor};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a restore writes. Called from several threads, never for the same bytes at once. What was written is read as
/// from any disk; of what is new and has no size yet, nothing can be read.
pub trait Output: ReadAt + Send + Sync {
    /// For messages.
    fn name(&self) -> &str;

    /// Bytes that can be written; `None` where it grows as needed.
    fn limit(&self) -> Option<u64>;

    /// Whether it held nothing before: every byte that is not written reads as zero.
    fn is_blank(&self) -> bool;

    /// Gives what was blank its size; anything else keeps its own.
    fn set_size(&self, size: u64) -> anyhow::Result<()>;

    /// Whether zeroing costs no writing.
    fn zeroes_freely(&self) -> bool;

    /// All of `bytes` at `at`, or an error.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes `range` read as zeros.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;

    /// When it returns, what was written survives a power cut.
    fn flush(&self) -> io::Result<()>;

    /// Has later reads ask the device, not a cache.
    fn drop_cache(&self) -> io::Result<()>;
}

/// A block device, a plain file, or `/dev/null` to measure with.
#[derive(Debug)]
pub struct Target {
    name: String,
    file: File,
    direct: Option<File>,
    kind: Kind,
    limit: Option<u64>,
    blank: bool,
    punches: AtomicBool,
    /// Goes with it.
    _made: Option<Made>,
}

/// A file that was not there. What nothing was written to is not left behind.
#[derive(Debug)]
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        if std::fs::metadata(&self.0).is_ok_and(|found| found.len() == 0) {
            // An empty file harms nobody.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    File,
    Null,
}

const ZEROS: usize = 1 << 20;

impl Target {
    /// Opens `path` for writing, a device exclusively. Makes a file that is not there; one that has
    /// bytes is a disk of that size. Writes nothing yet. It is locked for as long as it is open.
    ///
    /// # Errors
    /// When it is mounted or otherwise in use, cannot be opened, or is a folder or some other thing.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::open_as(path, lock::take_or_tell)
    }

    /// Opens `path`, where the caller has the [`DiskLock`](super::DiskLock) of it or of the disk that it is on: as
    /// [`open`](Self::open) does, without a lock.
    ///
    /// # Errors
    /// As of [`open`](Self::open), but for locks.
    pub fn reopen(path: &Path) -> anyhow::Result<Self> {
        Self::open_as(path, |_, _| Ok(()))
    }

    /// `claim` comes before a look at the size: who has it still may be making it larger.
    fn open_as(
        path: &Path,
        claim: impl FnOnce(&File, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let mut is_new = false;
        let kind = match std::fs::metadata(path) {
            // A mistyped disk must not become a file in memory that looks like a success.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_device_path(path) => {
                bail!("there is no {name}")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                is_new = true;
                Kind::File
            }
            Err(error) => return Err(error).with_context(|| format!("looking at {name}")),
            Ok(found) if found.file_type().is_block_device() => Kind::Block,
            Ok(found) if found.is_file() => Kind::File,
            Ok(_) if path == Path::new("/dev/null") => Kind::Null,
            Ok(_) => bail!("{name} is neither a block device nor a plain file"),
        };
        if kind == Kind::File || kind == Kind::Block {
            let busy = busy_loop_of(path).with_context(|| format!("looking at {name}"))?;
            if let Some(device) = busy {
                bail!(
                    "{name} is in use, it has the same bytes as {device}: unmount or stop that first"
                );
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match kind {
            Kind::Block => options.custom_flags(O_EXCL),
            Kind::File => options.create(true).truncate(false),
            Kind::Null => &mut options,
        };
        let is_held = |opened: &io::Result<File>| {
            kind == Kind::Block
                && matches!(opened, Err(error) if error.kind() == io::ErrorKind::ResourceBusy)
        };
        let file =
            patiently(lock::MOMENT, || options.open(path), is_held).map_err(|error| match error
                .raw_os_error()
            {
                Some(code) if code == Errno::EBUSY as i32 => in_use(path),
                _ => anyhow::Error::new(error).context(format!("opening {name} for writing")),
            })?;
        let made = is_new.then(|| Made(path.into()));
        // A device is claimed already, from whoever mounts or claims it; who reads it for a backup has a lock.
        if kind != Kind::Null {
            claim(&file, path)?;
        }
        let size = match kind {
            Kind::Null => 0,
            Kind::Block | Kind::File => {
                super::size_of(&file).with_context(|| format!("sizing {name}"))?
            }
        };
        if kind == Kind::Block
            && ioctl::is_write_protected(&file).with_context(|| format!("looking at {name}"))?
        {
            bail!(
                "{name} is write-protected: blockdev --setrw {name} ends that where a switch does not"
            );
        }
        // The exclusive descriptor stays open beside this one. Without direct I/O the cache serves.
        let mut direct = OpenOptions::new();
        direct.read(true).write(true).custom_flags(O_DIRECT);
        let direct = (kind == Kind::Block)
            .then(|| direct.open(path).ok())
            .flatten();
        let blank = kind == Kind::File && size == 0;
        Ok(Self {
            name,
            file,
            direct,
            kind,
            limit: (kind != Kind::Null && !blank).then_some(size),
            blank,
            punches: AtomicBool::new(true),
            _made: made,
        })
    }

    /// Opens `path` for looks alone, also while something uses it: writes to it fail.
    ///
    /// # Errors
    /// When it cannot be opened or sized.
    pub fn look(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("opening {name}"))?;
        let size = super::size_of(&file).with_context(|| format!("sizing {name}"))?;
        let found = file
            .metadata()
            .with_context(|| format!("looking at {name}"))?;
        Ok(Self {
            name,
            file,
            direct: None,
            kind: if found.file_type().is_block_device() {
                Kind::Block
            } else {
                Kind::File
            },
            limit: Some(size),
            blank: false,
            punches: AtomicBool::new(false),
            _made: None,
        })
    }

    /// Has the kernel see the new partition table, where the target is a device with one. Whether it is.
    ///
    /// # Errors
    /// The kernel's; the data is safe all the same.
    pub fn reread_table(&self) -> io::Result<bool> {
        if self.kind != Kind::Block {
            return Ok(false);
        }
        match ioctl::reread_table(&self.file) {
            // Devices that have no partitions: loop without a scan, device-mapper.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// How the kernel's partitions of this device differ from `table`: a sentence each.
    pub(crate) fn differs_for_the_kernel(&self, table: &Table) -> Vec<String> {
        match self.sysfs() {
            Ok(folder) => kernel_view::differences(&folder, table),
            Err(error) => vec![format!("its device number cannot be read: {error}")],
        }
    }

    /// Whether the kernel has a partition of this number at these bytes of the device.
    pub(crate) fn has_partition(&self, number: u32, place: &Range<u64>) -> bool {
        let place = (place.start, place.end - place.start);
        self.kind == Kind::Block
            && self
                .sysfs()
                .is_ok_and(|folder| kernel_view::has(&folder, number, place))
    }

    fn sysfs(&self) -> io::Result<PathBuf> {
        let number = device_number(self.file.metadata()?.rdev());
        Ok(Path::new("/sys/dev/block").join(number))
    }

    /// Whether this is a block device.
    pub(crate) fn is_device(&self) -> bool {
        self.kind == Kind::Block
    }

    /// Bytes of a logical sector; `None` for what has none of its own, as a file.
    pub fn sector_size(&self) -> Option<u32> {
        match self.kind {
            Kind::Block => ioctl::logical_sector_size(&self.file).ok(),
            Kind::File | Kind::Null => None,
        }
    }

    /// The exclusive descriptor, for commands to the device itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Tells the device that nobody needs `range` any more; a file loses these blocks.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the device cannot.
    pub fn discard(&self, range: &Range<u64>) -> io::Result<()> {
        match self.kind {
            Kind::Block => ioctl::discard(&self.file, range.start, range.end - range.start),
            Kind::File | Kind::Null => self.punch(range),
        }
    }

    /// Has the device erase `range` for good.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the device cannot.
    pub fn discard_securely(&self, range: &Range<u64>) -> io::Result<()> {
        ioctl::discard_securely(&self.file, range.start, range.end - range.start)
    }

    fn punch(&self, range: &Range<u64>) -> io::Result<()> {
        let overflow = |_| io::Error::from(Errno::EOVERFLOW);
        let start = i64::try_from(range.start).map_err(overflow)?;
        let length = i64::try_from(range.end - range.start).map_err(overflow)?;
        // On a device this is discard only where the device promises zeros (Linux block/fops.c).
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.file, flags, start, length)?)
    }

    /// Writes zeros over `range`: blocks are not freed instead.
    ///
    /// # Errors
    /// The kernel's or the device's.
    pub fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        if self.kind == Kind::Block
            && ioctl::zero_out(&self.file, range.start, range.end - range.start).is_ok()
        {
            return Ok(());
        }
        let zeros = super::Buffer::new(ZEROS);
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at).unwrap_or(ZEROS).min(ZEROS);
            self.write_at(&zeros[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }
}

/// Names what holds a device, where the kernel tells.
fn in_use(path: &Path) -> anyhow::Error {
    let users = std::fs::metadata(path).map_or_else(
        |_| Vec::new(),
        |found| {
            disks::users_of(
                Path::new("/sys"),
                Path::new("/proc"),
                &device_number(found.rdev()),
            )
        },
    );
    let users = match users.as_slice() {
        [] => String::new(),
        users => format!(" ({})", users.join(", ")),
    };
    anyhow::anyhow!(
        "{} is in use{users}: unmount its filesystems, stop swap, LVM and RAID on it, then try again",
        path.display()
    )
}

/// `8:0`, as sysfs spells it.
fn device_number(number: u64) -> String {
    format!("{}:{}", major(number), minor(number))
}

/// Whether a new file at this path would be one among the devices, in memory: a mistyped disk.
pub fn is_device_path(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

impl ReadAt for Target {
    fn size(&self) -> u64 {
        self.limit().unwrap_or(0)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        match &self.direct {
            Some(direct) if is_aligned(buffer, at) => direct.read_exact_at(buffer, at),
            _ => self.file.read_exact_at(buffer, at),
        }
    }
}

impl Output for Target {
    fn name(&self) -> &str {
        &self.name
    }

    fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn is_blank(&self) -> bool {
        self.blank || self.kind == Kind::Null
    }

    fn set_size(&self, size: u64) -> anyhow::Result<()> {
        if !self.blank {
            return Ok(());
        }
        self.file
            .set_len(size)
            .with_context(|| format!("making {} {} long", self.name, units::bytes(size)))
    }

    fn zeroes_freely(&self) -> bool {
        self.punches.load(Ordering::Relaxed)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match (&self.direct, self.kind) {
            (Some(direct), _) if is_aligned(bytes, at) => direct.write_all_at(bytes, at),
            (_, Kind::Null) => io::Write::write_all(&mut &self.file, bytes),
            _ => self.file.write_all_at(bytes, at),
        }
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() || self.is_blank() {
            return Ok(());
        }
        if self.punches.load(Ordering::Relaxed) {
            match self.punch(&range) {
                Ok(()) => return Ok(()),
                Err(_) => self.punches.store(false, Ordering::Relaxed),
            }
        }
        self.write_zeros(range)
    }

    fn flush(&self) -> io::Result<()> {
        match self.kind {
            Kind::Null => Ok(()),
            // On a block device this also empties the device's own cache.
            Kind::Block | Kind::File => self.file.sync_all(),
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        match self.kind {
            Kind::Null => Ok(()),
            Kind::Block => ioctl::drop_cache(&self.file),
            Kind::File => Ok(posix_fadvise(
                &self.file,
                0,
                0,
                PosixFadviseAdvice::POSIX_FADV_DONTNEED,
            )?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroing_a_file_keeps_its_size_and_frees_its_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let target = Target::open(&path).unwrap();
        assert_eq!(target.limit(), Some(1 << 20));
        target.zero(4096..(1 << 20) - 1).unwrap();
        target.write_at(b"end", (1 << 20) - 3).unwrap();
        target.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes[..4096].iter().all(|b| *b == 7));
        assert!(bytes[4096..(1 << 20) - 3].iter().all(|b| *b == 0));
        assert_eq!(&bytes[(1 << 20) - 3..], b"end");
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 19);
    }

    #[test]
    fn a_new_file_gets_the_size_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let target = Target::open(&path).unwrap();
        assert!(target.is_blank());
        assert_eq!(target.limit(), None);
        target.set_size(12345).unwrap();
        target.zero(0..12345).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; 12345]);
    }

    #[test]
    fn a_mistyped_device_is_not_made_as_a_file() {
        let err = Target::open(Path::new("/dev/sdzz")).unwrap_err();
        assert_eq!(err.to_string(), "there is no /dev/sdzz");
        assert!(!Path::new("/dev/sdzz").exists());
    }

    #[test]
    fn a_folder_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let err = Target::open(folder.path()).unwrap_err();
        assert!(
            err.to_string()
                .ends_with("is neither a block device nor a plain file")
        );
    }
}
