//! Whether a tree's initramfs has the drivers of this machine's disk, and how it gets them.

mod before;
mod kernels;
mod needs;
mod opens;
mod rebuild;
mod updated;

pub use before::check;
pub use needs::{Need, needs};
pub use opens::check_opens;
pub use updated::Way;

use crate::chroot::Chroot;
use crate::files::Files;
use crate::root::Root;
use crate::wishes::Initrd;
use anyhow::{Context, bail};
use kernels::Kernel;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::initramfs;
use pitstop_imaging::modules::{Index, module_of, normal};
use pitstop_trees::mount_table;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs::{self, File};

/// PCI's class of mass storage in a `modalias`.
const STORAGE: &str = "bc01";

/// What was found in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The kernel that boots: `6.1.0-13-amd64`.
    pub kernel: String,
    /// Its initramfs, as a path in the tree; a kernel may have none.
    pub initramfs: Option<String>,
    /// Modules that are needed, and neither in it nor in the kernel.
    pub missing: Vec<String>,
    /// Those of them that the kernel has nowhere else either.
    pub nowhere: Vec<String>,
    /// Why nothing can be said of it: how it is packed is not known here.
    pub unknown: Option<String>,
}

/// Looks whether the kernel that the tree boots has all that is needed. `None`: the tree has no kernel with modules.
///
/// # Errors
/// When something in the tree cannot be read.
pub fn look(root: &Root, needs: &[Need]) -> anyhow::Result<Option<Looked>> {
    let files = Files::of(root)?;
    look_by(&files, needs, &|path, visit| {
        let opened = files.open(path.as_bytes(), OFlags::RDONLY);
        Ok(opened
            .map_err(anyhow::Error::from)
            .and_then(|opened| initramfs::walk(File::from(opened), visit)))
    })
}

/// Goes through the initramfs at a path. An error that has to end all of it, or one that is about what is in it.
type Walk<'a> = &'a dyn Fn(&str, initramfs::Visit) -> anyhow::Result<anyhow::Result<()>>;

/// The same, of an initramfs that `walk` reads.
fn look_by(files: &Files, needs: &[Need], walk: Walk) -> anyhow::Result<Option<Looked>> {
    let Some(kernel) = Kernel::of(files)? else {
        return Ok(None);
    };
    let folder = files
        .open(kernel.modules.as_bytes(), OFlags::PATH)
        .with_context(|| format!("opening {}", files.shown(&kernel.modules)))?;
    let folder = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    let index = Index::of_system(folder.as_ref())
        .with_context(|| format!("reading {}", files.shown(&kernel.modules)))?;
    let path = kernel.initramfs(files)?;
    let mut unknown = None;
    let mut within = BTreeSet::new();
    if let Some(path) = &path {
        let folder = format!("lib/modules/{}/", kernel.version);
        let mut found = BTreeSet::new();
        let walked = walk(path, &mut |entry, _| {
            if entry.path.contains(&folder) {
                found.extend(module_of(&entry.path));
            }
            Ok(())
        })?;
        match walked {
            Ok(()) => within = found,
            Err(error) => unknown = Some(format!("/{path}: {error:#}")),
        }
    } else {
        let unified = kernel.unified(files)?;
        unknown = unified.map(|path| format!("/{path}: its initramfs is within"));
    }
    let mut missing: Vec<String> = needs
        .iter()
        .filter_map(|need| lacks(&index, &within, need))
        .collect();
    missing.sort();
    missing.dedup();
    let mut nowhere = missing.clone();
    nowhere.retain(|name| !index.is_module(name));
    if unknown.is_some() {
        missing.clear();
    }
    Ok(Some(Looked {
        kernel: kernel.version,
        initramfs: path,
        missing,
        nowhere,
        unknown,
    }))
}

/// What a kernel lacks of one need, by the name of its module.
fn lacks(index: &Index, within: &BTreeSet<String>, need: &Need) -> Option<String> {
    let there = |name: &String| index.is_built_in(name) || within.contains(name);
    match need {
        Need::Module(name) => {
            let modules = index.for_request(name);
            let is_there = modules.iter().any(there) || there(&normal(name));
            (!is_there).then(|| normal(name))
        }
        Need::Device { modalias, driver } => {
            let driver = driver.as_deref().map(normal);
            let modules = index.for_device(modalias);
            let same = driver.as_ref().filter(|driver| modules.contains(driver));
            match same.or(modules.first()) {
                // The driver that it has here, where the other kernel has it as well; of others one is enough.
                Some(wanted) if same.is_some() => (!there(wanted)).then(|| wanted.clone()),
                Some(first) => (!modules.iter().any(there)).then(|| first.clone()),
                None => {
                    let driver = driver?;
                    let known = index.is_built_in(&driver) || index.is_module(&driver);
                    // An older kernel does not tell what is built into it.
                    let is_none = !known && index.tells_built_in() && modalias.contains(STORAGE);
                    let lacking = index.is_module(&driver) && !within.contains(&driver);
                    (is_none || lacking).then_some(driver)
                }
            }
        }
    }
}

