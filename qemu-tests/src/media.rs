//! Boot media of the payload, as the admin's command makes them.

use crate::arch::Architecture;
use crate::paths::{self, Payload};
use crate::tools;
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
    let architecture = payload.architecture();
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
        .arg(format!("{} {parameters}", architecture.kernel_parameters()));
    // That of this computer's own architecture mkimage finds by itself.
    if architecture != Architecture::X86_64 {
        mkimage.arg("--stub").arg(architecture.stub()?);
    }
    tools::output(mkimage.args(more).arg("-o").arg(image))?;
    Ok(())
}

/// `mkimage build` for the cloud kernel with drivers of these classes, to be given more and run.
pub fn build_for_cloud(drivers: &str) -> Result<Command> {
    let mut mkimage = build_for(Payload::Cloud, drivers)?;
    // What is packed here, for seconds, is unpacked by an emulated processor.
    mkimage.args(["--plain-modules", "--compress", "none"]);
    Ok(mkimage)
}

/// The same for this payload's kernel, packed.
pub fn build_for(payload: Payload, drivers: &str) -> Result<Command> {
    let kernels = payload.folder().join(".kernel").join(payload.kernel());
    let versions = kernels.join("lib/modules");
    let version = fs::read_dir(&versions)
        .with_context(|| format!("reading {}", versions.display()))?
        .next()
        .context("there is no kernel")??
        .file_name();
    let mut mkimage = Command::new(payload.file("mkimage")?);
    mkimage
        .arg("build")
        .arg("--init")
        .arg(payload.file("init")?);
    mkimage.args(["--drivers", drivers]);
    mkimage.arg("--kernel-dir").arg(kernels);
    mkimage.arg("--kernel-version").arg(version);
    Ok(mkimage)
}
