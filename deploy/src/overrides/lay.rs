//! Entries of a layer, each put where it belongs in a tree.

use super::{Copied, Data, Owners, Takes};
use crate::files::{self, Files};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_trees::Item;
use pitstop_trees::entry::{Attributes, Entry, Kind, Time};
use pitstop_trees::inode;
use pitstop_trees::path::TreePath;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmodat, chownat, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, renameat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

/// What a layer takes away (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What is made stands beside what it replaces until it is whole.
const TEMPORARY: &[u8] = b".pitstop-override";

/// One layer on its way.
pub struct Layer<'a> {
    files: &'a Files<'a>,
    name: &'a str,
    owners: Owners,
    reporter: &'a dyn Reporter,
    copied: Copied,
    /// New folders, whose times are set when all is in them.
    folders: Vec<(TreePath, Time)>,
}

impl<'a> Layer<'a> {
    pub fn new(
        files: &'a Files<'a>,
        name: &'a str,
        owners: Owners,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self {
            files,
            name,
            owners,
            reporter,
            copied: Copied::default(),
            folders: Vec::new(),
        }
    }

    /// An entry of a tar.
    pub fn item(&mut self, item: &Item) -> anyhow::Result<()> {
        self.entry(&item.entry, &|file| item.write_to(file))
            .with_context(|| item.entry.path.to_string())
    }

