//! The filesystems of the new system, mounted one in the other.

use super::btrfs;
use super::fstab::{Fstab, Line};
use super::stack::Running;
use super::volumes::{Volume, Volumes};
use crate::inside;
use crate::root::Root;
use anyhow::{Context, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pitstop_imaging::disk::{LoopDevice, nodes};
use pitstop_imaging::layout::{Place, Placed};
use pitstop_imaging::unmount::unmount;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A partition as a device of its own.
enum Device {
    Node(PathBuf),
    /// Of a disk in a file.
    Loop(LoopDevice),
}

impl Device {
    fn path(&self) -> &Path {
        match self {
            Self::Node(path) => path,
            Self::Loop(device) => device.path(),
        }
    }
}

/// The devices of a disk's partitions, and of what stands on them.
pub struct Devices<'a> {
    disk: &'a Path,
    is_device: bool,
    placed: &'a Placed,
    made: &'a Running<'a>,
    /// By the numbers of their partitions.
    open: Vec<(u32, Device)>,
}

impl<'a> Devices<'a> {
    pub fn new(disk: &'a Path, placed: &'a Placed, made: &'a Running<'a>) -> anyhow::Result<Self> {
        Ok(Self {
            disk,
            is_device: is_device(disk)?,
            placed,
            made,
            open: Vec::new(),
        })
    }

    /// The device of one of the layout's slots.
    fn of(&mut self, volumes: &Volumes, slot: usize) -> anyhow::Result<PathBuf> {
        if let Some(node) = self.made.node(slot) {
            return Ok(node.to_owned());
        }
        let number = volumes.number(slot)?;
        let number = number.with_context(|| format!("slot {slot} was not made"))?;
        if let Some((_, device)) = self.open.iter().find(|(open, _)| *open == number) {
            return Ok(device.path().to_owned());
        }
        let place = place_of(self.placed, number)?;
        let device = if self.is_device {
            Device::Node(nodes::partition(self.disk, number)?)
        } else {
            let sector = u32::try_from(self.placed.sector)?;
            Device::Loop(LoopDevice::new(self.disk, &place.range(), sector)?)
        };
        let path = device.path().to_owned();
        self.open.push((number, device));
        Ok(path)
    }

    /// When it returns, all that was written through them survives a power cut.
    fn finish(self) -> anyhow::Result<()> {
        for (_, device) in self.open {
            match device {
                Device::Loop(device) => device
                    .finish()
                    .with_context(|| format!("flushing {}", self.disk.display()))?,
                // Unmounting has flushed the filesystem, and the disk is flushed as a whole later.
                Device::Node(_) => {}
            }
        }
        Ok(())
    }
}

/// The place of a partition.
pub fn place_of(placed: &Placed, number: u32) -> anyhow::Result<&Place> {
    let mut all = placed.places.iter();
    let found = all.find(|place| place.number == number);
    found.with_context(|| format!("the layout has no partition {number}"))
}

/// Whether a disk is a device, and not a file that holds one.
pub fn is_device(disk: &Path) -> anyhow::Result<bool> {
    let found = fs::metadata(disk).with_context(|| format!("looking at {}", disk.display()))?;
    Ok(found.file_type().is_block_device())
}

/// A folder with the whole system mounted in it; unmounted when it is dropped.
pub struct Mounts<'a> {
    folder: PathBuf,
    /// In the order in which they were mounted.
    points: Vec<PathBuf>,
    devices: Devices<'a>,
}

impl<'a> Mounts<'a> {
    /// Mounts the new filesystems, each behind the one that it is in. FAT is left out: its files wait in the folder where it is to be
    /// mounted, and are written to it at the end.
    ///
    /// # Errors
    /// When a device is missing or cannot be mounted.
    pub fn new(devices: Devices<'a>, volumes: &Volumes, fstab: &Fstab) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("pitstop-deploy-")
            .tempdir()
            .context("making a folder to mount the new system in")?;
        let root = fstab.at("/");
        // The kernel of a tree that was imported is not told of a subvolume.
        let is_new = volumes.all.iter().any(|it| it.mount == "/" && it.is_new);
        let default_subvolume = is_new || root.is_none_or(|line| line.option("subvol").is_none());
        let mut mounts = Self {
            // Never removed with what is in it: that may be the system.
            folder: folder.keep(),
            points: Vec::new(),
            devices,
        };
        mounts.make_subvolumes(volumes, default_subvolume)?;
        for volume in &volumes.all {
            let filesystem = volumes.filesystem(volume);
            if filesystem == "vfat" {
                continue;
            }
            let mut data = compression(volumes, volume, fstab);
            match filesystem {
                // Another disk of this computer may have the same system.
                "xfs" => data.push("nouuid".into()),
                "btrfs" => data.push(format!("subvol=/{}", volume.subvolume)),
                _ => {}
            }
            let device = mounts.devices.of(volumes, volume.index)?;
            mounts.mount(&device, &volume.mount, filesystem, &data.join(","))?;
        }
        Ok(mounts)
    }

