//! Whether a root can be swapped for a snapshot of it: nothing may know it by its number, and nothing of the system may be where a
//! snapshot does not reach.

use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_trees::beneath;
use pitstop_trees::btrfs::{self, Access, SNAPSHOTS, Shelf, Which};
use pitstop_trees::fstab::Fields;
use pitstop_trees::machine::Machine;
use pitstop_trees::path::TreePath;
use pitstop_trees::{MountInfo, mount_table};
use rustix::fs::{Dir, OFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where kernels are told their root.
const COMMAND_LINES: [&str; 4] = [
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "etc/default/grub",
    "etc/kernel/cmdline",
];
const ENTRIES: &str = "boot/loader/entries";
/// Where GRUB for EFI is told where the rest of it lies.
const LOADERS: [&str; 2] = ["boot/efi/EFI", "efi/EFI"];
/// Where boot loaders other than GRUB have kernels on an EFI system partition.
const ON_ESP: [&[u8]; 2] = [b"EFI/Linux", b"loader/entries"];
/// What belongs to one state of a system: a way back that leaves one of them as it is gives a system that is of two.
const TOGETHER: [&[u8]; 7] = [
    b"etc",
    b"usr",
    b"var",
    b"var/lib",
    b"var/lib/dpkg",
    b"var/lib/pitstop",
    b"var/lib/rpm",
];
/// The option that names a subvolume by its number, which a swap changes.
const BY_NUMBER: &str = "subvolid=";

/// The root of a system on its Btrfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub source: PathBuf,
    /// From the outermost subvolume: `@`.
    pub path: String,
    /// The subvolume that is mounted.
    pub id: u64,
}

pub struct Judged {
    pub site: Site,
    /// Why the root cannot be swapped.
    pub why_not: Option<String>,
}

impl Site {
    /// The subvolume that is the root now: another one than the mounted one where it was swapped since.
    pub fn current(&self, store: &Shelf) -> anyhow::Result<OwnedFd> {
        let how = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = beneath::open(store.top(), self.path.as_bytes(), how);
        opened.with_context(|| format!("opening the subvolume {}", self.path))
    }

    /// Nothing is swapped under a system that runs: what it writes from then on would be in the old root.
    ///
    /// # Errors
    /// When this computer runs from it, and it is mounted once more elsewhere.
    pub fn check_rests(&self) -> anyhow::Result<()> {
        let is_it = |mount: &MountInfo| {
            mount.point == Path::new("/")
                && mount.kind == "btrfs"
                && mount.source == self.source
                && mount.root.strip_prefix(b"/") == Some(self.path.as_bytes())
        };
        if mount_table()?.iter().any(is_it) {
            bail!(
                "the subvolume {} is the root of the system that runs: name / and say --live",
                self.path
            );
        }
        Ok(())
    }

    /// Whether the subvolume is the one that is mounted where none is named.
    pub fn is_default(&self, id: u64) -> anyhow::Result<bool> {
        let asking = "asking for the default subvolume";
        let mounted = btrfs::mount(&self.source, Which::Default, Access::Read).context(asking)?;
        let top = btrfs::top_of(&mounted).context(asking)?;
        Ok(btrfs::about(&top).context(asking)?.id == id)
    }
}

/// Looks at the root of a machine; `None` where it is on no Btrfs.
///
/// # Errors
/// When something cannot be read, or it is an old root that another one has replaced.
pub fn judge(root: &Root, machine: &Machine) -> anyhow::Result<Option<Judged>> {
    let top = TreePath::root();
    let Some(info) = machine.mounted(&top).filter(|info| info.kind == "btrfs") else {
        return Ok(None);
    };
    let path = String::from_utf8_lossy(&info.root);
    let path = path.trim_matches('/').to_owned();
    if path.starts_with(SNAPSHOTS) {
        bail!(
            "{} is an old system, and another one has its place: restart the machine, or mount that one",
            machine.name()
        );
    }
    let opened = machine
        .open_path(&top, OFlags::RDONLY | OFlags::DIRECTORY)
        .with_context(|| format!("opening {}", machine.name()))?;
    let told = btrfs::about(&opened);
    let is_subvolume = btrfs::is_subvolume(&opened);
    let why_not = match (&told, &is_subvolume) {
        (Err(error), _) | (_, Err(error)) => {
            Some(format!("the kernel does not tell of subvolumes ({error})"))
        }
        (Ok(_), Ok(false)) => Some("its root is a folder within a subvolume".to_owned()),
        (Ok(_), Ok(true)) if path.is_empty() => Some(
            "its root is the outermost subvolume of its Btrfs, which cannot be swapped".to_owned(),
        ),
        (Ok(_), Ok(true)) => why_not(root, machine, &opened)?,
    };
    let site = Site {
        source: info.source.clone(),
        path,
        id: told.map_or(0, |told| told.id),
    };
    Ok(Some(Judged { site, why_not }))
}

