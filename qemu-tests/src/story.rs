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
    pub teller: &'a dyn Teller,
}

impl Story<'_> {
    /// Backup, wreck, restore; after each job the machine goes home to its own disk by itself.
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

    /// Sets a job, switches the machine on and watches it do the job and then come up from its own disk.
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
            .memory(self.memory_mib);
        spec.listener = teller.listener();
        let mut vm = Vm::start(spec)?;
        vm.sees(&format!("pitstop: result ok {action}"))?;
        vm.wait_for_reset(PATIENCE)?;
        let jobs = self.site.server.host(&["list"])?;
        ensure!(
            !jobs.contains(&self.site.address),
            "{action} is done and the job is still there:\n{jobs}"
        );
        teller.step("The job is gone and the machine rebooted by itself: the network sends it home to its disk");
        vm.sees(golden::UP)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
        teller.proven("the machine is up from its own disk, and every file on it has its checksum");
        Ok(())
    }
}
