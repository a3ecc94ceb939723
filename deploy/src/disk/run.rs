//! The work, in its order. Until the last step the disk does not boot.

use super::commit::{BootCode, Rest};
use super::configuration::root_of;
use super::fat::HeldBack;
use super::mounts::{self, Devices, Mounts};
use super::plan::{Plan, place};
use super::stack::{self, Running};
use super::volumes::Volume;
use super::{Deployment, Firmware, full, private};
use crate::boot::cmdline::{self, Found};
use crate::boot::files::FSTAB;
use crate::boot::judge::Bios;
use crate::boot::{extlinux, make};
use crate::chroot::Chroot;
use crate::files::Files;
use crate::hooks::{self, HookEnvironment, Stage};
use crate::identity::{self, Given, IdentityWish};
use crate::root::Root;
use crate::update::adapted;
use crate::update::record::Record;
use crate::wishes::{BootWish, Initrd};
use crate::{initramfs, inside, new_ids, overrides};
use anyhow::{Context, bail};
use pitstop_imaging::disk::{DiskLock, nodes};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::interrupt;
use pitstop_imaging::layout::apply::{apply_locked, check_locked};
use pitstop_trees::path::TreePath;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// And folders, links, devices.
    pub entries: u64,
    /// Of all files.
    pub bytes: u64,
}

impl<'a> Plan<'a> {
    /// Has `feed` bring the files, where there is one.
    #[must_use]
    pub fn fed_by(self, feed: Option<&'a dyn Feed>) -> Self {
        Self { feed, ..self }
    }

    /// Does it. Everything on the disk is lost. One that breaks off leaves a disk that does not boot; another one begins anew.
    ///
    /// # Errors
    /// What failed, and where; or a signal has asked for the end (`pitstop_imaging::interrupt`).
    pub fn run(mut self, reporter: &dyn Reporter) -> anyhow::Result<Deployed> {
        private::run(|| {
            let disks: Vec<&Path> = self.disks().iter().map(|(disk, _)| *disk).collect();
            // Until the end: what opens a disk in between, as a backup, would leave it without what makes it boot.
            let locks: anyhow::Result<Vec<DiskLock>> =
                disks.iter().map(|disk| DiskLock::take(disk)).collect();
            let _locks = locks?;
            let _held = stack::lock(&self.stack, &disks)?;
            // Not one is written while another one cannot be had: much time may have passed since the plan.
            for (disk, changes) in self.disks() {
                check_locked(changes, disk)?;
            }
            for (disk, changes) in self.disks() {
                interrupt::check()?;
                apply_locked(changes, disk, reporter).map_err(|error| full::around(error, disk))?;
            }
            let mut rest = self.hold_back()?;
            self.fill(&mut rest, reporter)?;
            interrupt::check()?;
            rest.commit(&self, reporter)
        })?;
        let meta = &self.deployment.image.meta;
        Ok(Deployed {
            entries: meta.entries,
            bytes: meta.bytes,
        })
    }

    fn fats(&self) -> impl Iterator<Item = &Volume> {
        let volumes = self.volumes.all.iter();
        volumes.filter(|volume| self.volumes.filesystem(volume) == "vfat")
    }

    /// From now on no firmware finds a FAT on the disk.
    fn hold_back(&self) -> anyhow::Result<Rest> {
        let mut rest = Rest::default();
        for volume in self.fats() {
            let mut held = Vec::new();
            for (disk, changes) in self.disks() {
                let place = place(changes, &self.volumes, volume)?;
                held.push(if mounts::is_device(disk)? {
                    HeldBack::take(&nodes::partition(disk, place.number)?, &(0..place.size))?
                } else {
                    HeldBack::take(disk, &place.range())?
                });
            }
            rest.fats.push(held);
        }
        Ok(rest)
    }

