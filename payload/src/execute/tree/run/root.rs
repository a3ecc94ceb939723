//! The root that the machine goes on in: what is mounted for it, and undone where it comes to nothing.

use crate::system::{Mounts, Volume};
use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What is not told to an overlay is as the kernel was built, and a lower layer that changes between two boots goes with none
/// of these (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems").
const OVERLAY: &str = "redirect_dir=off,index=off,metacopy=off";

/// What is mounted at a new root.
pub struct NewRoot {
    path: PathBuf,
    /// In the order in which they were mounted.
    points: Vec<PathBuf>,
    /// The partition beneath it.
    scratch: Option<Mounts>,
    is_fresh: bool,
    /// The file that says that what is written there is not this machine's yet.
    making: Option<PathBuf>,
}

impl NewRoot {
    /// Nothing is mounted yet. The folder is made.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            points: Vec::new(),
            scratch: None,
            is_fresh: true,
            making: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this boot is the first that writes there.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// It is what an earlier boot has written.
    pub fn goes_on(&mut self) {
        self.is_fresh = false;
    }

    /// It is this boot's, and `making` lies there until [`made_own`](Self::made_own).
    pub fn begins(&mut self, making: PathBuf) {
        self.making = Some(making);
    }

    /// All that makes it the machine's own is written: from now on other boots go on with it.
    ///
    /// # Errors
    /// The partition does not take it.
    pub fn made_own(&mut self) -> anyhow::Result<()> {
        let Some(making) = self.making.take() else {
            return Ok(());
        };
        let doing = || format!("removing {}", making.display());
        let folder = making.parent().unwrap_or(&self.path);
        let folder = File::open(folder).with_context(doing)?;
        // Flushed first: without the file nobody would look whether the rest is there.
        rustix::fs::syncfs(&folder).with_context(doing)?;
        fs::remove_file(&making).with_context(doing)?;
        folder.sync_all().with_context(doing)
    }

    /// Mounts the partition that the rest lies on. Returns where.
    ///
    /// # Errors
    /// As [`Mounts::add`].
    pub fn scratch(&mut self, volume: &Volume) -> anyhow::Result<PathBuf> {
        let mut mounts = Mounts::new(crate::system::Access::Write)?;
        mounts.add(Path::new(""), volume, None)?;
        let at = mounts.root().to_owned();
        self.scratch = Some(mounts);
        Ok(at)
    }

    /// Mounts memory at `at`, of `most` bytes and as many files as there is memory for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(&mut self, at: &Path, most: u64) -> anyhow::Result<()> {
        fs::create_dir_all(at).with_context(|| format!("making {}", at.display()))?;
        let data = format!("size={most},nr_inodes=0,mode=0755");
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(data.as_str()),
        )
        .with_context(|| format!("mounting memory at {}", at.display()))?;
        self.points.push(at.to_owned());
        Ok(())
    }

    /// Lays `upper` over `lower`: what is written goes there.
    ///
    /// # Errors
    /// The kernel's; one without overlayfs.
    pub fn overlay(&mut self, lower: &Path, upper: &Path, work: &Path) -> anyhow::Result<()> {
        let data = format!(
            "lowerdir={},upperdir={},workdir={},{OVERLAY}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let outcome = mount(
            Some("overlay"),
            &self.path,
            Some("overlay"),
            MsFlags::empty(),
            Some(data.as_str()),
        );
        let doing = || format!("laying {} over the tree", upper.display());
        if outcome == Err(nix::errno::Errno::ENODEV) {
            bail!(
                "{}: this kernel has no overlayfs: put its module into the initramfs",
                doing()
            );
        }
        outcome.with_context(doing)?;
        self.points.push(self.path.clone());
        Ok(())
    }

    /// Leaves all of it mounted, for good. Returns the root.
    pub fn keep(mut self) -> PathBuf {
        self.points.clear();
        if let Some(scratch) = self.scratch.take() {
            scratch.keep();
        }
        std::mem::take(&mut self.path)
    }
}

impl Drop for NewRoot {
    fn drop(&mut self) {
        while let Some(point) = self.points.pop() {
            // On the way out of an error, which is told.
            if umount2(&point, MntFlags::empty()).is_err() {
                let _ = umount2(&point, MntFlags::MNT_DETACH);
            }
        }
    }
}

/// Whether the machine can go on in it: it has a program to start.
///
/// # Errors
/// It has none.
pub fn check(root: &Path, programs: &[&str]) -> anyhow::Result<()> {
    let folder = File::open(root).with_context(|| format!("opening {}", root.display()))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let can_start = programs.iter().any(|program| {
        let found = openat2(
            &folder,
            *program,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        let mode = found.and_then(fstat).map(|found| found.st_mode);
        mode.is_ok_and(|mode| mode & 0o111 != 0 && mode & 0o170_000 == 0o100_000)
    });
    if !can_start {
        bail!("its /sbin/init is no program that could be started");
    }
    Ok(())
}
