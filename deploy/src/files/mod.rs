//! Files of a system, as the system itself would see them: symlinks are its own, and none leads out (openat2(2),
//! `RESOLVE_IN_ROOT`). What is replaced keeps owner, mode, label and the other attributes.

mod entry;

pub use entry::{empty, free, is_fat, label_in, remove_in};

use crate::inside::make_folder;
use crate::root::Root;
use anyhow::{Context, bail};
use entry::{Old, attributes, hold, label};
use pitstop_imaging::event::Reporter;
use pitstop_trees::inode;
use rustix::fs::{
    AtFlags, Dir, IFlags, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, openat, openat2,
    readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// As many symlinks as Linux follows (`path_resolution(7)`).
const LINKS: usize = 40;
/// No configuration is larger.
const MOST: u64 = 16 << 20;
/// `MSDOS_SUPER_MAGIC` and `EXFAT_SUPER_MAGIC` (linux/magic.h): filesystems that keep neither owners nor modes.
const FAT: [u64; 2] = [0x4d44, 0x2011_BAB0];
pub const LABEL: &[u8] = b"security.selinux";
/// `SELinux` gives every file its label again at the next boot if this one is there.
const AUTORELABEL: &str = ".autorelabel";

/// The files below a root.
pub struct Files<'a> {
    root: &'a Root,
    fd: OwnedFd,
    /// Whether the system goes by labels of `SELinux`.
    labels: bool,
    /// What was made without a label.
    unlabelled: RefCell<Vec<String>>,
}

/// Where a file is, symlinks followed: its folder, and its name in it.
pub struct Place {
    pub folder: OwnedFd,
    pub name: Vec<u8>,
}

