//! Boot media of the payload, as the admin's command makes them.

use crate::vm::KERNEL_PARAMETERS;
use crate::{paths, tools};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// `mkimage KIND` on the delivered kernel and initramfs.
pub fn mkimage(kind: &str, parameters: &str, more: &[&Path], image: &Path) -> Result<()> {
    let mut mkimage = Command::new(paths::built("mkimage")?);
    mkimage
        .arg(kind)
        .arg("--kernel")
        .arg(paths::built("vmlinuz")?);
    mkimage
        .arg("--initramfs")
        .arg(paths::built("initramfs.img")?);
    mkimage
        .arg("--cmdline")
        .arg(format!("{KERNEL_PARAMETERS} {parameters}"));
    tools::output(mkimage.args(more).arg("-o").arg(image))?;
    Ok(())
}
