//! A tree on disks becomes an image: a machine's own root, another root, or any folder.

mod exclude;
mod holes;
mod identity;
mod mounts;
mod system;
mod tree;
mod walk;

pub use exclude::Excludes;
pub use identity::{Identity, Verdict};

use crate::facts;
use crate::meta::{Consistency, LeftOut, Meta};
use crate::pack::{self, Packing};
use crate::path::TreePath;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::members::Meter;
use rustix::fs::FileType;
use std::io::Write;
use std::path::Path;

/// What to capture, and how.
pub struct CaptureOptions {
    pub packing: Packing,
    pub excludes: Excludes,
    /// Whether what is one machine's alone is kept.
    pub keep_identity: bool,
    /// Whether changes under /etc, /usr and /boot while they are read are allowed.
    pub allow_changed: bool,
    /// The files that are written meanwhile, so that the image does not hold itself.
    pub skipped: Vec<TreePath>,
    /// Name and version on the share, where it has some.
    pub meta: Meta,
}

/// Writes an image of the tree at `root` to `out`. Returns what is stored beside it.
///
/// # Errors
/// When something in the tree cannot be read, or changed where it must not, or the image cannot be written.
pub fn capture(
    root: &Path,
    options: &CaptureOptions,
    out: &mut (dyn Write + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<Meta> {
    let (mounts, others) = mounts::find(root)?;
    let identity = Identity::new()?;
    let wanted = walk::Wanted {
        excludes: &options.excludes,
        identity: (!options.keep_identity).then_some(&identity),
        skipped: &options.skipped,
    };
    let found = walk::walk(&mounts, &wanted)?;
    for pattern in options.excludes.unused() {
        reporter.warn(format!(
            "the pattern {pattern:?} to leave out matches nothing: patterns begin at the root of the tree"
        ));
    }
    let mut meta = options.meta.clone();
    meta.consistency = if system::is_running_root(root) {
        Consistency::Live
    } else {
        Consistency::Offline
    };
    meta.excludes = options.excludes.patterns().to_vec();
    for (path, why) in others {
        reporter.warn(format!("{path} is left out: {why}"));
        let path = path.to_string();
        meta.left_out.push(LeftOut { path, why });
    }
    let paths = found.nodes.iter().map(|node| &node.path);
    facts::of_paths(&mut meta, paths);
    system::of_root(&mut meta, &mounts[0].folder);
    let filesystems: Vec<_> = mounts.iter().filter_map(system::of_mount).collect();
    if !filesystems.is_empty() {
        meta.filesystems = filesystems;
    }
    match system::layout(&mounts[0]) {
        Ok(None) => {}
        Ok(layout) => meta.layout = layout,
        Err(error) => reporter.warn(format!("the layout of its disk is not recorded: {error:#}")),
    }
    let total = found
        .nodes
        .iter()
        .filter(|node| node.kind == FileType::RegularFile && node.link.is_none())
        .map(|node| {
            node.stamp()
                .size
                .min(node.stat.stx_blocks.saturating_mul(512).max(1))
        })
        .sum();
    let name = root.display().to_string();
    let meter = Meter::new(Act::Capture, &name, Some(total), reporter);
    let live = tree::LiveTree::new(mounts, found, options.allow_changed);
    let meta = pack::pack(&live, options.packing, meta, out, &meter)?;
    for change in &meta.changed {
        reporter.warn(format!("changed: {change}"));
    }
    Ok(meta)
}