    /// Everything but what makes it boot; all of it flushed.
    fn fill(&mut self, rest: &mut Rest, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let placed = self.changes.placed.clone();
        let disks: Vec<PathBuf> = self
            .disks()
            .iter()
            .map(|(disk, _)| disk.to_path_buf())
            .collect();
        let layout = self.volumes.layout.clone();
        let passphrase = self.deployment.passphrase.as_ref();
        let made = Running::make(
            &self.stack,
            &layout,
            &disks,
            placed.sector,
            passphrase,
            reporter,
        )?;
        let devices = Devices::new(self.deployment.disk, &placed, &made)?;
        let mounts = Mounts::new(devices, &self.volumes, &self.fstab)?;
        interrupt::check()?;
        if let Err(error) = self.fill_mounted(&mounts, &made, rest, reporter) {
            let (index, disk) = (&self.deployment.image.index, self.deployment.disk);
            return Err(full::explain(error, &mounts, &self.volumes, index, disk));
        }
        let disk = self.deployment.disk;
        mounts.finish().map_err(|error| full::around(error, disk))?;
        made.finish()
    }

    /// What is done while all of it is mounted.
    fn fill_mounted(
        &mut self,
        mounts: &Mounts,
        made: &Running,
        rest: &mut Rest,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let root = mounts.root();
        let Deployment { image, threads, .. } = self.deployment;
        pitstop_trees::extract_fed(image, root.path(), threads, self.feed, reporter)?;
        self.mend_fstab(&root, reporter)?;
        for note in &self.notes {
            reporter.warn(note.clone());
        }
        let laid = overrides::copy(&root, &mut self.deployment.overrides, reporter)?;
        interrupt::check()?;
        stack::configure(&root, &self.stack, reporter)?;
        let under = self.volumes.of("/").and_then(|root| made.node(root.index));
        let under = under.unwrap_or(self.deployment.disk).to_owned();
        self.finish_files(&root, &under, &laid.paths, rest, reporter)?;
        interrupt::check()?;
        self.fill_fats(&root, rest)?;
        if let Some(Bios::Extlinux { folder, code }) = self.ways.bios.take() {
            extlinux::install(&root, &folder, reporter)?;
            rest.code = Some(BootCode::Plain(code));
        }
        Ok(())
    }

    fn mend_fstab(&mut self, root: &Root, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let before = self.fstab.text();
        for line in self.fstab.adjust(&self.parts()?, &self.volumes.merged) {
            reporter.warn(line);
        }
        let text = self.fstab.text();
        if text == before {
            return Ok(());
        }
        let files = Files::of(root)?;
        // In its place, its folder keeps its time.
        match files.open(FSTAB.as_bytes(), OFlags::WRONLY | OFlags::TRUNC) {
            Err(Errno::NOENT) => {
                files.make_folders("etc")?;
                files.write(FSTAB, text.as_bytes(), 0o644)
            }
            opened => opened
                .map_err(io::Error::from)
                .and_then(|file| File::from(file).write_all(text.as_bytes()))
                .with_context(|| format!("writing {}", files.shown(FSTAB))),
        }
    }

    /// What makes a machine of the files: identity, boot loader, initramfs, hooks. `under` is the device that the root is on, or its
    /// disk.
    fn finish_files(
        &mut self,
        root: &Root,
        under: &Path,
        laid: &Given,
        rest: &mut Rest,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let deployment = &self.deployment;
        let changed =
            !self.renamed.is_empty() || !self.wrong.is_empty() || stack::holds_root(&self.volumes);
        if !self.renamed.is_empty() {
            new_ids::rewrite(root, &self.renamed, reporter)?;
        }
        let wish = IdentityWish {
            identity: deployment.identity,
            hostname: deployment.hostname.as_deref(),
        };
        identity::renew_around(root, &wish, laid, reporter)?;
        let mut chroot = Chroot::enter(root, deployment.hostname.as_deref())?;
        if deployment.entries.is_some() {
            chroot = chroot.of_this_machine();
        }
        let needs = if deployment.firmware == Firmware::Unknown {
            Vec::new()
        } else {
            initramfs::needs(Path::new("/sys"), under)?
        };
        // What puts arrays, LUKS and volumes together has to get into it, whatever is there.
        let initrd = if stack::holds_root(&self.volumes) {
            Initrd::Rebuild
        } else {
            deployment.initrd
        };
        initramfs::ensure(&chroot, initrd, &needs, changed, reporter)?;
        let mut is_new = false;
        match self.ways.bios.take() {
            Some(Bios::Grub(images)) => rest.code = Some(BootCode::Grub(images)),
            Some(Bios::GrubMade { grub, maker }) => {
                is_new = make::configuration(root, &grub)?;
                let images = make::grub(&chroot, root, &grub, &maker, reporter)?;
                rest.code = Some(BootCode::Grub(images));
            }
            other => self.ways.bios = other,
        }
        // For a loop device GRUB's programs write a configuration without entries: the new identifiers are in the old one.
        if (changed || is_new) && mounts::is_device(deployment.disk)? {
            new_ids::rebuild(&chroot, reporter)?;
        }
        // What hooks do is an admin's.
        adapted::note(root, deployment.image, self.copies()?)?;
        let meta = &deployment.image.meta;
        let environment = HookEnvironment {
            stage: Stage::Deploy,
            disk: deployment.disk.display().to_string(),
            hostname: deployment.hostname.clone().unwrap_or_default(),
            tree: meta.name.clone(),
            version: meta.version.clone(),
            secrets: deployment.secrets.clone(),
        };
        hooks::run(
            &chroot,
            &deployment.hooks,
            &environment,
            deployment.hook_limit,
            reporter,
        )?;
        self.check_configuration(root, reporter)?;
        Record::write(root, deployment.image)
    }

