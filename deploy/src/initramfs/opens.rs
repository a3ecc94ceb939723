//! Whether an initramfs opens what the root is on, where that is encrypted.

use super::kernels::Kernel;
use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::initramfs::{self, UnknownPacking};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read as _;

/// What Debian's scripts open, in an initramfs. Its lines are those of crypttab(5).
const TABLE: &str = "cryptroot/crypttab";
/// No table is longer, bytes.
const MOST: u64 = 1 << 20;

/// Looks whether the initramfs of the kernel that the tree boots opens all of `names`.
///
/// # Errors
/// When one is not opened there, or the initramfs cannot be read.
pub fn check_opens(root: &Root, names: &[String], reporter: &dyn Reporter) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let files = Files::of(root)?;
    let Some(kernel) = Kernel::of(&files)? else {
        bail!("the tree has no kernel with modules, and its root is on LUKS");
    };
    let Some(path) = kernel.initramfs(&files)? else {
        bail!(
            "the kernel {} has no initramfs, and its root is on LUKS",
            kernel.version
        );
    };
    let opened = files.open(path.as_bytes(), OFlags::RDONLY)?;
    let table = match table(File::from(opened)) {
        Err(error) if error.is::<UnknownPacking>() => {
            reporter.warn(format!(
                "/{path}: {error}: nobody has looked whether it opens {}",
                names.join(" and ")
            ));
            return Ok(());
        }
        found => found.with_context(|| format!("reading /{path}"))?,
    };
    let opens = |name: &str| {
        let mut lines = table.lines();
        lines.any(|line| line.split_whitespace().next() == Some(name))
    };
    if let Some(name) = names.iter().find(|name| !opens(name)) {
        bail!(
            "the disk would not boot: /{path} does not open {name}, which its root is on. The log has what update-initramfs said"
        );
    }
    Ok(())
}

/// The table of what it opens; nothing where it has none.
fn table(image: File) -> anyhow::Result<String> {
    let mut found = Vec::new();
    initramfs::walk(image, &mut |entry, data| {
        if entry.path.trim_start_matches("./") == TABLE {
            data.take(MOST).read_to_end(&mut found)?;
        }
        Ok(())
    })?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}
