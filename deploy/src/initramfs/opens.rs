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

/// What was found of the initramfs of the kernel that a tree boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It opens all that it has to.
    Opens,
    /// It does not, and why.
    Closed(String),
    /// How it is packed is not known here.
    Unknown(String),
}

/// Looks whether the initramfs of the kernel that the tree boots opens all of `names`.
///
/// # Errors
/// When one is not opened there, or the initramfs cannot be read.
pub fn check_opens(root: &Root, names: &[String], reporter: &dyn Reporter) -> anyhow::Result<()> {
    match found(root, names)? {
        Found::Opens => Ok(()),
        Found::Closed(why) => bail!(
            "the system would not boot: {why}. The log has what the program that makes its initramfs said"
        ),
        Found::Unknown(why) => {
            reporter.warn(format!(
                "{why}: nobody has looked whether it opens {}",
                names.join(" and ")
            ));
            Ok(())
        }
    }
}

/// The same, for who does something about it.
///
/// # Errors
/// When the initramfs cannot be read.
pub fn found(root: &Root, names: &[String]) -> anyhow::Result<Found> {
    if names.is_empty() {
        return Ok(Found::Opens);
    }
    let files = Files::of(root)?;
    let Some(kernel) = Kernel::of(&files)? else {
        let why = "the tree has no kernel with modules, and its root is on LUKS";
        return Ok(Found::Closed(why.into()));
    };
    let Some(path) = kernel.initramfs(&files)? else {
        return Ok(Found::Closed(format!(
            "the kernel {} has no initramfs, and its root is on LUKS",
            kernel.version
        )));
    };
    let opened = files.open(path.as_bytes(), OFlags::RDONLY)?;
    let table = match table(File::from(opened)) {
        Err(error) if error.is::<UnknownPacking>() => {
            return Ok(Found::Unknown(format!("/{path}: {error}")));
        }
        found => found.with_context(|| format!("reading /{path}"))?,
    };
    let opens = |name: &str| {
        let mut lines = table.lines();
        lines.any(|line| line.split_whitespace().next() == Some(name))
    };
    Ok(match names.iter().find(|name| !opens(name)) {
        Some(name) => Found::Closed(format!(
            "/{path} does not open {name}, which its root is on"
        )),
        None => Found::Opens,
    })
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