    fn make_subvolumes(&mut self, volumes: &Volumes, default: bool) -> anyhow::Result<()> {
        for (index, (_, entry)) in volumes.layout.slots().into_iter().enumerate() {
            let here = |volume: &&Volume| volume.index == index && !volume.subvolume.is_empty();
            let wanted: Vec<&Volume> = volumes.all.iter().filter(here).collect();
            if entry.filesystem.as_deref() != Some("btrfs") || wanted.is_empty() {
                continue;
            }
            let device = self.devices.of(volumes, index)?;
            self.mount(&device, "/", "btrfs", "")?;
            btrfs::make_subvolumes(&self.folder, &wanted, default)?;
            self.unmount_last()?;
        }
        Ok(())
    }

    fn mount(&mut self, device: &Path, at: &str, kind: &str, data: &str) -> anyhow::Result<()> {
        let point = self.at(at);
        let what = || format!("mounting {} as {at} of the new system", device.display());
        inside::make_folders(&inside::top(&self.root())?, at.trim_matches('/'))
            .with_context(what)?;
        let data = (!data.is_empty()).then_some(data);
        mount(Some(device), &point, Some(kind), MsFlags::empty(), data).with_context(what)?;
        self.points.push(point);
        Ok(())
    }

    fn unmount_last(&mut self) -> anyhow::Result<()> {
        let Some(point) = self.points.last() else {
            return Ok(());
        };
        unmount(point)
            .with_context(|| format!("unmounting {}, which flushes it", point.display()))?;
        self.points.pop();
        Ok(())
    }

    /// Where a filesystem of the new system is mounted.
    pub fn at(&self, mount: &str) -> PathBuf {
        self.folder.join(mount.trim_matches('/'))
    }

    pub fn root(&self) -> Root {
        Root::new(self.folder.clone())
    }

    /// Unmounts everything. When it returns, all of it survives a power cut.
    ///
    /// # Errors
    /// When something still uses a filesystem, or it cannot be flushed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        for point in &self.points {
            let opened =
                fs::File::open(point).with_context(|| format!("opening {}", point.display()))?;
            // An error of writing is told here, and not by unmounting.
            rustix::fs::syncfs(&opened).with_context(|| format!("flushing {}", point.display()))?;
        }
        while !self.points.is_empty() {
            self.unmount_last()?;
        }
        let empty = Devices {
            open: Vec::new(),
            ..self.devices
        };
        let devices = std::mem::replace(&mut self.devices, empty);
        devices.finish()
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        for point in self.points.drain(..).rev() {
            // The namespace goes soon, and takes with it what is left.
            let _ = umount2(&point, MntFlags::MNT_DETACH);
        }
        // Only if nothing is in it.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// How the tree has its files compressed, where the new filesystem does that: others take no such option.
fn compression(volumes: &Volumes, volume: &Volume, fstab: &Fstab) -> Vec<String> {
    let line = fstab.at(&volume.mount);
    let line = line.filter(|_| volumes.filesystem(volume) == "btrfs");
    line.map(Line::compression).unwrap_or_default()
}

/// Whether files may take less room on the new filesystems than they have bytes.
pub fn compresses(volumes: &Volumes, fstab: &Fstab) -> bool {
    let mut options = volumes
        .all
        .iter()
        .flat_map(|volume| compression(volumes, volume, fstab));
    options.next().is_some()
}

/// Whether the new filesystems can be mounted as the tree's fstab wants their files compressed.
///
/// # Errors
/// Names the line with an option that Btrfs does not know.
pub fn check_compression(volumes: &Volumes, fstab: &Fstab) -> anyhow::Result<()> {
    for volume in &volumes.all {
        for option in compression(volumes, volume, fstab) {
            ensure!(
                is_compression(&option),
                "/etc/fstab of the tree has {option} for {}, which Btrfs does not know: say zlib, lzo, zstd or no there",
                volume.mount
            );
        }
    }
    Ok(())
}

/// `compress`, `compress-force=zstd:3`: as btrfs(5) has them.
fn is_compression(option: &str) -> bool {
    let (name, value) = option.split_once('=').unwrap_or((option, "zlib"));
    let (kind, level) = value.split_once(':').unwrap_or((value, "0"));
    matches!(name, "compress" | "compress-force")
        && matches!(kind, "zlib" | "lzo" | "zstd" | "no" | "none")
        && level.parse::<i32>().is_ok()
}

/// Whether this kernel can mount a filesystem.
///
/// # Errors
/// When it knows nothing of it.
pub fn check_kernel(filesystem: &str) -> anyhow::Result<()> {
    let known = fs::read_to_string("/proc/filesystems").context("reading /proc/filesystems")?;
    if known.split_whitespace().any(|name| name == filesystem) {
        return Ok(());
    }
    let uname = nix::sys::utsname::uname().context("asking which kernel runs here")?;
    let modules = Path::new("/lib/modules").join(uname.release());
    let listed = fs::read_to_string(modules.join("modules.dep")).unwrap_or_default();
    let module = format!("/{filesystem}.ko");
    if listed.lines().any(|line| line.contains(&module)) {
        return Ok(());
    }
    bail!("the kernel that runs here has no {filesystem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_what_btrfs_knows() {
        for known in [
            "compress",
            "compress=zstd:1",
            "compress-force=lzo",
            "compress=no",
        ] {
            assert!(is_compression(known), "{known}");
        }
        for other in [
            "compress=bogus",
            "compress=zstd:fast",
            "compress=",
            "compressed",
        ] {
            assert!(!is_compression(other), "{other}");
        }
    }
}
