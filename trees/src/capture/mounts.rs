//! The filesystems of a tree, each behind a handle of its own that shows nothing of what is mounted on it.
//!
//! A detached read-only clone of a mount (`open_tree(2)`, `mount_setattr(2)`) is as the filesystem lies on the disk: what stands
//! under mount points appears, and nothing can be written by it. Where that is not allowed, the folder itself is
//! opened, and its mount points are told by the kernel.

use crate::fstab::unescape;
use crate::path::TreePath;
use crate::resolve::resolve;
use anyhow::{Context, bail};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Filesystems that keep what a system is made of. Others are kept only where the tree itself is on one.
const KEPT: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs"];
/// What the kernel and daemons show as files: nobody misses them.
const UNREAL: [&str; 24] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "efivarfs",
    "pstore",
    "bpf",
    "mqueue",
    "hugetlbfs",
    "autofs",
    "fusectl",
    "binfmt_misc",
    "rpc_pipefs",
    "nsfs",
    "ramfs",
    "selinuxfs",
    "fuse.lxcfs",
];

/// A filesystem that is read.
pub struct Mount {
    /// Where it is in the tree.
    pub path: TreePath,
    pub folder: OwnedFd,
    /// Whether the handle shows nothing of other mounts.
    pub detached: bool,
    /// What mountinfo says of it; nothing where the folder is no mount point.
    pub info: Option<MountInfo>,
}

impl Mount {
    /// Opens a path of the tree that lies on this filesystem.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn open(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mine = self.path.as_bytes();
        let below = path.as_bytes().get(mine.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        crate::beneath::open(self.folder.as_fd(), below, flags)
    }
}

/// A line of /proc/self/mountinfo (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    pub device: (u32, u32),
    /// Of the filesystem, what is mounted.
    pub root: Vec<u8>,
    pub point: PathBuf,
    pub options: String,
    pub kind: String,
    pub source: PathBuf,
}

impl MountInfo {
    /// Whether nothing can be written there.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }
}

/// Whether files are changed by the handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

const FSTAB: &[u8] = b"etc/fstab";
/// Of the thread that asks: it may have mounts of its own.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// What is mounted, as the kernel lists it: of two on one place the later one is on top.
///
/// # Errors
/// When the kernel does not tell.
pub fn table() -> anyhow::Result<Vec<MountInfo>> {
    Ok(parse(
        &fs::read(TABLE).with_context(|| format!("reading {TABLE}"))?,
    ))
}

/// The one of `table` that a path without symlinks is on, or will be.
pub fn around(table: Vec<MountInfo>, path: &Path) -> Option<MountInfo> {
    let table = table.into_iter();
    let around = table.filter(|mount| path.starts_with(&mount.point));
    // Of two on one place the last one.
    around.max_by_key(|mount| mount.point.components().count())
}

/// Where a filesystem is mounted that is not read, and why.
pub type NotRead = (TreePath, String);

/// The filesystems below `root` that are read, the outermost first, and those that are not, for people: those that its fstab
/// names, and those at `also`.
///
/// # Errors
/// When `root` is no folder, or one that fstab names cannot be opened.
pub fn find(
    root: &Path,
    access: Access,
    also: &[TreePath],
) -> anyhow::Result<(Vec<Mount>, Vec<NotRead>)> {
    let real = fs::canonicalize(root).with_context(|| format!("opening {}", root.display()))?;
    if !real.is_dir() {
        bail!("{} is not a folder", root.display());
    }
    let table = fs::read(TABLE).unwrap_or_default();
    let table = parse(&table);
    // Of a folder within a filesystem nothing is told: it is where somebody works, and not what the system is on.
    let own = table.iter().rev().find(|mount| mount.point == real);
    let mut mounts = vec![open(&real, TreePath::root(), own.cloned(), access)?];
    let fstab = resolve(FSTAB, true, |path| link(&real, path));
    let fstab = fstab.map(|path| fs::read(real.join(path.as_path())).unwrap_or_default());
    let mut wanted = in_fstab(&fstab.unwrap_or_default());
    wanted.extend_from_slice(also);
    let mut others = Vec::new();
    let mut seen: Vec<&Path> = Vec::new();
    // The last line about a place is what is on top there.
    for mount in table.iter().rev() {
        let Ok(below) = mount.point.strip_prefix(&real) else {
            continue;
        };
        if below == Path::new("") || seen.contains(&below) {
            continue;
        }
        seen.push(below);
        let path = TreePath::parse(below.as_os_str().as_bytes())
            .with_context(|| format!("the mount point {}", mount.point.display()))?;
        if KEPT.contains(&mount.kind.as_str()) && wanted.contains(&path) {
            mounts.push(open(&mount.point, path, Some(mount.clone()), access)?);
        } else if !UNREAL.contains(&mount.kind.as_str()) {
            let why = if KEPT.contains(&mount.kind.as_str()) {
                format!("{} that /etc/fstab does not name", mount.kind)
            } else {
                format!("{}, which is not kept", mount.kind)
            };
            others.push((path, why));
        }
    }
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    others.sort();
    Ok((mounts, others))
}

