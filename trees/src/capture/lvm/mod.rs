//! Filesystems on LVM that a running system writes to, held still for a capture by snapshots. The system's own lvm makes them: it has the
//! kernel stop the filesystem for that moment, with all of it written down. So a snapshot is whole, and what its journal still has is
//! done within it.

mod volumes;

use super::mounts::{Mount, MountInfo};
use crate::beneath;
use crate::path::TreePath;
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::layout::stack::mapped;
use pitstop_imaging::tools;
use rustix::fs::{FlockOperation, OFlags, flock, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use volumes::{FIELDS, SEPARATOR, TAG, Volume, free_name, parse};

/// Filesystems that the kernel stops. Btrfs has snapshots of its own, and takes no second one with its UUID.
const KINDS: [&str; 4] = ["ext2", "ext3", "ext4", "xfs"];
/// Device-mapper's own device, which is root's alone: held by the one capture that has such snapshots.
const CONTROL: &str = "/dev/mapper/control";
/// Nothing of it goes to /etc/lvm, which is captured.
const CONFIGURATION: &str = "backup { backup=0 archive=0 }";
const ENVIRONMENT: [(&str, &str); 2] = [("LC_ALL", "C"), ("LVM_SUPPRESS_FD_WARNINGS", "1")];
/// lvm waits by itself while somebody is about to leave one, some seconds a time.
const TRIES: usize = 4;

/// What makes, shows and removes volumes.
trait Lvm: Sync {
    /// Runs lvm. Returns what it says.
    fn ask(&self, words: &[&str]) -> anyhow::Result<String>;
    /// Mounts a volume for reading, where nobody sees it.
    fn mount(&self, group: &str, name: &str, kind: &str) -> io::Result<OwnedFd>;
    /// The volume that a filesystem is on, as device-mapper calls it; `None` where it is on none.
    fn volume_of(&self, info: &MountInfo) -> Option<String>;
    /// Keeps other captures away. `None`: one is at work.
    fn turn(&self) -> anyhow::Result<Option<File>>;
}

struct System;

impl Lvm for System {
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        tools::ask("lvm", words, &ENVIRONMENT)
    }

    fn mount(&self, group: &str, name: &str, kind: &str) -> io::Result<OwnedFd> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", mapped(group, name))?;
        fsconfig_set_flag(&context, "ro")?;
        if kind == "xfs" {
            // The volume itself is mounted.
            fsconfig_set_flag(&context, "nouuid")?;
        }
        if kind.starts_with("ext") {
            // The superblock may say that an error is to stop the machine, and a snapshot that is full is one.
            fsconfig_set_string(&context, "errors", "continue")?;
        }
        fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOATIME;
        Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
    }

    fn volume_of(&self, info: &MountInfo) -> Option<String> {
        let (major, minor) = info.device;
        let path = format!("/sys/dev/block/{major}:{minor}/dm/uuid");
        let told = fs::read_to_string(path).ok()?;
        Some(told.trim().strip_prefix("LVM-")?.to_owned())
    }

    fn turn(&self) -> anyhow::Result<Option<File>> {
        let doing = || format!("locking {CONTROL}");
        let control = File::open(CONTROL).with_context(doing)?;
        match flock(&control, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(control)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(doing),
        }
    }
}

/// What a snapshot has its room of.
struct Share<'a> {
    all: &'a [Volume],
    /// The volumes that get one.
    ids: &'a [String],
    /// Bytes of the image at the most, where that is written to the volume.
    image: u64,
}

/// Bytes of a filesystem that are in use; all that there can be where it does not tell.
fn used(folder: &OwnedFd) -> u64 {
    fstatvfs(folder).map_or(u64::MAX >> 16, |told| {
        let blocks = told.f_blocks.saturating_sub(told.f_bfree);
        blocks.saturating_mul(told.f_frsize)
    })
}

