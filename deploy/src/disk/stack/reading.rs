//! Volumes and LUKS of a system that is there, opened by their tools so that nobody can write to them.

use super::commands::{self, Command};
use super::running::{feed, patiently, run};
use super::{check_module, load_crypt};
use crate::passphrase::Passphrase;
use anyhow::Context;
use pitstop_imaging::event::{Reporter, Silent};
use pitstop_imaging::layout::stack::mapped;
use pitstop_imaging::tools;
use std::path::{Path, PathBuf};

/// What is open; closed when it is dropped.
#[derive(Debug)]
pub struct Reading {
    node: PathBuf,
    stop: Command,
}

impl Reading {
    /// Has the kernel make loop devices, by which disks are shown so that nobody can write to them.
    ///
    /// # Errors
    /// When it cannot, with what to do.
    pub fn check_devices() -> anyhow::Result<()> {
        if !Path::new("/dev/loop-control").exists() {
            check_module("loop")?;
            tools::run("modprobe", &["loop"], 0, &Silent)?;
        }
        Ok(())
    }

    /// Whether volumes of LVM can be opened here.
    ///
    /// # Errors
    /// Names the program or the module that is missing.
    pub fn check_volumes() -> anyhow::Result<()> {
        tools::find(commands::LVM)?;
        check_module("dm_mod")
    }

    /// Whether LUKS can be opened here.
    ///
    /// # Errors
    /// Names the program or the module that is missing.
    pub fn check_luks() -> anyhow::Result<()> {
        tools::find(commands::CRYPTSETUP)?;
        load_crypt()
    }

    /// A volume of the group that is on `devices`, and on nothing else.
    ///
    /// # Errors
    /// When lvm does not open it.
    pub fn volume(
        group: &str,
        volume: &str,
        devices: &[PathBuf],
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        run(&commands::show(group, volume, devices), reporter)
            .with_context(|| format!("opening the volume {group}/{volume}"))?;
        Ok(Self {
            node: mapped(group, volume).into(),
            stop: commands::hide(group, volume, devices),
        })
    }

    /// What is encrypted on `device`, as `name`.
    ///
    /// # Errors
    /// When the passphrase is not the right one, or cryptsetup does not open it.
    pub fn luks(
        name: &str,
        device: &Path,
        passphrase: &Passphrase,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        let command = commands::open_reading(name, device);
        feed(&command, passphrase, reporter)?;
        Ok(Self {
            node: commands::opened(name),
            stop: commands::close(name),
        })
    }

    pub fn node(&self) -> &Path {
        &self.node
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Nothing was written, and nothing is lost by one that stays open: what it is on cannot be written either.
        let _ = patiently(&self.stop, &Silent);
    }
}
