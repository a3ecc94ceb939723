//! The target, and handles of the folders in it.

use crate::beneath;
use crate::entry::Entry;
use crate::path::TreePath;
use anyhow::{Context, bail};
use rustix::fs::{FileType, Mode, OFlags, fchmod, fremovexattr, fstat, fstatfs, mkdirat};
use rustix::io::Errno;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `MSDOS_SUPER_MAGIC` and `EXFAT_SUPER_MAGIC` (linux/magic.h): filesystems that keep neither owners nor modes.
const FAT: [u64; 2] = [0x4d44, 0x2011_BAB0];
/// What mkfs leaves in a new filesystem.
const LOST_FOUND: &str = "lost+found";

/// The folder that a tree is made in.
pub struct Target {
    pub name: String,
    pub root: OwnedFd,
    /// Other filesystems that are mounted in it, each behind the one that it is in.
    pub mounts: Vec<(TreePath, OwnedFd)>,
    /// Whom new files belong to.
    pub owner: (u32, u32),
}

impl Target {
    /// Opens or makes the folder, which must be empty but for mount points of empty filesystems.
    pub fn prepare(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        fs::create_dir_all(path).with_context(|| format!("making {name}"))?;
        let mut mounts = Vec::new();
        if let Some(found) = mounts_in(path, &TreePath::root(), &mut mounts)? {
            bail!(
                "{name} is not empty ({found} is in it): a tree is unpacked into a folder of its own"
            );
        }
        let root = File::open(path).with_context(|| format!("opening {name}"))?;
        let target = Self {
            mounts,
            ..Self::at(name, root.into())
        };
        let mounted = target.mounts.iter().map(|(_, folder)| folder);
        for folder in mounted.chain([&target.root]) {
            pass_nothing_on(folder)
                .with_context(|| format!("preparing the folder {}", target.name))?;
        }
        Ok(target)
    }

    /// A folder that is open already, whatever is in it.
    pub fn at(name: String, root: OwnedFd) -> Self {
        Self {
            name,
            root,
            mounts: Vec::new(),
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        }
    }

    /// For messages: where `path` is on this computer.
    pub fn shown<'a>(&'a self, path: &'a TreePath) -> Shown<'a> {
        Shown { target: self, path }
    }

    /// Opens what is at `path`.
    pub fn open(&self, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(beneath::open(self.root.as_fd(), path.as_bytes(), flags)?)
    }
}

/// Made into text where something is wrong, and for none of the many files where nothing is.
pub struct Shown<'a> {
    target: &'a Target,
    path: &'a TreePath,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.target.name.trim_end_matches('/'), self.path)
    }
}

/// Finds the mount points in the folder `at`, which is `path` in the target. Returns what is in it beside them.
fn mounts_in(
    at: &Path,
    path: &TreePath,
    mounts: &mut Vec<(TreePath, OwnedFd)>,
) -> anyhow::Result<Option<String>> {
    let reading = || format!("reading {}", at.display());
    let own = fs::symlink_metadata(at).with_context(reading)?.dev();
    for entry in fs::read_dir(at).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name();
        if name == LOST_FOUND {
            continue;
        }
        let other = || Some(Path::new(&name).display().to_string());
        let found = fs::symlink_metadata(entry.path()).with_context(reading)?;
        if !found.is_dir() {
            return Ok(other());
        }
        let below = path
            .join(name.as_bytes())
            .with_context(|| format!("the path {}", entry.path().display()))?;
        let before = mounts.len();
        if found.dev() != own {
            let opened = File::open(entry.path())
                .with_context(|| format!("opening {}", entry.path().display()))?;
            mounts.push((below.clone(), opened.into()));
        }
        let beside = mounts_in(&entry.path(), &below, mounts)?;
        if beside.is_some() {
            return Ok(beside);
        }
        // A folder that leads to none is somebody's.
        if mounts.len() == before {
            return Ok(other());
        }
    }
    Ok(None)
}

/// An open folder of the target.
pub struct Folder {
    pub path: Vec<u8>,
    pub fd: OwnedFd,
    pub is_fat: bool,
}

impl Folder {
    /// Makes a folder in it that nobody else enters yet. One that is there already is taken if it is a folder: mount
    /// points are.
    pub fn make(&self, name: &[u8]) -> io::Result<()> {
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                let found = rustix::fs::statat(&self.fd, name, flags)?;
                match FileType::from_raw_mode(found.st_mode) {
                    FileType::Directory => Ok(()),
                    _ => Err(Errno::EXIST.into()),
                }
            }
            made => Ok(made?),
        }
    }
}

/// Where entries go.
pub trait Places {
    /// Whether the entry with this number is wanted at all.
    fn wants(&self, number: usize) -> bool;

    /// The folder of an entry, and its name in it.
    fn of<'a>(
        &'a mut self,
        number: usize,
        entry: &'a Entry,
    ) -> anyhow::Result<(&'a Folder, &'a [u8])>;
}

impl Places for Folders<'_> {
    fn wants(&self, _: usize) -> bool {
        true
    }

    fn of<'a>(&'a mut self, _: usize, entry: &'a Entry) -> anyhow::Result<(&'a Folder, &'a [u8])> {
        Ok((Folders::of(self, &entry.path)?, entry.path.name()))
    }
}

/// The folder that was needed last: entries of one stand together.
pub struct Folders<'a> {
    target: &'a Target,
    last: Option<Folder>,
}

impl<'a> Folders<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self { target, last: None }
    }

    /// The folder that `path` is in.
    pub fn of(&mut self, path: &TreePath) -> anyhow::Result<&Folder> {
        let wanted = path.folder();
        if self.last.as_ref().is_none_or(|last| last.path != wanted) {
            let root = self.target.root.as_fd();
            let opened = beneath::open(root, wanted, OFlags::PATH | OFlags::DIRECTORY);
            let name = || format!("opening the folder of {}", self.target.shown(path));
            let fd = opened.with_context(name)?;
            let is_fat = is_fat(&fd).with_context(name)?;
            self.last = Some(Folder {
                path: wanted.to_vec(),
                fd,
                is_fat,
            });
        }
        self.last
            .as_ref()
            .with_context(|| format!("the folder of {path} was just opened"))
    }
}

/// Takes away what a folder passes on to all that is made in it: its ACLs, and its group. What a tree has is set when all is there.
///
/// # Errors
/// As the kernel has them.
pub fn pass_nothing_on(folder: &OwnedFd) -> io::Result<()> {
    let mode = Mode::from_raw_mode(fstat(folder)?.st_mode);
    if mode.contains(Mode::SGID) {
        fchmod(folder, mode - Mode::SGID)?;
    }
    for acl in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        match fremovexattr(folder, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a folder is on a filesystem without owners and modes.
pub fn is_fat(folder: &OwnedFd) -> io::Result<bool> {
    let found = fstatfs(folder)?;
    Ok(FAT.contains(&found.f_type.cast_unsigned()))
}