fn why_not(root: &Root, machine: &Machine, opened: &OwnedFd) -> anyhow::Result<Option<String>> {
    for path in btrfs::nested(opened).context("asking which subvolumes are in the root")? {
        let how = OFlags::RDONLY | OFlags::DIRECTORY;
        let within = beneath::open(opened.as_fd(), &path, how);
        let within = within.context("opening a subvolume in the root")?;
        if !is_empty(&within).context("reading a subvolume in the root")? {
            return Ok(Some(format!(
                "the subvolume /{} lies within its root, and a snapshot would be without it (move it beside the root, and name it \
                 in /etc/fstab)",
                String::from_utf8_lossy(&path)
            )));
        }
    }
    if let Some(point) = machine
        .points()
        .find(|point| TOGETHER.contains(&point.as_bytes()))
    {
        return Ok(Some(format!(
            "{point} is mounted from elsewhere, and a way back would leave it as it is"
        )));
    }
    let mut points = machine.points().filter(|point| !point.is_root());
    if let Some(point) = points.find(|point| has_kernels(machine, point)) {
        return Ok(Some(format!(
            "{point} is a filesystem of its own, and an old root would be started with its new kernel"
        )));
    }
    let files = Files::of(root)?;
    if let Some(text) = files.text("etc/fstab")?
        && let Some(why) = of_fstab(&text)
    {
        return Ok(Some(why));
    }
    for path in configurations(&files) {
        // What cannot be read as text names nothing.
        let text = files.text(&path).ok().flatten();
        if text.is_some_and(|text| text.contains(BY_NUMBER)) {
            return Ok(Some(format!(
                "/{path} names its root by number ({BY_NUMBER}); name it by path (subvol=)"
            )));
        }
    }
    Ok(None)
}

/// What kernels and boot loaders are told by.
pub fn configurations(files: &Files) -> Vec<String> {
    let mut found: Vec<String> = COMMAND_LINES.map(str::to_owned).to_vec();
    let entries = files.list(ENTRIES).unwrap_or_default();
    found.extend(entries.iter().map(|name| format!("{ENTRIES}/{name}")));
    for folder in LOADERS {
        let loaders = files.list(folder).unwrap_or_default();
        found.extend(
            loaders
                .iter()
                .map(|name| format!("{folder}/{name}/grub.cfg")),
        );
    }
    found
}

/// What in an fstab a swap would break.
fn of_fstab(text: &str) -> Option<String> {
    for line in text.lines().filter_map(Fields::parse) {
        let by_number = line.options.split(',').any(|it| it.starts_with(BY_NUMBER));
        if line.mount == "/" && by_number {
            return Some(format!(
                "/etc/fstab names its root by number ({BY_NUMBER}); name it by path (subvol=)"
            ));
        }
        let is_file = line.spec.starts_with('/') && !line.spec.starts_with("/dev/");
        if line.filesystem == "swap" && is_file {
            return Some(format!(
                "{} is swapped to, and nothing can be swapped to a file that a snapshot shares",
                line.spec
            ));
        }
    }
    None
}

fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether kernels are on a filesystem beside the root.
fn has_kernels(machine: &Machine, point: &TreePath) -> bool {
    if point.as_bytes() == b"boot" {
        return true;
    }
    let how = OFlags::RDONLY | OFlags::DIRECTORY;
    let folders = ON_ESP.iter().filter_map(|folder| {
        let path = [point.as_bytes(), b"/", folder].concat();
        machine.open_path(&TreePath::parse(&path).ok()?, how).ok()
    });
    let mut kept = folders.map(|folder| is_empty(&folder).is_ok_and(|empty| !empty));
    kept.any(|has| has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_swap_would_break_is_seen_in_an_fstab() {
        for (text, why) in [
            (
                "UUID=1 / btrfs subvol=@ 0 0\nUUID=1 /home btrfs subvolid=257 0 0\n",
                None,
            ),
            (
                "UUID=2 none swap sw 0 0\n/dev/sda2 none swap sw 0 0\n# /swapfile none swap\n",
                None,
            ),
            (
                "UUID=1 / btrfs compress=zstd,subvolid=256,subvol=/@ 0 0\n",
                Some("by number"),
            ),
            (
                "/swap/file none swap sw 0 0\n",
                Some("/swap/file is swapped to"),
            ),
        ] {
            let found = of_fstab(text);
            assert_eq!(found.is_some(), why.is_some(), "{text}");
            assert!(
                found.unwrap_or_default().contains(why.unwrap_or_default()),
                "{text}"
            );
        }
    }
}