/// Snapshots, removed when it is dropped. Handles of what is in them are closed before.
pub struct Snapshots<'a> {
    lvm: &'a dyn Lvm,
    reporter: &'a dyn Reporter,
    /// As lvm takes them: `vg0/pitstop-capture-0`.
    made: Vec<String>,
    turn: Option<File>,
}

impl<'a> Snapshots<'a> {
    pub fn new(reporter: &'a dyn Reporter) -> Self {
        Self::by(&System, reporter)
    }

    fn by(lvm: &'a dyn Lvm, reporter: &'a dyn Reporter) -> Self {
        Self {
            lvm,
            reporter,
            made: Vec::new(),
            turn: None,
        }
    }

    /// Has every filesystem on LVM among `mounts` be read from a snapshot, where there can be one; of others it is told why not. Returns
    /// whether the root is held still. `image` is the place of the image, where it is in one of them.
    pub fn hold(&mut self, mounts: &mut [Mount], image: Option<&TreePath>) -> bool {
        let lvm = self.lvm;
        // The innermost one: those in others stand behind them.
        let around = |image| {
            let mut around = mounts.iter().rev();
            around.find(|mount| TreePath::is_within(image, mount.path.as_bytes()))
        };
        let written = image.and_then(around).and_then(|it| it.info.as_ref());
        let written = written.and_then(|info| lvm.volume_of(info));
        // No image is larger than all that it is made of.
        let largest = mounts.iter().map(|mount| used(&mount.folder)).sum();
        let mut wanted: Vec<(&mut Mount, MountInfo, String)> = Vec::new();
        for mount in mounts {
            let info = mount.info.clone();
            let info = info.filter(|it| KINDS.contains(&it.kind.as_str()) && !it.is_read_only());
            let id = info.as_ref().and_then(|info| lvm.volume_of(info));
            if let (Some(info), Some(id)) = (info, id) {
                wanted.push((mount, info, id));
            }
        }
        if wanted.is_empty() {
            return false;
        }
        let all = self.begin();
        let mut ids: Vec<String> = wanted.iter().map(|(.., id)| id.clone()).collect();
        ids.sort();
        ids.dedup();
        let mut still = false;
        let mut held: Vec<(String, OwnedFd)> = Vec::new();
        for (mount, info, id) in wanted {
            let done = match &all {
                Ok(all) => {
                    let image = if written.as_ref() == Some(&id) {
                        largest
                    } else {
                        0
                    };
                    let share = Share {
                        all,
                        ids: &ids,
                        image,
                    };
                    self.hold_one(mount, &info, &id, &share, &mut held)
                }
                // Each is told of it.
                Err(error) => Err(anyhow!("{error:#}")),
            };
            match done {
                Ok(()) => still |= mount.path.is_root(),
                Err(error) => self.reporter.warn(format!(
                    "{} is read while it is written to, not from a snapshot: {error:#}",
                    mount.path
                )),
            }
        }
        still
    }

    /// Takes its turn, and removes what a capture that was killed has left. Returns all volumes.
    fn begin(&mut self) -> anyhow::Result<Vec<Volume>> {
        self.turn = self.lvm.turn()?;
        if self.turn.is_none() {
            bail!("another capture is at work: wait until it is done");
        }
        let all = self.list()?;
        // Whoever made them would hold the turn.
        let left: Vec<&Volume> = all.iter().filter(|volume| volume.is_ours()).collect();
        for volume in &left {
            let shown = volume.shown();
            match self.remove(&shown) {
                Ok(()) => self.reporter.warn(format!(
                    "the snapshot {shown}, which a capture that was killed has left, is removed"
                )),
                Err(error) => self.reporter.warn(format!(
                    "the snapshot {shown}, which a capture that was killed has left, stays: {error:#}"
                )),
            }
        }
        if left.is_empty() {
            Ok(all)
        } else {
            self.list()
        }
    }

