//! What the firmware reads: files onto a FAT, without the kernel's help. Its first sector is written last of all, and until then
//! no firmware finds a filesystem there.

use super::{fat_dots, fat_names};
use anyhow::{Context, bail};
use fatfs::{Date, DateTime, Dir, FileSystem, FsOptions, TimeProvider};
use jiff::tz::TimeZone;
use rustix::fs::{Advice, fadvise};
use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The sector that says what follows: the BIOS parameter block is in the first 512 bytes, whatever the sectors are.
const FIRST: usize = 512;
const BUFFER: usize = 1 << 20;
/// Clusters that some makers of FATs leave free at the beginning.
const SPARE: u64 = 16;
/// What FAT can say (its years are seven bits from 1980 on).
const YEARS: (i16, i16) = (1980, 2107);

/// A FAT that was written whole, but for its first sector.
pub struct HeldBack {
    name: String,
    file: File,
    start: u64,
    first: [u8; FIRST],
}

/// A part of a disk, whose first sector is in memory.
struct Part<'a> {
    held: &'a mut HeldBack,
    size: u64,
    at: u64,
}

impl Part<'_> {
    /// The length of a piece from here on that lies on one side of the end of the first sector, and within the part.
    fn piece(&self, wanted: usize) -> usize {
        let first = FIRST as u64;
        let end = if self.at < first { first } else { self.size };
        let left = end.saturating_sub(self.at);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }

    fn in_first(&self, length: usize) -> Option<Range<usize>> {
        let at = usize::try_from(self.at).ok().filter(|at| *at < FIRST)?;
        Some(at..at + length)
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.piece(buffer.len());
        if let Some(range) = self.in_first(length) {
            buffer[..length].copy_from_slice(&self.held.first[range]);
        } else {
            let at = self.held.start + self.at;
            self.held.file.read_exact_at(&mut buffer[..length], at)?;
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.piece(bytes.len());
        if let Some(range) = self.in_first(length) {
            self.held.first[range].copy_from_slice(&bytes[..length]);
        } else {
            let at = self.held.start + self.at;
            self.held.file.write_all_at(&bytes[..length], at)?;
        }
        self.at += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

thread_local! {
    static STAMP: Cell<DateTime> = const { Cell::new(START) };
}

const START: DateTime = DateTime {
    date: Date {
        year: 1980,
        month: 1,
        day: 1,
    },
    time: fatfs::Time {
        hour: 0,
        min: 0,
        sec: 0,
        millis: 0,
    },
};

/// Gives what is made the time of the file that it is made of.
#[derive(Debug)]
struct Stamps;

static STAMPS: Stamps = Stamps;

impl TimeProvider for Stamps {
    fn get_current_date(&self) -> Date {
        STAMP.get().date
    }

    fn get_current_date_time(&self) -> DateTime {
        STAMP.get()
    }
}

/// As Linux writes times onto FAT where nothing else is said: in UTC.
fn stamp(time: SystemTime) -> DateTime {
    let Ok(time) = jiff::Timestamp::try_from(time) else {
        return START;
    };
    let time = time.to_zoned(TimeZone::UTC);
    if time.year() < YEARS.0 || time.year() > YEARS.1 {
        return START;
    }
    // All of them are in range, and none is negative.
    let number = |value: i8| u16::try_from(value).unwrap_or_default();
    DateTime {
        date: Date {
            year: u16::try_from(time.year()).unwrap_or(START.date.year),
            month: number(time.month()),
            day: number(time.day()),
        },
        time: fatfs::Time {
            hour: number(time.hour()),
            min: number(time.minute()),
            sec: number(time.second()),
            millis: u16::try_from(time.millisecond()).unwrap_or_default(),
        },
    }
}

impl HeldBack {
    /// Takes the first sector of a new FAT away, and keeps it. `device` is a disk, or a partition's node; the FAT is in its bytes
    /// `range`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn take(device: &Path, range: &Range<u64>) -> anyhow::Result<Self> {
        let name = device.display().to_string();
        let file = File::options()
            .read(true)
            .write(true)
            .open(device)
            .with_context(|| format!("opening {name}"))?;
        let mut first = [0; FIRST];
        let start = range.start;
        file.read_exact_at(&mut first, start)
            .with_context(|| format!("reading {name} at {start}"))?;
        file.write_all_at(&[0; FIRST], start)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("writing {name} at {start}"))?;
        Ok(Self {
            name,
            file,
            start,
            first,
        })
    }

    /// Copies all that is in `from`, which is `mount` of the new system, onto it, and compares it with what is read back. `size` is that
    /// of its partition.
    ///
    /// # Errors
    /// When there is no room, FAT has no place for something, or what is read back differs.
    pub fn fill(&mut self, from: &Path, mount: &str, size: u64) -> anyhow::Result<()> {
        let name = self.name.clone();
        let writing = || format!("writing the files of the firmware to {name}");
        let system = self.opened(size).with_context(writing)?;
        let from = Folder {
            at: from.to_owned(),
            shown: mount.into(),
        };
        copy(&from, &system.root_dir()).with_context(writing)?;
        let stats = system.stats().with_context(writing)?;
        system.unmount().with_context(writing)?;
        // They are taken from the first one on, of a new filesystem.
        let used = u64::from(stats.total_clusters() - stats.free_clusters()) + SPARE;
        let (file, start) = (&self.file, self.start);
        let read = |bytes: &mut [u8], at| file.read_exact_at(bytes, start + at);
        let write = |bytes: &[u8], at| file.write_all_at(bytes, start + at);
        fat_dots::mend(&self.first, used, size, read, write).with_context(writing)?;
        self.flush().with_context(writing)?;
        let system = self.opened(size).with_context(writing)?;
        compare(&from, &system.root_dir()).with_context(|| format!("reading back {name}"))
    }

    fn opened(&mut self, size: u64) -> io::Result<FileSystem<Part<'_>>> {
        let part = Part {
            held: self,
            size,
            at: 0,
        };
        FileSystem::new(part, FsOptions::new().time_provider(&STAMPS))
    }

    /// What is read afterwards comes from the disk itself.
    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()?;
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    /// Writes the first sector: now it is a filesystem.
    ///
    /// # Errors
    /// When it cannot be written, or does not read back.
    pub fn commit(self) -> anyhow::Result<()> {
        let mut back = [0; FIRST];
        let written = self.file.write_all_at(&self.first, self.start);
        let read = written
            .and_then(|()| self.flush())
            .and_then(|()| self.file.read_exact_at(&mut back, self.start));
        let Self {
            name, start, first, ..
        } = self;
        read.with_context(|| format!("writing {name} at {start}"))?;
        if back != first {
            bail!("{name} does not read back what was written at {start}");
        }
        Ok(())
    }
}