/// Sees to it that the tree's initramfs has what is needed: looks, and makes it anew by the tree's own programs where `wish`
/// wants that, or where something is missing, or where what is in it `changed`, as UUIDs do.
///
/// # Errors
/// With the driver's name, when it is missing and cannot be added.
pub fn ensure(
    chroot: &Chroot,
    wish: Initrd,
    needs: &[Need],
    changed: bool,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let mut needs = needs.to_vec();
    // Without a disk of this machine there is nothing to be reached by it.
    if !needs.is_empty() {
        needs.extend(filesystem(chroot.root()).map(Need::Module));
    }
    let Some(looked) = look(chroot.root(), &needs)? else {
        reporter
            .debug("the tree has no kernel with modules: its initramfs is not looked at".into());
        return Ok(());
    };
    if !is_wanted(&looked, wish, !needs.is_empty(), changed, reporter)? {
        return Ok(());
    }
    let kernel = &looked.kernel;
    let Some(tool) = rebuild::Tool::of(chroot) else {
        refuse(&looked, "the tree has no program that makes one")?;
        let why = format!("the tree has none of {}", rebuild::names());
        if changed || wish == Initrd::Rebuild {
            bail!("the initramfs of kernel {kernel} cannot be made anew: {why}");
        }
        reporter.warn(format!(
            "the initramfs of kernel {kernel} stays as it is: {why}"
        ));
        return Ok(());
    };
    tool.run(chroot, &looked, reporter)
        .with_context(|| format!("making the initramfs of kernel {kernel} anew"))?;
    if let Some(after) = look(chroot.root(), &needs)? {
        refuse(&after, "it was made anew, and lacks it still")?;
    }
    Ok(())
}

/// Whether it is to be made anew; tells why, and what is not known.
///
/// # Errors
/// With the driver's name, when one is missing and it is to stay.
fn is_wanted(
    looked: &Looked,
    wish: Initrd,
    has_disk: bool,
    changed: bool,
    reporter: &dyn Reporter,
) -> anyhow::Result<bool> {
    let kernel = &looked.kernel;
    let unknown = looked.unknown.as_ref().filter(|_| has_disk);
    let has_one = looked.initramfs.is_some();
    if wish == Initrd::Rebuild {
        return Ok(true);
    }
    if wish == Initrd::Keep {
        refuse(looked, "initrd = \"auto\" makes it anew")?;
    } else if !looked.missing.is_empty() {
        reporter.info(format!(
            "the initramfs of kernel {kernel} lacks {}: it is made anew",
            looked.missing.join(", ")
        ));
        return Ok(true);
    } else if let Some(why) = unknown.filter(|_| has_one) {
        reporter.info(format!(
            "the initramfs of kernel {kernel} is made anew: {why}"
        ));
        return Ok(true);
    } else if changed && has_one {
        return Ok(true);
    }
    if let Some(why) = unknown {
        reporter.warn(format!(
            "whether kernel {kernel} finds this disk is not known: {why}"
        ));
    }
    Ok(false)
}

/// # Errors
/// When a driver is missing.
fn refuse(looked: &Looked, then: &str) -> anyhow::Result<()> {
    if looked.missing.is_empty() {
        return Ok(());
    }
    bail!(
        "kernel {} of the tree would not find this disk: {} has not {} ({then})",
        looked.kernel,
        looked
            .initramfs
            .as_ref()
            .map_or_else(|| "it".to_owned(), |path| format!("/{path}")),
        looked.missing.join(", ")
    )
}

/// Filesystems that systems are on, and their modules: that of ext4 has been that of ext2 and ext3 for long.
const FILESYSTEMS: [(&str, &str); 6] = [
    ("ext2", "ext4"),
    ("ext3", "ext4"),
    ("ext4", "ext4"),
    ("xfs", "xfs"),
    ("btrfs", "btrfs"),
    ("f2fs", "f2fs"),
];

/// The module of a filesystem of this kind.
pub fn module_of_filesystem(kind: &str) -> Option<String> {
    let known = FILESYSTEMS.iter().find(|(known, _)| *known == kind);
    known.map(|(_, module)| (*module).to_owned())
}

/// The module of the filesystem that the root is on.
fn filesystem(root: &Root) -> Option<String> {
    let path = fs::canonicalize(root.path()).ok()?;
    let mounts = mount_table().ok()?;
    let mount = mounts.into_iter().rev().find(|mount| mount.point == path)?;
    module_of_filesystem(&mount.kind)
}

#[cfg(test)]
mod tests;