    fn folder(&mut self, parent: &OwnedFd, entry: &Entry) -> anyhow::Result<()> {
        let path = &entry.path;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.files.open(path.as_bytes(), flags) {
            Ok(_) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
        match mkdirat(parent, path.name(), Mode::RWXU) {
            Err(Errno::EXIST) => {
                bail!("it is no folder in the tree, and a folder cannot lie over it")
            }
            other => other?,
        }
        if !files::is_fat(parent)? {
            self.attributes(parent, path.name(), entry, None)?;
            self.note_label(entry, false);
        }
        self.folders.push((path.clone(), entry.attributes.mtime));
        Ok(())
    }

    /// Makes it under another name, and puts it in the place of what is there.
    fn make(&mut self, folder: &OwnedFd, entry: &Entry, data: Data) -> anyhow::Result<()> {
        let (name, wanted) = (entry.path.name(), &entry.attributes);
        files::remove_in(folder, TEMPORARY)?;
        let mode = Mode::from_raw_mode(0o600);
        let node = |kind, device| mknodat(folder, TEMPORARY, kind, mode, device);
        match &entry.kind {
            Kind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = File::from(openat(folder, TEMPORARY, flags, mode)?);
                data(&file).context("copying it")?;
            }
            Kind::Symlink(target) => symlinkat(&target[..], folder, TEMPORARY)?,
            Kind::HardLink(to) => {
                let at = self
                    .files
                    .open(to.folder(), OFlags::PATH | OFlags::DIRECTORY)?;
                linkat(&at, to.name(), folder, TEMPORARY, AtFlags::empty())
                    .with_context(|| format!("linking it to {to}"))?;
            }
            Kind::Character { major, minor } => {
                node(FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            Kind::Block { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor))?,
            Kind::Fifo => node(FileType::Fifo, 0)?,
            Kind::Folder => {}
        }
        let label = files::label_in(folder, name);
        if !files::is_fat(folder)? && !matches!(entry.kind, Kind::HardLink(_)) {
            self.attributes(folder, TEMPORARY, entry, label.as_deref())?;
            set_time(folder, TEMPORARY, wanted.mtime)?;
            self.note_label(entry, label.is_some());
        }
        match renameat(folder, TEMPORARY, folder, name) {
            Err(Errno::PERM) => {
                files::free(folder, name)?;
                renameat(folder, TEMPORARY, folder, name)?;
            }
            other => other?,
        }
        // Two names of one file stay two (rename(2)).
        match unlinkat(folder, TEMPORARY, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Owner, mode, extended attributes, in this order; `label` is that of what it replaces.
    fn attributes(
        &self,
        folder: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        label: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        let wanted: &Attributes = &entry.attributes;
        let (uid, gid) = match self.owners {
            Owners::Root => (0, 0),
            Owners::Kept => (wanted.uid, wanted.gid),
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        chownat(
            folder,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            nofollow,
        )
        .context("setting its owner")?;
        // Linux has no modes of symlinks.
        if !matches!(entry.kind, Kind::Symlink(_)) {
            chmodat(
                folder,
                name,
                Mode::from_raw_mode(wanted.mode),
                AtFlags::empty(),
            )
            .context("setting its mode")?;
        }
        // How the layer's own disk stores it says nothing of this one.
        let own = wanted.xattrs.pairs().iter();
        let own = own.filter(|(key, _)| key != inode::COMPRESSION);
        let own = own.map(|(key, value)| (&key[..], &value[..]));
        let label = label.filter(|_| !has_label(entry));
        for (key, value) in own.chain(label.map(|label| (files::LABEL, label))) {
            let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            lsetxattr(&path[..], key, value, XattrFlags::empty())
                .context("setting its extended attributes")?;
        }
        Ok(())
    }

    fn note_label(&self, entry: &Entry, kept: bool) {
        if !kept && !has_label(entry) {
            self.files.note_unlabelled(&entry.path.to_string());
        }
    }

    fn whiteout(
        &mut self,
        folder: &OwnedFd,
        path: &TreePath,
        name: &[u8],
        hidden: &[u8],
    ) -> anyhow::Result<()> {
        if name == OPAQUE {
            let way = self
                .files
                .open(path.folder(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.copied.removed += files::empty(&way)?;
            return Ok(());
        }
        if hidden.is_empty() || matches!(hidden, b"." | b"..") {
            bail!("it is no name of a file to take away");
        }
        if statat(folder, hidden, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            files::remove_in(folder, hidden)?;
            self.copied.removed += 1;
            self.reporter
                .debug(format!("{}: {path} takes a file away", self.name));
        }
        Ok(())
    }

    /// What became of its files.
    ///
    /// # Errors
    /// When the time of a new folder cannot be set.
    pub fn finish(self) -> anyhow::Result<Copied> {
        for (path, time) in self.folders.iter().rev() {
            let setting = || format!("setting the time of {path}");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let parent = self
                .files
                .open(path.folder(), flags)
                .with_context(setting)?;
            if !files::is_fat(&parent)? {
                set_time(&parent, path.name(), *time).with_context(setting)?;
            }
        }
        Ok(self.copied)
    }
}

impl Takes for Layer<'_> {
    fn pass_over(&self, path: &TreePath, what: &str) {
        self.reporter
            .warn(format!("{}{path} is {what}, and passed over", self.name));
    }

    /// Puts one entry into the tree.
    ///
    /// # Errors
    /// When its folder is none in the tree, or something of another kind is in its place.
    fn entry(&mut self, entry: &Entry, data: Data) -> anyhow::Result<()> {
        let path = &entry.path;
        if path.is_root() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self
            .files
            .open(path.folder(), flags)
            .context("opening its folder in the tree")?;
        let name = path.name();
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&folder, path, name, hidden);
        }
        if entry.kind == Kind::Folder {
            return self.folder(&folder, entry);
        }
        let there = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            other => Some(other?),
        };
        let there = there.map(|found| FileType::from_raw_mode(found.st_mode));
        if there == Some(FileType::Directory) {
            bail!(
                "it is a folder in the tree, and a {} cannot lie over it",
                entry.kind.word()
            );
        }
        self.make(&folder, entry, data)?;
        let word = if there.is_some() {
            self.copied.replaced += 1;
            "replaced"
        } else {
            self.copied.added += 1;
            "added"
        };
        self.copied.paths.insert(path.clone());
        self.reporter
            .debug(format!("{}: {path} is {word}", self.name));
        Ok(())
    }
}

fn has_label(entry: &Entry) -> bool {
    let mut pairs = entry.attributes.xattrs.pairs().iter();
    pairs.any(|(key, _)| key == files::LABEL)
}

fn set_time(folder: &OwnedFd, name: &[u8], time: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanos.into(),
        },
    };
    utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
