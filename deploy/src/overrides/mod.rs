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
use pitstop_trees::path::TreePath;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

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
