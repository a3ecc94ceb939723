//! A tree on disks becomes an image: a machine's own root, another root, or any folder.

mod again;
mod exclude;
mod features;
mod holes;
mod identity;
mod lvm;
pub mod mounts;
mod snapshot;
mod system;
mod tree;
pub mod walk;

pub use exclude::Excludes;
pub use identity::{Identity, JOURNAL, RECORD, Verdict, WORKSHOP};
pub use mounts::{MountInfo, table as mount_table};

use crate::facts;
use crate::machine::{Locks, Machine};
use crate::meta::{Consistency, LeftOut, Meta};
use crate::pack::{self, Packing};
use crate::path::TreePath;
use anyhow::bail;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::members::Meter;
use pitstop_imaging::interrupt;
use rustix::fs::FileType;
use snapshot::Snapshots;
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
    // Held to the end.
    let locks = lock(root, options, reporter)?;
    check_update(root)?;
    let mut volumes = lvm::Snapshots::new(reporter);
    // Every handle of what is in a snapshot is closed when it returns.
    let captured = capture_held(root, options, out, &mut volumes, reporter)
        .map_err(|error| volumes.explain(error));
    drop(volumes);
    drop(locks);
    let meta = captured?;
    for change in &meta.changed {
        reporter.warn(format!("changed: {change}"));
    }
    Ok(meta)
}

/// The same with snapshots of LVM in `volumes`, which outlive it.
fn capture_held(
    root: &Path,
    options: &CaptureOptions,
    out: &mut (dyn Write + Send),
    volumes: &mut lvm::Snapshots,
    reporter: &dyn Reporter,
) -> anyhow::Result<Meta> {
    let (mut mounts, others) = mounts::find(root, mounts::Access::Read, &[])?;
    let mut meta = options.meta.clone();
    let (snapshots, consistency) = hold(root, options, &mut mounts, volumes, reporter)?;
    meta.consistency = consistency;
    let found = look(&mounts, options, &|_| true)?;
    interrupt::check()?;
    for pattern in options.excludes.unused() {
        reporter.warn(format!(
            "the pattern {pattern:?} to leave out matches nothing: patterns begin at the root of the tree"
        ));
    }
    let patterns = options.excludes.patterns();
    meta.excludes.extend(patterns.iter().cloned());
    for (path, why) in others {
        reporter.warn(format!("{path} is left out: {why}"));
        let path = path.to_string();
        meta.left_out.push(LeftOut { path, why });
    }
    describe(&mut meta, &mounts, &found, reporter);
    let name = root.display().to_string();
    let meter = Meter::new(Act::Capture, &name, Some(size_of(&found)), reporter);
    let live = tree::LiveTree::new(mounts, found, options, volumes);
    let meta = pack::pack(&live, options.packing, meta, out, &meter)?;
    drop(live);
    drop(snapshots);
    Ok(meta)
}

/// Refuses a system of which an update has replaced a part: its image would be of two versions.
fn check_update(root: &Path) -> anyhow::Result<()> {
    if root.join(WORKSHOP).join(JOURNAL).exists() {
        bail!(
            "{}: an update of it was cut off after it was decided, or is at work, and some of its files are of the new version and \
             some of the old one: finish the update first (pitstop tree update), then capture",
            root.display()
        );
    }
    Ok(())
}

/// Has what runs meanwhile be read from snapshots, where its filesystems have such.
fn hold<'a>(
    root: &Path,
    options: &CaptureOptions,
    mounts: &mut Vec<mounts::Mount>,
    volumes: &mut lvm::Snapshots,
    reporter: &'a dyn Reporter,
) -> anyhow::Result<(Snapshots<'a>, Consistency)> {
    if !system::is_running_root(root) {
        return Ok((Snapshots::default(), Consistency::Offline));
    }
    // It may be on a filesystem that is not read: a stick, a share.
    let image = match options.skipped.first() {
        Some(image) => mounts::around(mount_table()?, &Path::new("/").join(image.as_path())),
        None => None,
    };
    let (snapshots, still) = Snapshots::hold(mounts, reporter);
    // A root is of the one or the other.
    let consistency = if volumes.hold(mounts, image.as_ref()) || still {
        Consistency::Snapshot
    } else {
        Consistency::Live
    };
    Ok((snapshots, consistency))
}

/// Lists what is there and not left out, of folders that `enter` refuses not what is in them.
fn look(
    mounts: &[mounts::Mount],
    options: &CaptureOptions,
    enter: walk::Enter,
) -> anyhow::Result<walk::Tree> {
    let identity = Identity::new()?;
    let wanted = walk::Wanted {
        excludes: &options.excludes,
        identity: (!options.keep_identity).then_some(&identity),
        skipped: &options.skipped,
        enter,
        sockets: false,
    };
    walk::walk(&mounts.iter().collect::<Vec<_>>(), &wanted)
}

/// Keeps package managers from work in the system that runs.
fn lock(
    root: &Path,
    options: &CaptureOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Option<Locks>> {
    if !system::is_running_root(root) {
        return Ok(None);
    }
    let machine = Machine::open(root, mounts::Access::Write, &[])?;
    match Locks::take(&machine) {
        Err(error) if options.allow_changed => {
            reporter.warn(format!("changes are allowed: {error:#}"));
            Ok(None)
        }
        locks => locks.map(Some),
    }
}

/// Says of the system what its files and filesystems tell.
fn describe(
    meta: &mut Meta,
    mounts: &[mounts::Mount],
    found: &walk::Tree,
    reporter: &dyn Reporter,
) {
    facts::of_paths(meta, found.nodes.iter().map(|node| &node.path));
    system::of_root(meta, &mounts[0].folder);
    let filesystems: Vec<_> = mounts.iter().filter_map(system::of_mount).collect();
    if !filesystems.is_empty() {
        meta.filesystems = filesystems;
    }
    match system::layout(&mounts[0]) {
        Ok(None) => {}
        Ok(layout) => meta.layout = layout,
        Err(error) => reporter.warn(format!("the layout of its disk is not recorded: {error:#}")),
    }
}

/// About how many bytes are read.
fn size_of(found: &walk::Tree) -> u64 {
    let files = found.nodes.iter();
    let files = files.filter(|node| node.kind == FileType::RegularFile && node.link.is_none());
    let blocks = |node: &walk::Node| node.stat.stx_blocks.saturating_mul(512).max(1);
    files.map(|node| node.stamp().size.min(blocks(node))).sum()
}