impl<'a> Files<'a> {
    /// # Errors
    /// When the root cannot be opened.
    pub fn of(root: &'a Root) -> anyhow::Result<Self> {
        let fd = File::open(root.path())
            .with_context(|| format!("opening {}", root.path().display()))?;
        let mut files = Self {
            root,
            fd: fd.into(),
            labels: false,
            unlabelled: RefCell::default(),
        };
        let config = files.text("etc/selinux/config")?.unwrap_or_default();
        let is_off = |line: &str| line.trim().eq_ignore_ascii_case("SELINUX=disabled");
        files.labels = !config.is_empty() && !config.lines().any(is_off);
        Ok(files)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For messages.
    pub fn shown(&self, path: &str) -> String {
        let root = self.root.path().display().to_string();
        format!(
            "{}/{}",
            root.trim_end_matches('/'),
            path.trim_start_matches('/')
        )
    }

    /// # Errors
    /// As the kernel has them.
    pub fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC;
        loop {
            // Something was renamed meanwhile: asked again, the kernel looks again (openat2(2), EAGAIN).
            match openat2(&self.fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Whether something is there, symlinks followed.
    pub fn exists(&self, path: &str) -> bool {
        self.open(path.as_bytes(), OFlags::PATH).is_ok()
    }

    /// What is in a file; `None` where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let reading = || format!("reading {}", self.shown(path));
        let opened = match self.open(path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => File::from(other.with_context(reading)?),
        };
        if !opened.metadata().with_context(reading)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        opened
            .take(MOST + 1)
            .read_to_end(&mut bytes)
            .with_context(reading)?;
        if bytes.len() as u64 > MOST {
            bail!(
                "{} is larger than {} MiB: it is no configuration",
                self.shown(path),
                MOST >> 20
            );
        }
        Ok(Some(bytes))
    }

    /// The same of a text; what is no UTF-8 is replaced, so nothing of it is to be written back.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        let bytes = self.read(path)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names in a folder, sorted; none where there is no folder. Names that are no UTF-8 are nobody's configuration.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn list(&self, folder: &str) -> anyhow::Result<Vec<String>> {
        let reading = || format!("reading {}", self.shown(folder));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match self.open(folder.as_bytes(), flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            other => other.with_context(reading)?,
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let name = entry.file_name().to_str().unwrap_or(".");
            if !matches!(name, "." | "..") {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Where a symlink leads, as it is written; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn link_target(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let opened = match self.open(path.as_bytes(), flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other.with_context(|| format!("opening {}", self.shown(path)))?,
        };
        match readlinkat(&opened, "", Vec::new()) {
            // It is none.
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            other => {
                let target = other.with_context(|| format!("reading {}", self.shown(path)))?;
                Ok(Some(OsString::from_vec(target.into_bytes()).into()))
            }
        }
    }

    /// The label of what is at `path`, where it has one.
    pub fn label(&self, path: &str) -> Option<Vec<u8>> {
        let opened = self.open(path.as_bytes(), OFlags::PATH).ok()?;
        label(&*inode::xattrs(&opened).ok()?)
    }

    /// Gives what programs of the tree made the label of what it replaces.
    ///
    /// # Errors
    /// When the filesystem does not take it.
    pub fn set_label(&self, path: &str, label: Option<&[u8]>) -> anyhow::Result<()> {
        let Some(label) = label else {
            self.note_unlabelled(path);
            return Ok(());
        };
        let opened = self
            .open(path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK)
            .with_context(|| format!("opening {}", self.shown(path)))?;
        fsetxattr(&opened, LABEL, label, XattrFlags::empty())
            .with_context(|| format!("setting the label of {}", self.shown(path)))
    }

    pub fn note_unlabelled(&self, path: &str) {
        if self.labels {
            self.unlabelled.borrow_mut().push(path.to_owned());
        }
    }

    /// Writes a whole file. One that is there keeps owner, mode, attributes and flags; a new one is root's, with `mode`.
    ///
    /// # Errors
    /// When its folder is missing, it is no file, or it cannot be written.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let writing = || format!("writing {}", self.shown(path));
        let place = self.place(path).with_context(writing)?;
        let old = Old::of(&place).with_context(writing)?;
        let is_fat = is_fat(&place.folder).with_context(writing)?;
        let temporary = [b".", &place.name[..], b".pitstop"].concat();
        match unlinkat(&place.folder, &temporary[..], AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(writing),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = openat(
            &place.folder,
            &temporary[..],
            flags,
            Mode::RUSR | Mode::WUSR,
        );
        let mut file = File::from(opened.with_context(writing)?);
        file.write_all(bytes).with_context(writing)?;
        if !is_fat {
            attributes(&file, old.as_ref(), mode).with_context(writing)?;
        }
        let held = match &old {
            Some(old) => old.let_go(&place).with_context(writing)?,
            None => IFlags::empty(),
        };
        renameat(
            &place.folder,
            &temporary[..],
            &place.folder,
            &place.name[..],
        )
        .with_context(writing)?;
        if !held.is_empty() {
            hold(&file, held).with_context(writing)?;
        }
        let labelled = old.is_some_and(|old| label(&old.attributes.xattrs).is_some());
        if !labelled && !is_fat {
            self.note_unlabelled(path);
        }
        Ok(())
    }

    /// Removes what is at `path`, a folder with all that is in it. Nothing there is no error; a symlink is removed itself.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.remove_bytes(path.as_bytes())
    }

    /// The same of a path that may be no text.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_bytes(&self, path: &[u8]) -> anyhow::Result<()> {
        let removing = || format!("removing {}", self.shown(&String::from_utf8_lossy(path)));
        let (folder, name) = split(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = match self.open(folder, flags) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.with_context(removing)?,
        };
        remove_in(&folder, name).with_context(removing)
    }

    /// Makes a symlink in the place of what is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn link(&self, path: &str, target: &str) -> anyhow::Result<()> {
        self.remove(path)?;
        let (folder, name) = split(path.as_bytes());
        let linking = || format!("making the link {}", self.shown(path));
        let folder = self
            .open(folder, OFlags::PATH | OFlags::DIRECTORY)
            .with_context(linking)?;
        symlinkat(target, &folder, name).with_context(linking)?;
        self.note_unlabelled(path);
        Ok(())
    }

    /// Makes a folder and those it is in, where they are not there: root's, with 0755.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn make_folders(&self, path: &str) -> anyhow::Result<()> {
        let making = || format!("making the folder {}", self.shown(path));
        let mut at = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let folder = self
                .open(at.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
                .with_context(making)?;
            at = format!("{at}/{name}");
            match make_folder(&folder, name) {
                Ok(()) => self.note_unlabelled(&at),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(making),
            }
        }
        Ok(())
    }

    /// Has `SELinux` label what was made without a label, at the next boot.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn finish(self, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let unlabelled = self.unlabelled.take();
        let Some(first) = unlabelled.first() else {
            return Ok(());
        };
        if !self.exists(AUTORELABEL) {
            self.write(AUTORELABEL, b"", 0o644)?;
        }
        reporter.warn(format!(
            "{} new files have no SELinux label, {first} among them: the first boot labels all files anew (/.autorelabel), and takes longer",
            unlabelled.len()
        ));
        Ok(())
    }

    /// The place of a file, its own symlinks followed.
    fn place(&self, path: &str) -> anyhow::Result<Place> {
        let mut path = path.as_bytes().to_vec();
        for _ in 0..LINKS {
            let (folder, name) = split(&path);
            let opened = self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
            match readlinkat(&opened, name, Vec::new()) {
                Ok(target) => {
                    let target = target.into_bytes();
                    path = if target.starts_with(b"/") {
                        target
                    } else {
                        [folder, b"/", &target[..]].concat()
                    };
                }
                Err(Errno::INVAL | Errno::NOENT) => {
                    return Ok(Place {
                        folder: opened,
                        name: name.to_vec(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("its symlinks lead in circles")
    }
}

/// Folder and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
