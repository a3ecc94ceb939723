//! Boot media of the payload, as the admin's command makes them.

use crate::paths::{self, Payload};
use crate::tools;
use crate::vm::KERNEL_PARAMETERS;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// `mkimage KIND` on the delivered kernel and initramfs.
pub fn mkimage(kind: &str, parameters: &str, more: &[&Path], image: &Path) -> Result<()> {
    mkimage_of(Payload::Debian, kind, parameters, more, image)
}

/// The same on the kernel and initramfs of this payload.
pub fn mkimage_of(
    payload: Payload,
    kind: &str,
    parameters: &str,
    more: &[&Path],
    image: &Path,
) -> Result<()> {
    let mut mkimage = Command::new(paths::built("mkimage")?);
    mkimage
        .arg(kind)
        .arg("--kernel")
        .arg(payload.file("vmlinuz")?);
    mkimage
        .arg("--initramfs")
        .arg(payload.file("initramfs.img")?);
    mkimage
        .arg("--cmdline")
        .arg(format!("{KERNEL_PARAMETERS} {parameters}"));
    tools::output(mkimage.args(more).arg("-o").arg(image))?;
    Ok(())
}

/// `mkimage build` for the cloud kernel with drivers of these classes, to be given more and run.
pub fn build_for_cloud(drivers: &str) -> Result<Command> {
    let kernels = paths::out().join("cloud/.kernel/cloud");
    let versions = kernels.join("lib/modules");
    let version = fs::read_dir(&versions)
        .with_context(|| format!("reading {}", versions.display()))?
        .next()
        .context("there is no kernel")??
        .file_name();
    let mut mkimage = Command::new(paths::built_for_cloud("mkimage")?);
    mkimage
        .arg("build")
        .arg("--init")
        .arg(paths::built_for_cloud("init")?);
    mkimage.args(["--drivers", drivers]);
    mkimage.arg("--kernel-dir").arg(kernels);
    mkimage.arg("--kernel-version").arg(version);
    Ok(mkimage)
}
