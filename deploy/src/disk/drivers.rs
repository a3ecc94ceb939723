//! Whether a tree's kernel will find its new disk, judged before that is written.

use super::stack;
use super::volumes::Volumes;
use super::{Deployment, Firmware};
use crate::boot::judge::runs_here;
use crate::initramfs::{self, Need};
use crate::wishes::Initrd;
use std::path::Path;

/// Whether the tree's kernel finds the disk, or can be made to. What is laid over a tree may be what is missing.
///
/// # Errors
/// It does not, with the driver's name.
pub fn check_initramfs(
    deployment: &Deployment,
    volumes: &Volumes,
    changed: bool,
) -> anyhow::Result<()> {
    if !deployment.overrides.is_empty() {
        return Ok(());
    }
    let mut needs = Vec::new();
    if deployment.firmware != Firmware::Unknown {
        needs = initramfs::needs(Path::new("/sys"), deployment.disk)?;
    }
    // Without a disk of this machine there is nothing to be reached by it.
    if !needs.is_empty() {
        let root = volumes.of("/").map(|root| volumes.filesystem(root));
        let module = root.and_then(initramfs::module_of_filesystem);
        needs.extend(module.map(Need::Module));
    }
    let on_stack = stack::holds_root(volumes);
    let wish = if on_stack {
        Initrd::Rebuild
    } else {
        deployment.initrd
    };
    let architecture = &deployment.image.meta.architecture;
    let runs = architecture.is_empty() || runs_here(architecture);
    initramfs::check(deployment.image, &needs, wish, changed || on_stack, runs)
}
