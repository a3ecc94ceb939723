//! What a deploy made of a tree's files for the one machine: files laid over them, other identifiers, a boot configuration and
//! an initramfs of its own. An update takes those paths for the machine's own, whatever it is to do with files that were edited:
//! the tree's would be another machine's.

use super::look::{self, Three};
use super::record::{file, folder, write_file};
use super::rows::{Row, merge};
use super::side::Side;
use crate::files::Files;
use crate::root::Root;
use crate::wishes::Check;
use anyhow::Context;
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::TreePath;
use pitstop_trees::{Aspect, RECORD, TreeImage};
use rustix::fs::{OFlags, renameat};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// The file, in [`RECORD`]: paths, each with a zero byte behind it.
const ADAPTED: &str = "adapted";

/// Notes all paths at which the system at `root` is not as in `image`, and those of `more`.
///
/// # Errors
/// When something cannot be read, or the note not be written.
pub fn note(
    root: &Root,
    image: &TreeImage,
    more: impl IntoIterator<Item = TreePath>,
) -> anyhow::Result<()> {
    let noting = || format!("noting what is adapted in {}", root.path().display());
    let machine = Machine::open(root.path(), Access::Read, &super::plan::points(image)?)?;
    let nodes = machine.nodes(&|_| true).with_context(noting)?;
    let new = Side::new(&image.index);
    let three = Three {
        old: None,
        new: &new,
        machine: &machine,
        nodes: &nodes,
        names: look::names(&nodes),
        check: Check::Quick,
    };
    let mut rows = merge(None, &new, &nodes);
    three.look(&mut rows).with_context(noting)?;
    let differing = rows.iter().filter(|row| differs(row, &three));
    let paths = differing.map(|row| row.path.clone()).chain(more);
    write(root, paths.collect())
}

/// What is in a folder has paths of its own; a time alone is no difference, as an update has it.
fn differs(row: &Row, three: &Three) -> bool {
    let is_folder = row
        .here
        .is_some_and(|here| three.nodes[here].kind == rustix::fs::FileType::Directory);
    let is_other = row.vs_new.iter().any(|aspect| *aspect != Aspect::Time);
    match (row.here, row.new) {
        (Some(_), Some(_)) => is_other && (!is_folder || row.vs_new.contains(&Aspect::Kind)),
        (Some(_), None) => !is_folder,
        (None, new) => new.is_some(),
    }
}

/// Adds where files were laid over the system.
///
/// # Errors
/// When the note cannot be read or written.
pub fn add(root: &Root, laid: &BTreeSet<TreePath>) -> anyhow::Result<()> {
    if laid.is_empty() {
        return Ok(());
    }
    let files = Files::of(root)?;
    let top = fs::canonicalize(root.path())
        .with_context(|| format!("opening {}", root.path().display()))?;
    let real = |path: &TreePath| {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = files.open(path.folder(), flags).ok()?;
        let folder = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
        let below = folder.strip_prefix(&top).ok()?.as_os_str().as_bytes();
        TreePath::parse_loose(below).ok()?.join(path.name()).ok()
    };
    // A layer names its files by the tree's own symlinks, too.
    let laid = laid
        .iter()
        .map(|path| real(path).unwrap_or_else(|| path.clone()));
    let before = read(&Machine::open(root.path(), Access::Read, &[])?)?;
    write(root, before.into_iter().chain(laid).collect())
}

/// What was noted; nothing where no deploy was.
pub(super) fn read(machine: &Machine) -> anyhow::Result<BTreeSet<TreePath>> {
    let bytes = file(machine, ADAPTED)?.unwrap_or_default();
    let paths = bytes
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty());
    let paths = paths.map(TreePath::parse).collect::<Result<_, _>>();
    paths.with_context(|| {
        format!(
            "{}/{RECORD}/{ADAPTED} is damaged: what the deploy adapted to this machine is not known",
            machine.name().trim_end_matches('/')
        )
    })
}

fn write(root: &Root, paths: BTreeSet<TreePath>) -> anyhow::Result<()> {
    let machine = Machine::open(root.path(), Access::Write, &[])?;
    let folder = folder(&machine)?;
    let writing = || format!("writing {}/{RECORD}/{ADAPTED}", machine.name());
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
    }
    let part = format!("{ADAPTED}.part");
    write_file(&folder, &part, &bytes).with_context(writing)?;
    renameat(&folder, part.as_str(), &folder, ADAPTED).with_context(writing)?;
    rustix::fs::fsync(&folder).with_context(writing)
}