    /// Loaders that are added on the EFI system partitions.
    fn copies(&self) -> anyhow::Result<Vec<TreePath>> {
        let ways = self.ways.uefi.iter();
        let copies = ways.flat_map(|way| {
            let copies = way.found.copies.iter();
            copies.map(move |(_, to)| format!("{}/{to}", way.mount))
        });
        let paths = copies.map(|path| TreePath::parse_loose(path.as_bytes()));
        paths.collect::<Result<_, _>>().context("a loader's place")
    }

    /// What programs and hooks have left: a kernel that waits for another root is no system that boots.
    fn check_configuration(&self, root: &Root, reporter: &dyn Reporter) -> anyhow::Result<()> {
        if self.deployment.boot == BootWish::None {
            return Ok(());
        }
        initramfs::check_opens(root, &stack::opened_early(&self.volumes), reporter)?;
        let files = Files::of(root)?;
        let list = |folder: &str| files.list(folder).unwrap_or_default();
        let found = cmdline::look(&root_of(&self.volumes)?, &|path| files.text(path), &list)?;
        if let Some(wrong) = found.iter().find(|named| named.found == Found::Nowhere) {
            bail!(
                "the disk would not boot: {}. A hook can write it anew (boot = \"none\" leaves booting to you)",
                wrong.text()
            );
        }
        Ok(())
    }

    /// Moves what waits in the mount points of the FATs onto them.
    fn fill_fats(&self, root: &Root, rest: &mut Rest) -> anyhow::Result<()> {
        let volumes: Vec<&Volume> = self.fats().collect();
        // The innermost first: of one within another the outer one gets the folder alone.
        for (volume, held) in volumes.into_iter().zip(&mut rest.fats).rev() {
            let path = volume.mount.trim_start_matches('/');
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            // One that only the layout has, nobody has made.
            if volume.is_new {
                inside::make_folders(&inside::top(root)?, path)
                    .with_context(|| format!("making {}", volume.mount))?;
            }
            let folder = inside::open(root, path, flags)
                .with_context(|| format!("the tree has no folder {}", volume.mount))?;
            let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            let way = self.ways.uefi.iter().find(|way| way.mount == volume.mount);
            for (from, to) in way
                .map(|way| way.found.copies.as_slice())
                .unwrap_or_default()
            {
                copy(&folder, from, to)
                    .with_context(|| format!("copying {from} to {to} in {}", volume.mount))?;
            }
            for (held, (_, changes)) in held.iter_mut().zip(self.disks()) {
                let size = place(changes, &self.volumes, volume)?.size;
                held.fill(&here, &volume.mount, size)?;
            }
            empty(&here).with_context(|| format!("emptying {} below its mount", volume.mount))?;
        }
        Ok(())
    }
}

/// Copies a file within a folder; the folders above its new place are made.
fn copy(folder: &OwnedFd, from: &str, to: &str) -> anyhow::Result<()> {
    let (above, _) = to.rsplit_once('/').unwrap_or_default();
    inside::make_folders(folder, above)?;
    let mut source = File::from(inside::in_folder(folder, from, OFlags::RDONLY)?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mut target = File::from(inside::in_folder(folder, to, flags)?);
    std::io::copy(&mut source, &mut target)?;
    target.set_modified(source.metadata()?.modified()?)?;
    Ok(())
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
