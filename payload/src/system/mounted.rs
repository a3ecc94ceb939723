//! Filesystems mounted below a folder, which are unmounted when nobody needs them any more.

use super::Volume;
use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pitstop_imaging::unmount::unmount;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What is done with a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not a byte of the disk changes: journals stay as they are.
    Read,
    Write,
}

/// Numbers the folders of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Filesystems at one root, a folder of their own.
#[derive(Debug)]
pub struct Mounts {
    root: PathBuf,
    access: Access,
    /// In the order in which they were mounted.
    points: Vec<PathBuf>,
}

impl Mounts {
    /// Nothing is mounted yet.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(access: Access) -> anyhow::Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pitstop-mount-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).with_context(|| format!("making {}", root.display()))?;
        Ok(Self {
            root,
            access,
            points: Vec::new(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Mounts `volume` at `below` the root, through no symlink that leads out of it.
    ///
    /// # Errors
    /// There is no such folder, the kernel does not know the filesystem, or it is damaged.
    pub fn add(
        &mut self,
        below: &Path,
        volume: &Volume,
        subvolume: Option<&str>,
    ) -> anyhow::Result<()> {
        let mounting = || {
            format!(
                "mounting {} ({}) at /{}",
                volume.name,
                volume.filesystem,
                below.display()
            )
        };
        let (flags, mut data) = options(&volume.filesystem, self.access);
        if let Some(subvolume) = subvolume.filter(|_| volume.filesystem == "btrfs") {
            data.push(format!("subvol={subvolume}"));
        }
        let data = data.join(",");
        // Held open, so that its name cannot come to mean another folder.
        let folder = self.folder(below).with_context(mounting)?;
        let point = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
            .with_context(mounting)?;
        let outcome = mount(
            Some(&volume.node),
            &point,
            Some(volume.filesystem.as_str()),
            flags,
            Some(data.as_str()).filter(|data| !data.is_empty()),
        );
        match outcome {
            Ok(()) => {}
            Err(nix::errno::Errno::ENODEV) => bail!(
                "{}: this kernel has no {}: put its module into the initramfs",
                mounting(),
                volume.filesystem
            ),
            Err(error) => return Err(error).with_context(mounting),
        }
        self.points.push(point);
        Ok(())
    }

    fn folder(&self, below: &Path) -> anyhow::Result<File> {
        let root = File::open(&self.root)?;
        if below == Path::new("") {
            return Ok(root);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(&root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        Ok(File::from(opened))
    }

    /// Leaves it mounted for good.
    pub fn keep(mut self) {
        self.points.clear();
    }

    /// Unmounts all of it, the last first.
    ///
    /// # Errors
    /// When one is in use.
    pub fn unmount(mut self) -> anyhow::Result<()> {
        if self.access == Access::Write {
            // An error of writing is told here, and not by unmounting.
            for point in &self.points {
                let flushing = || format!("flushing {}", point.display());
                let opened = File::open(point).with_context(flushing)?;
                rustix::fs::syncfs(&opened).with_context(flushing)?;
            }
        }
        while let Some(point) = self.points.pop() {
            unmount(&point).with_context(|| format!("unmounting {}", point.display()))?;
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while let Some(point) = self.points.pop() {
            // On the way out of an error, which is told; what is in use goes when nobody uses it any more.
            if umount2(&point, MntFlags::empty()).is_err() {
                let _ = umount2(&point, MntFlags::MNT_DETACH);
            }
        }
        // Never with what is in it: it may still be somebody's system.
        let _ = fs::remove_dir(&self.root);
    }
}

/// Where nothing is to be written, the filesystem must not replay its log either.
fn options(filesystem: &str, access: Access) -> (MsFlags, Vec<String>) {
    let quiet = MsFlags::MS_NOATIME;
    if access == Access::Write {
        return (quiet, Vec::new());
    }
    let data = match filesystem {
        "ext3" | "ext4" => vec!["noload".to_owned()],
        "xfs" | "f2fs" => vec!["norecovery".to_owned()],
        "btrfs" => vec!["rescue=nologreplay".to_owned()],
        _ => Vec::new(),
    };
    (quiet | MsFlags::MS_RDONLY, data)
}
