//! The partition as a device: the kernel's own where it shows one, else a loop device.

use crate::disk::{LoopDevice, Target, nodes};
use crate::table::Resized;
use anyhow::Context;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where a filesystem's programs find it.
pub enum Device {
    Node(PathBuf),
    Loop(LoopDevice),
}

/// Whether a partition of `output` can be had. Has the kernel read the old table again, to see whether it does.
pub fn check(output: &Target) -> anyhow::Result<()> {
    if output.reread_table().is_ok_and(|shows| shows) {
        return Ok(());
    }
    LoopDevice::check().context("a loop device has to show its partition")
}

impl Device {
    /// The place that grew on the disk at `path`, which is `output`: closed, because it was open for one alone.
    pub fn of(path: &Path, output: Target, place: &Resized, sector: u32) -> anyhow::Result<Self> {
        let shown = output.has_partition(place.number, &place.range());
        let whole = place.number == 0 && output.is_device();
        drop(output);
        if whole {
            return Ok(Self::Node(path.into()));
        }
        if shown {
            return nodes::partition(path, place.number).map(Self::Node);
        }
        LoopDevice::new(path, &place.range(), sector).map(Self::Loop)
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Node(path) => path,
            Self::Loop(device) => device.path(),
        }
    }

    /// Waits until what the programs wrote is safe.
    pub fn finish(self) -> anyhow::Result<()> {
        let name = self.path().display().to_string();
        match self {
            Self::Node(path) => File::open(path).and_then(|device| device.sync_all()),
            Self::Loop(device) => device.finish(),
        }
        .with_context(|| format!("flushing {name}"))
    }
}
