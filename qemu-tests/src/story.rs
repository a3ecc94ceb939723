//! The main job from start to end, as the tests check it and the demo tells it.

use crate::compare;
use crate::console::Listener;
use crate::disks::Disk;
use crate::golden;
use crate::site::Site;
use crate::vm::{End, PATIENCE, Vm};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;

/// Hears what happens.
pub trait Teller {
    /// The next step begins.
    fn step(&self, text: &str);
    /// Something was found to be so.
    fn proven(&self, text: &str);
    /// Where the lines of the machine's console go.
    fn listener(&self) -> Option<Listener>;
}

/// For tests: their output is whether they pass.
pub struct Silence;

impl Teller for Silence {
    fn step(&self, _text: &str) {}
    fn proven(&self, _text: &str) {}
    fn listener(&self) -> Option<Listener> {
        None
    }
}

/// One machine of a site and what is to become of it.
pub struct Story<'a> {
    pub name: &'a str,
    pub site: &'a Site,
    /// A copy of `original`.
    pub disk: &'a Disk,
    pub original: PathBuf,
    pub memory_mib: u32,
    pub processors: u32,
    /// Whether the machine goes home to its disk after the backup as well; it does so after the restore in any case.
    pub home_twice: bool,
    /// The boot entry that a UEFI firmware has of the disk after the restore.
    pub entry: Option<&'a str>,
    pub teller: &'a dyn Teller,
}

impl Story<'_> {
    /// Backup, wreck, restore; then the machine goes home to its own disk by itself.
    pub fn run(&self) -> Result<()> {
        let teller = self.teller;
        teller.step("Job: back up");
        self.job("backup")?;
        let image = self.site.folder().join("vda.raw.gz");
        let image_size = fs::metadata(&image)
            .with_context(|| format!("looking for {}", image.display()))?
            .len();
        teller.proven(&format!(
            "the image is on the share: {} MiB for a disk of {} MiB",
            image_size >> 20,
            golden::SIZE >> 20
        ));

        teller.step("The disk is wrecked: every byte overwritten with junk");
        self.disk.wreck()?;
        ensure!(
            compare::golden_disk(&self.original, self.disk.path()).is_err(),
            "wrecking the disk changed nothing"
        );

        teller.step("Job: restore");
        self.job("restore")?;
        compare::golden_disk(&self.original, self.disk.path())?;
        teller
            .proven("every byte that the old disk's table and filesystems used is on the new one");
        compare::zcat_equals(&image, self.disk.path())?;
        teller.proven("`zcat vda.raw.gz` gives exactly what `restore` wrote");
        Ok(())
    }

    /// Sets a job, switches the machine on and watches it do the job and then, but for a backup that is not to, come
    /// up from its own disk.
    fn job(&self, action: &str) -> Result<()> {
        let teller = self.teller;
        teller.proven(
            self.site
                .server
                .host(&["set", &self.site.address, action])?
                .trim_end(),
        );
        teller.step("The machine is switched on; its firmware boots from the network");
        let mut spec = self
            .site
            .machine(&format!("{}-{action}", self.name), self.disk)
            .memory(self.memory_mib)
            .processors(self.processors);
        spec.listener = teller.listener();
        let restores = action == "restore";
        let entry = self.entry.filter(|_| restores);
        let mut vm = Vm::start(spec)?;
        if let Some(entry) = entry {
            let made = vm.sees(&format!("\"{entry}\" for "))?;
            let order = vm.sees("the firmware's boot order is ")?;
            // What booted the machine stays first, which is the network.
            let second = order.split(", ").nth(1).context("an order of one")?;
            let is_ours = made.contains(&format!("Boot{second} "));
            ensure!(
                is_ours,
                "it is not right behind the network:\n{made}\n{order}"
            );
        }
        vm.sees(&format!("pitstop: result ok {action}"))?;
        vm.wait_for_reset(PATIENCE)?;
        let jobs = self.site.server.host(&["list"])?;
        ensure!(
            !jobs.contains(&self.site.address),
            "{action} is done and the job is still there:\n{jobs}"
        );
        if let Some(entry) = entry {
            // Another machine than the one that was backed up: its firmware had never seen the disk.
            ensure!(vm.firmware_knows(entry)?, "the firmware has no {entry}");
            vm = self.with_new_firmware(vm)?;
        }
        if restores || self.home_twice {
            self.goes_home(&mut vm)?;
        }
        Ok(())
    }

    /// The machine with a firmware that is new: one that has run before asks for a minute who boots it over IPv6. That
    /// firmware starts the disk by its entry is seen where a machine is restored as it is sold.
    fn with_new_firmware(&self, vm: Vm) -> Result<Vm> {
        vm.cut_power()?;
        let name = format!("{}-home", self.name);
        let spec = self.site.machine(&name, self.disk);
        Vm::start(spec.memory(self.memory_mib))
    }

    fn goes_home(&self, vm: &mut Vm) -> Result<()> {
        let teller = self.teller;
        teller.step("The job is gone and the machine rebooted by itself: the network sends it home to its disk");
        vm.sees("Pitstop: no job")?;
        vm.sees(golden::UP)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
        teller.proven("the machine is up from its own disk, and every file on it has its checksum");
        Ok(())
    }
}