/// Where a symlink of the system at `root` leads.
fn link(root: &Path, path: &TreePath) -> Option<Vec<u8>> {
    let target = fs::read_link(root.join(path.as_path())).ok()?;
    Some(target.into_os_string().into_vec())
}

fn open(
    point: &Path,
    path: TreePath,
    info: Option<MountInfo>,
    access: Access,
) -> anyhow::Result<Mount> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cloned = open_tree(CWD, point, flags)
        .ok()
        .filter(|tree| hold(tree, access).is_ok() || access == Access::Write);
    let detached = cloned.is_some();
    let folder = match cloned {
        Some(tree) => tree,
        None => openat(
            CWD,
            point,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| format!("opening {}", point.display()))?,
    };
    Ok(Mount {
        path,
        folder,
        detached,
        info,
    })
}

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
/// The bits in which times are told (linux/mount.h).
const MOUNT_ATTR_ATIME: u64 = 0x70;

/// Has no times of reading be written through `tree`, and where it is only read, nothing at all.
fn hold(tree: &OwnedFd, access: Access) -> std::io::Result<()> {
    let attr = MountAttr {
        set: match access {
            Access::Read => MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME,
            Access::Write => MOUNT_ATTR_NOATIME,
        },
        clear: MOUNT_ATTR_ATIME,
        propagation: 0,
        userns: 0,
    };
    // SAFETY: the path is an empty C string, the structure is of the size that is told and is read only.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Reads mountinfo; lines that are none are left out.
fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<MountInfo> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let device = text(fields.get(2)?);
    let (major, minor) = device.split_once(':')?;
    let path = |field: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field)));
    Some(MountInfo {
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(fields.get(3)?),
        point: path(fields.get(4)?),
        options: text(fields.get(5)?),
        kind: text(fields.get(dash + 1)?),
        source: path(fields.get(dash + 2)?),
    })
}

/// The mount points of an fstab (fstab(5)).
pub fn in_fstab(text: &[u8]) -> Vec<TreePath> {
    let lines = text.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| {
        let mut fields = line
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty());
        let first = fields.next()?;
        let point = fields.next()?;
        let counts = !first.starts_with(b"#") && point.starts_with(b"/");
        counts.then(|| TreePath::parse_loose(&unescape(point)).ok())?
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_and_fstab_are_read_as_they_are_written() {
        let text = b"36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue\nshort\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point, Path::new("/mnt two"));
        assert_eq!(
            (mounts[0].device, mounts[0].kind.as_str()),
            ((98, 0), "ext3")
        );
        let fstab = b"# UUID=x /no ext4\nUUID=1 / ext4 defaults 0 1\n\nLABEL=b\t/boot/\text4\n/swap none swap sw\n";
        let points: Vec<String> = in_fstab(fstab).iter().map(ToString::to_string).collect();
        assert_eq!(points, ["/", "/boot"]);
    }

    #[test]
    fn a_path_is_on_the_innermost_filesystem_that_is_on_top() {
        let text = b"1 0 0:1 / / rw - rootfs rootfs rw\n2 1 253:0 / / rw - ext4 /dev/vg0/root rw\n\
            3 2 0:2 / /mnt/usb rw - autofs usb rw\n4 3 8:1 / /mnt/usb rw - ext4 /dev/sda1 rw\n5 2 8:2 / /mnt rw - ext4 /dev/sdb rw\n";
        let device = |path: &str| around(parse(text), Path::new(path)).map(|it| it.device);
        assert_eq!(device("/mnt/usb/images/x.tar.gz"), Some((8, 1)));
        assert_eq!(device("/mnt/usb-2/x.tar.gz"), Some((8, 2)));
        assert_eq!(device("/x.tar.gz"), Some((253, 0)));
        assert_eq!(around(Vec::new(), Path::new("/x")), None);
    }

    #[test]
    fn a_thread_with_mounts_of_its_own_sees_those() {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        let folder = tempfile::tempdir().unwrap();
        let point = fs::canonicalize(folder.path()).unwrap();
        let seen = || table().unwrap().iter().any(|mount| mount.point == point);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: a plain call to the kernel, about this thread alone.
                let apart = unsafe { libc::unshare(libc::CLONE_NEWNS) };
                assert_eq!(apart, 0, "this test needs root");
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).unwrap();
                mount("tmpfs", &point, "tmpfs", MountFlags::empty(), Some(c"")).unwrap();
                assert!(seen());
            });
        });
        assert!(!seen());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_no_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            parse(&text);
            in_fstab(&text);
        }
    }
}