type FatDir<'a, 'b> = Dir<'a, Part<'b>>;

/// A folder whose files are to be on it: where it lies meanwhile, and what it is in the new system.
struct Folder {
    at: PathBuf,
    shown: PathBuf,
}

/// Something in a folder.
struct Within {
    name: String,
    itself: Folder,
    about: Metadata,
}

/// What is in a folder, sorted by name.
fn entries(folder: &Folder) -> anyhow::Result<Vec<Within>> {
    let reading = || format!("reading {}", folder.shown.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder.at).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name();
        let shown = folder.shown.join(&name);
        if let Some(why) = fat_names::of_name(name.as_bytes()) {
            bail!("{}: {why}", shown.display());
        }
        let about = entry.metadata().with_context(reading)?;
        found.push(Within {
            name: name.to_string_lossy().into_owned(),
            itself: Folder {
                at: entry.path(),
                shown,
            },
            about,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn copy(folder: &Folder, to: &FatDir) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut names = HashSet::new();
    for Within {
        name,
        itself,
        about,
    } in entries(folder)?
    {
        let path = itself.shown.display();
        if !names.insert(name.to_uppercase()) {
            bail!("{path}: {}", fat_names::CAPITALS);
        }
        let copying = || format!("copying {path}");
        STAMP.set(stamp(about.modified().with_context(copying)?));
        if about.is_dir() {
            let made = to.create_dir(&name).with_context(copying)?;
            copy(&itself, &made)?;
            continue;
        }
        if !about.is_file() {
            bail!("{path}: {}", fat_names::KINDS);
        }
        let mut from = File::open(&itself.at).with_context(copying)?;
        let mut file = to.create_file(&name).with_context(copying)?;
        loop {
            let read = from.read(&mut buffer).with_context(copying)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).with_context(copying)?;
        }
        file.flush().with_context(copying)?;
    }
    Ok(())
}

fn compare(folder: &Folder, to: &FatDir) -> anyhow::Result<()> {
    let (mut one, mut other) = (vec![0; BUFFER], vec![0; BUFFER]);
    for Within {
        name,
        itself,
        about,
    } in entries(folder)?
    {
        let path = itself.shown.display();
        let comparing = || format!("comparing {path}");
        if about.is_dir() {
            compare(&itself, &to.open_dir(&name).with_context(comparing)?)?;
            continue;
        }
        let mut from = File::open(&itself.at).with_context(comparing)?;
        let mut file = to.open_file(&name).with_context(comparing)?;
        let mut left = about.len();
        while left > 0 {
            let length = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let (one, other) = (&mut one[..length], &mut other[..length]);
            from.read_exact(one).with_context(comparing)?;
            file.read_exact(other).with_context(comparing)?;
            if one != other {
                bail!("{path} does not read back what was written");
            }
            left -= length as u64;
        }
        if file.read(&mut other[..1]).with_context(comparing)? != 0 {
            bail!("{path} is longer than what was written");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    const START_AT: u64 = 1 << 20;

    /// A disk in a file with a new FAT at 1 MiB.
    fn disk(size: u64, arguments: &[&str]) -> tempfile::NamedTempFile {
        let (disk, part) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        part.as_file().set_len(size).unwrap();
        let made = Command::new("mkfs.vfat")
            .args(arguments)
            .arg(part.path())
            .output()
            .unwrap();
        assert!(made.status.success());
        disk.as_file()
            .write_all_at(&fs::read(part.path()).unwrap(), START_AT)
            .unwrap();
        disk
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("EFI/BOOT")).unwrap();
        let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        fs::write(
            tree.path().join("EFI/BOOT/BOOTX64.EFI"),
            &large[..5_000_001],
        )
        .unwrap();
        fs::write(tree.path().join("EFI/a long name, with blanks.cfg"), b"x").unwrap();
        fs::write(tree.path().join("empty"), b"").unwrap();
        tree
    }

    /// Makes what a FAT cannot have.
    type Make = dyn Fn(&Path);

    #[test]
    fn a_fat_is_one_only_once_its_first_sector_is_there() {
        for (size, arguments) in [
            (40 << 20, &["-F", "32", "-s", "1"][..]),
            (20 << 20, &["-F", "16"]),
            (300 << 20, &["-S", "4096"]),
        ] {
            let disk = disk(size, arguments);
            let tree = tree();
            let range = START_AT..START_AT + size;
            let mut held = HeldBack::take(disk.path(), &range).unwrap();
            held.fill(tree.path(), "/efi", size).unwrap();
            let place = format!("{}@@1M", disk.path().display());
            let listed = || {
                let mut listing = Command::new("mdir");
                listing.args(["-b", "-/", "-i", &place, "::"]);
                listing.output().unwrap()
            };
            assert!(!listed().status.success(), "it is read before it is whole");
            held.commit().unwrap();
            let names = String::from_utf8(listed().stdout).unwrap();
            for name in [
                "EFI/BOOT/BOOTX64.EFI",
                "EFI/a long name, with blanks.cfg",
                "empty",
            ] {
                assert!(names.contains(name), "{names}");
            }
            // What fsck says of the volume alone.
            let copy = tempfile::NamedTempFile::new().unwrap();
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            let end = disk.as_file().metadata().unwrap().len();
            let there = usize::try_from(end - START_AT).unwrap().min(bytes.len());
            disk.as_file()
                .read_exact_at(&mut bytes[..there], START_AT)
                .unwrap();
            copy.as_file().write_all_at(&bytes, 0).unwrap();
            let checked = Command::new("fsck.vfat")
                .arg("-n")
                .arg(copy.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert!(checked.status.success(), "{said}");
        }
    }

    #[test]
    fn what_does_not_fit_and_what_fat_does_not_keep_is_told() {
        let disk = disk(2 << 20, &["-F", "12"]);
        let range = START_AT..START_AT + (2 << 20);
        let mut held = HeldBack::take(disk.path(), &range).unwrap();
        let error = held.fill(tree().path(), "/efi", 2 << 20).unwrap_err();
        assert!(format!("{error:#}").contains("BOOTX64.EFI"), "{error:#}");
        // As it is called in the new system, not where it lies meanwhile.
        let link = |folder: &Path| std::os::unix::fs::symlink("x", folder.join("link")).unwrap();
        let twins = |folder: &Path| {
            for name in ["A/Foo", "A/foo"] {
                fs::write(folder.join(name), "x").unwrap();
            }
        };
        let colon = |folder: &Path| fs::write(folder.join("a:b"), "x").unwrap();
        let cases: [(&Make, &str); 3] = [
            (&link, "/efi/link: FAT keeps files and folders alone"),
            (
                &twins,
                "/efi/A/foo: another name in that folder is the same but for capitals",
            ),
            (&colon, "/efi/a:b: its name has a letter that FAT has not"),
        ];
        for (make, why) in cases {
            let other = tempfile::tempdir().unwrap();
            fs::create_dir(other.path().join("A")).unwrap();
            make(other.path());
            let disk = self::disk(2 << 20, &["-F", "12"]);
            let mut held = HeldBack::take(disk.path(), &range).unwrap();
            let error = held.fill(other.path(), "/efi", 2 << 20).unwrap_err();
            assert!(format!("{error:#}").ends_with(why), "{error:#}");
        }
    }

    #[test]
    fn times_that_fat_cannot_say_are_its_first_one() {
        let at = |seconds| stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let noon = at(1_700_000_000);
        assert_eq!(
            (noon.date.year, noon.date.month, noon.date.day),
            (2023, 11, 14)
        );
        assert_eq!((noon.time.hour, noon.time.min, noon.time.sec), (22, 13, 20));
        assert_eq!(at(0), START);
        assert_eq!(at(5_000_000_000), START);
    }
}