    fn list(&self) -> anyhow::Result<Vec<Volume>> {
        let separator = SEPARATOR.to_string();
        let words = [
            "lvs",
            "--noheadings",
            "--nosuffix",
            "--units",
            "b",
            "--separator",
            &separator,
            "--options",
            FIELDS,
        ];
        parse(&self.lvm.ask(&words)?)
    }

    /// `held` are the snapshots that there are.
    fn hold_one(
        &mut self,
        mount: &mut Mount,
        info: &MountInfo,
        id: &str,
        share: &Share,
        held: &mut Vec<(String, OwnedFd)>,
    ) -> anyhow::Result<()> {
        if !held.iter().any(|(other, _)| other == id) {
            let Share { all, ids, image } = *share;
            let find = |id: &String| all.iter().find(|volume| volume.id == *id);
            let volume = all.iter().find(|volume| volume.id == id);
            let volume = volume.context("lvm does not show its volume")?;
            let of_group = ids.iter().filter_map(find);
            let of_group = of_group.filter(|it| it.group == volume.group);
            let extents = volume.snapshot(of_group.map(|it| it.size).sum(), image)?;
            let top = self.make(volume, extents, &info.kind)?;
            held.push((id.to_owned(), top));
        }
        let top = held.iter().find(|(other, _)| other == id);
        let (_, top) = top.context("its snapshot was just made")?;
        // What is mounted may be a folder of the filesystem.
        let below = info.root.strip_prefix(b"/").unwrap_or(&info.root);
        let opened = beneath::open(top.as_fd(), below, OFlags::RDONLY | OFlags::DIRECTORY);
        mount.folder = opened.context("opening it in the snapshot")?;
        mount.detached = true;
        Ok(())
    }

    fn make(&mut self, volume: &Volume, extents: u64, kind: &str) -> anyhow::Result<OwnedFd> {
        let (group, of) = (&volume.group, volume.shown());
        let now = self.list()?;
        let name = free_name(&now, group).context("all names of snapshots are taken")?;
        let made = format!("{group}/{name}");
        let extents = extents.to_string();
        let words = [
            "lvcreate",
            "--config",
            CONFIGURATION,
            "--yes",
            "--snapshot",
            "--name",
            &name,
            "--addtag",
            TAG,
            "--extents",
            &extents,
            &of,
        ];
        let doing = || format!("making the snapshot {made} of {of}");
        if let Err(error) = self.lvm.ask(&words) {
            // Ctrl-C ends lvm as well, which may have made it by then.
            let found = self.list().unwrap_or_default();
            if found.iter().any(|it| it.is_ours() && it.shown() == made) {
                self.made.push(made.clone());
            }
            return Err(error).with_context(doing);
        }
        self.made.push(made.clone());
        let mounted = self.lvm.mount(group, &name, kind);
        mounted.with_context(|| format!("mounting the snapshot {made}"))
    }

    fn remove(&self, shown: &str) -> anyhow::Result<()> {
        let words = ["lvremove", "--config", CONFIGURATION, "--yes", shown];
        let mut removed = self.lvm.ask(&words);
        for _ in 1..TRIES {
            if removed.is_ok() {
                break;
            }
            removed = self.lvm.ask(&words);
        }
        removed.map(drop)
    }

    /// Whether each snapshot has held all that was written to its volume.
    ///
    /// # Errors
    /// When one has not: what was read of it is of no moment.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        let all = self
            .list()
            .context("asking whether the snapshots are whole")?;
        for made in &self.made {
            let found = all.iter().find(|volume| volume.shown() == *made);
            found
                .with_context(|| format!("the snapshot {made} is gone: somebody has removed it"))?
                .check_whole()?;
        }
        Ok(())
    }
}

impl Drop for Snapshots<'_> {
    fn drop(&mut self) {
        for made in std::mem::take(&mut self.made) {
            if let Err(error) = self.remove(&made) {
                self.reporter.warn(format!(
                    "the snapshot {made} stays: {error:#}; the next capture removes it, or lvremove {made}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
