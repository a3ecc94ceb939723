//! Filesystems on LVM that a running system writes to, held still for a capture by snapshots. The system's own lvm makes them: it has the
//! kernel stop the filesystem for that moment, with all of it written down. So a snapshot is whole, and what its journal still has is
//! done within it.

mod volumes;

use super::mounts::{Mount, MountInfo};
use crate::beneath;
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
use std::path::{Path, PathBuf};
use volumes::{FIELDS, NotWhole, SEPARATOR, TAG, Volume, free_name, parse};

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
    /// Whether what a filesystem is on is made of what is in a volume: LUKS in one.
    fn is_within_volume(&self, info: &MountInfo) -> bool;
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
        volume_at(&device_of(info))
    }

    fn is_within_volume(&self, info: &MountInfo) -> bool {
        stands_on_volume(&device_of(info))
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

/// A device, as sysfs has it.
fn device_of(info: &MountInfo) -> PathBuf {
    let (major, minor) = info.device;
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

fn volume_at(device: &Path) -> Option<String> {
    let told = fs::read_to_string(device.join("dm/uuid")).ok()?;
    Some(told.trim().strip_prefix("LVM-")?.to_owned())
}

/// Whether a volume is anywhere below a device.
fn stands_on_volume(device: &Path) -> bool {
    let below = fs::read_dir(device.join("slaves"));
    let mut below = below.into_iter().flatten().flatten().map(|it| it.path());
    below.any(|it| volume_at(&it).is_some() || stands_on_volume(&it))
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

/// A snapshot that is to be removed.
struct Made {
    /// As lvm takes it: `vg0/pitstop-capture-0`.
    shown: String,
    /// One that could not be mounted may be full: nothing is read of it.
    is_read: bool,
}

/// A filesystem that is to be held still, and the volume that it is on.
type Wanted<'m> = (&'m mut Mount, MountInfo, String);

/// Snapshots, removed when it is dropped. Handles of what is in them are closed before.
pub struct Snapshots<'a> {
    lvm: &'a dyn Lvm,
    reporter: &'a dyn Reporter,
    made: Vec<Made>,
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
    /// whether the root is held still. `image` is the filesystem that the image is written to, where that is on this machine.
    pub fn hold(&mut self, mounts: &mut [Mount], image: Option<&MountInfo>) -> bool {
        let written = image.and_then(|info| self.lvm.volume_of(info));
        // No image is larger than all that it is made of.
        let largest = mounts.iter().map(|mount| used(&mount.folder)).sum();
        let wanted = self.wanted(mounts);
        if wanted.is_empty() {
            return false;
        }
        let mut ids: Vec<String> = wanted.iter().map(|(.., id)| id.clone()).collect();
        ids.sort();
        ids.dedup();
        let all = self.begin(&ids);
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
                Err(error) => self.tell_live(mount, &error),
            }
        }
        still
    }

    fn wanted<'m>(&self, mounts: &'m mut [Mount]) -> Vec<Wanted<'m>> {
        let mut wanted = Vec::new();
        for mount in mounts {
            let info = mount.info.clone();
            let info = info.filter(|it| KINDS.contains(&it.kind.as_str()) && !it.is_read_only());
            let Some(info) = info else {
                continue;
            };
            if let Some(id) = self.lvm.volume_of(&info) {
                wanted.push((mount, info, id));
            } else if self.lvm.is_within_volume(&info) {
                let why = anyhow!("it is in LUKS, or the like, within a volume");
                self.tell_live(mount, &why);
            }
        }
        wanted
    }

    fn tell_live(&self, mount: &Mount, why: &anyhow::Error) {
        self.reporter.warn(format!(
            "{} is read while it is written to, not from a snapshot: {why:#}",
            mount.path
        ));
    }

    /// Takes its turn, and removes what a capture of the volumes `ids` that was killed has left. Returns all volumes.
    fn begin(&mut self, ids: &[String]) -> anyhow::Result<Vec<Volume>> {
        self.turn = self.lvm.turn()?;
        if self.turn.is_none() {
            bail!("another capture is at work: wait until it is done");
        }
        let all = self.list()?;
        // Whoever made them would hold the turn. Not so of volumes that are not mounted here: a disk may be shared with another
        // machine, which is at work on its own.
        let read = || all.iter().filter(|volume| ids.contains(&volume.id));
        let left = all.iter().filter(|volume| volume.is_ours());
        let left: Vec<&Volume> = left.filter(|it| read().any(|of| it.is_of(of))).collect();
        for volume in &left {
            let shown = volume.shown();
            let done = match self.remove(&shown) {
                Ok(()) => "is removed".to_owned(),
                Err(error) => format!("stays: {error:#}"),
            };
            self.reporter.warn(format!(
                "the snapshot {shown}, which a capture that was killed has left, {done}"
            ));
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
                self.made.push(Made {
                    shown: made.clone(),
                    is_read: false,
                });
            }
            return Err(error).with_context(doing);
        }
        let mounted = self.lvm.mount(group, &name, kind);
        self.made.push(Made {
            shown: made.clone(),
            is_read: mounted.is_ok(),
        });
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

    /// Adds to an error that ended a capture what it may come of: a snapshot that is full cannot be read.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.check() {
            Err(why) if !error.is::<NotWhole>() => error.context(why),
            _ => error,
        }
    }

    /// Whether each snapshot that is read has held all that was written to its volume.
    ///
    /// # Errors
    /// When one has not: what was read of it is of no moment.
    pub fn check(&self) -> Result<(), NotWhole> {
        self.check_each()
            .map_err(|why| NotWhole(format!("{why:#}")))
    }

    fn check_each(&self) -> anyhow::Result<()> {
        if !self.made.iter().any(|made| made.is_read) {
            return Ok(());
        }
        let all = self.list();
        let all = all.context("asking whether the snapshots are whole")?;
        for Made { shown: made, .. } in self.made.iter().filter(|made| made.is_read) {
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
        for Made { shown: made, .. } in std::mem::take(&mut self.made) {
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
