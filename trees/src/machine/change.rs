//! Changing what is at a path: attributes, flags, times.

use super::Machine;
use crate::entry::{Attributes, Kind, Time};
use crate::extract::attributes::{Losses, set_flags, set_named, set_open};
use crate::extract::folder::{Folder, Target};
use crate::flags::Flags;
use crate::inode::{COMPRESSION, proc_path, xattrs};
use crate::path::{TreePath, shown};
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use rustix::fs::{
    AtFlags, IFlags, OFlags, Timespec, Timestamps, UTIME_OMIT, ioctl_getflags, ioctl_setflags,
    utimensat,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL` (linux/fs.h): nothing is renamed over such a file.
const HARD: u32 = 0x30;

/// Changes a machine, best in the order of the tree: the folder that was needed last stays open.
pub struct Changer<'a> {
    machine: &'a Machine,
    losses: Losses,
    folder: Option<(usize, Folder)>,
}

impl<'a> Changer<'a> {
    pub fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            losses: Losses::default(),
            folder: None,
        }
    }

    pub fn machine(&self) -> &'a Machine {
        self.machine
    }

    /// Tells what the filesystems could not keep.
    ///
    /// # Errors
    /// When it matters.
    pub fn finish(self, reporter: &dyn Reporter) -> anyhow::Result<()> {
        self.losses.tell(self.machine.name(), reporter)
    }

    /// The folder that `path` is in.
    ///
    /// # Errors
    /// When it is not there.
    pub fn folder(&mut self, path: &TreePath) -> io::Result<&OwnedFd> {
        Ok(&self.open_folder(path)?.fd)
    }

    fn open_folder(&mut self, path: &TreePath) -> io::Result<&Folder> {
        let mount = self.machine.mount_of(path);
        let kept = self.folder.take();
        let kept = kept.filter(|(on, folder)| *on == mount && folder.path == path.folder());
        let kept = if let Some(kept) = kept {
            kept
        } else {
            let folder = Folder {
                path: path.folder().to_vec(),
                fd: self.machine.folder_of(path, OFlags::RDONLY)?,
                is_fat: self.machine.is_fat(mount),
            };
            (mount, folder)
        };
        Ok(&self.folder.insert(kept).1)
    }

    fn open(&self, path: &TreePath) -> io::Result<OwnedFd> {
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.machine.open_path(path, how)
    }

    /// Takes away from a file or folder what would hinder that it is replaced or changed.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn soften(&self, path: &TreePath) -> io::Result<()> {
        let opened = self.open(path)?;
        match ioctl_getflags(&opened) {
            Ok(has) if has.bits() & HARD != 0 => {
                let soft = IFlags::from_bits_retain(has.bits() & !HARD);
                Ok(ioctl_setflags(&opened, soft)?)
            }
            Ok(_) | Err(Errno::NOTTY | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what is at `path`, which is of `kind`, all of `wanted` but flags. Extended attributes that it has besides go.
    ///
    /// # Errors
    /// When something cannot be set.
    pub fn set(&mut self, path: &TreePath, kind: &Kind, wanted: &Attributes) -> anyhow::Result<()> {
        let name = self.machine.shown(path);
        let is_fat = self.machine.is_fat(self.machine.mount_of(path));
        if matches!(kind, Kind::Folder | Kind::File { .. }) {
            let opened = self.open(path).with_context(|| format!("opening {name}"))?;
            drop_others(&opened, wanted, &name)?;
            return set_open(&opened, wanted, is_fat, &name, &self.losses);
        }
        let opened = self.machine.open_path(path, OFlags::PATH);
        let opened = opened.with_context(|| format!("opening {name}"))?;
        drop_others(&opened, wanted, &name)?;
        let folder = self
            .open_folder(path)
            .with_context(|| format!("opening the folder of {name}"))?;
        let root = folder.fd.try_clone().context("keeping a folder open")?;
        let mut target = Target::at(name.clone(), root);
        // Whose it is now is not known: the owner is set always.
        target.owner = (u32::MAX, u32::MAX);
        let folder = self
            .folder
            .as_ref()
            .map(|(_, folder)| folder)
            .context("the folder was just opened")?;
        set_named(
            folder,
            path.name(),
            kind,
            wanted,
            &target,
            &name,
            &self.losses,
        )
    }

    /// Sets flags, and clears those of others that say what may be done with it.
    ///
    /// # Errors
    /// When it cannot be opened, or the kernel refuses.
    pub fn flags(&self, path: &TreePath, wanted: Flags) -> anyhow::Result<()> {
        let name = self.machine.shown(path);
        let opened = self.open(path).with_context(|| format!("opening {name}"))?;
        if let Ok(has) = ioctl_getflags(&opened) {
            let others = has.bits() & HARD & !wanted.bits();
            if others != 0 {
                let rest = IFlags::from_bits_retain(has.bits() & !others);
                ioctl_setflags(&opened, rest)
                    .with_context(|| format!("clearing flags of {name}"))?;
            }
        }
        set_flags(&opened, wanted, &name, &self.losses)
    }

    /// Sets the time of what is at `path`.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn time(&mut self, path: &TreePath, time: Time) -> io::Result<()> {
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
        if self.machine.is_point(path) {
            let opened = self.open(path)?;
            return Ok(rustix::fs::futimens(&opened, &times)?);
        }
        let folder = self.open_folder(path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(utimensat(&folder.fd, path.name(), &times, flags)?)
    }
}

/// Removes the extended attributes that are not in `wanted`.
fn drop_others(opened: &OwnedFd, wanted: &Attributes, name: &str) -> anyhow::Result<()> {
    let has = xattrs(opened).with_context(|| format!("reading the attributes of {name}"))?;
    let wants = |key: &[u8]| wanted.xattrs.pairs().iter().any(|(it, _)| it == key);
    for (key, _) in has.pairs() {
        // A label that the image knows nothing of is of the machine's own policy, as is how it stores data.
        if wants(key) || key == b"security.selinux" || key == COMPRESSION {
            continue;
        }
        match rustix::fs::removexattr(proc_path(opened), &key[..]) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing {} of {name}", shown(key)));
            }
        }
    }
    Ok(())
}
