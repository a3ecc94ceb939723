//! Files laid over a tree, layer by layer: the later ones win.
//!
//! A folder that the tree has already stays as it is, with its owner and its mode; through a symlink of the tree to a folder the way
//! leads on, as for the tree's own programs, and never out of it. A file takes the place of a file or a symlink. A file over a folder,
//! or a folder over a file, is an error: nobody loses a folder by mistake.

mod folder;
mod lay;

use crate::files::Files;
use crate::root::Root;
use anyhow::Context;
use lay::Layer;
use pitstop_imaging::event::Reporter;
use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::path::TreePath;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Whose files of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// root's: shares over HTTP or with other owners tell nothing.
    #[default]
    Root,
    /// As the folder or the tar has them, by number.
    Kept,
}

/// Where a layer's files are.
pub enum From {
    Folder(PathBuf),
    /// A tar, plain.
    Tar(Box<dyn Read + Send>),
}

impl fmt::Debug for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Tar(_) => f.write_str("a tar"),
        }
    }
}

/// One layer.
#[derive(Debug)]
pub struct Overlay {
    /// For messages: `layers/base`.
    pub name: String,
    pub from: From,
    pub owners: Owners,
}

/// What became of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// Files and links that were not there before.
    pub added: usize,
    pub replaced: usize,
    /// By whiteouts.
    pub removed: usize,
    /// Where files and links were laid, as the layers name them.
    pub paths: BTreeSet<TreePath>,
}

/// How the data of a file is written.
type Data<'a> = &'a dyn Fn(&File) -> io::Result<()>;

/// Gets what a layer has, in its order.
trait Takes {
    /// Told of what is no part of a system.
    fn pass_over(&self, path: &TreePath, what: &str);

    /// # Errors
    /// When it cannot be read, or does not fit.
    fn entry(&mut self, entry: &Entry, data: Data) -> anyhow::Result<()>;
}

/// Reads all of a layer, and lays it nowhere: what cannot be read is told before a system is changed. A tar is at its end then; it
/// is kept in `work` meanwhile. Returns how many files and links it has.
///
/// # Errors
/// When something cannot be read, is no tar, or leads out of itself.
pub fn check(overlay: &mut Overlay, work: &Path) -> anyhow::Result<usize> {
    let name = &overlay.name;
    let reading = || format!("reading {name}");
    let nowhere = File::options().write(true).open("/dev/null");
    let mut count = Count {
        nowhere: nowhere.with_context(reading)?,
        files: 0,
    };
    match &mut overlay.from {
        From::Folder(path) => folder::walk(path, &mut count),
        From::Tar(tar) => pitstop_trees::read_tar(tar, work).map(|items| {
            let files = items.iter().filter(|it| it.entry.kind != Kind::Folder);
            count.files = files.count();
        }),
    }
    .with_context(reading)?;
    Ok(count.files)
}

/// What a layer has, read and counted.
struct Count {
    nowhere: File,
    files: usize,
}

impl Takes for Count {
    fn pass_over(&self, _: &TreePath, _: &str) {}

    fn entry(&mut self, entry: &Entry, data: Data) -> anyhow::Result<()> {
        if let Kind::File { .. } = entry.kind {
            data(&self.nowhere)?;
        }
        self.files += usize::from(entry.kind != Kind::Folder);
        Ok(())
    }
}

/// Lays the layers over the system at `root`, in order.
///
/// # Errors
/// When a layer cannot be read, or what it has does not fit the tree.
pub fn copy(
    root: &Root,
    overlays: &mut [Overlay],
    reporter: &dyn Reporter,
) -> anyhow::Result<Copied> {
    let files = Files::of(root)?;
    let mut all = Copied::default();
    for overlay in overlays {
        let name = &overlay.name;
        let mut layer = Layer::new(&files, name, overlay.owners, reporter);
        match &mut overlay.from {
            From::Folder(path) => folder::walk(path, &mut layer),
            From::Tar(tar) => pitstop_trees::read_tar(tar, root.path())
                .and_then(|items| items.iter().try_for_each(|item| layer.item(item))),
        }
        .with_context(|| format!("laying {name} over the tree"))?;
        let copied = layer.finish()?;
        let removed = match copied.removed {
            0 => String::new(),
            count => format!(", {count} removed"),
        };
        reporter.info(format!(
            "{name}: {} files added, {} replaced{removed}",
            copied.added, copied.replaced
        ));
        all.added += copied.added;
        all.replaced += copied.replaced;
        all.removed += copied.removed;
        all.paths.extend(copied.paths);
    }
    files.finish(reporter)?;
    Ok(all)
}

#[cfg(test)]
mod tests;
