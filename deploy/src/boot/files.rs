//! Files of a tree that have to do with booting, read from its image.

use anyhow::{Context, bail};
use pitstop_trees::entry::Kind;
use pitstop_trees::path::TreePath;
use pitstop_trees::{TreeImage, cat, follow};

/// No loader and no configuration of one is larger.
const MOST: u64 = 64 << 20;
pub const FSTAB: &str = "etc/fstab";

/// Whether the tree has something at `path`, which no symlink leads to.
pub fn has(image: &TreeImage, path: &str) -> bool {
    find(image, path).is_some()
}

/// Whether the tree has a program at `path`, its symlinks followed.
pub fn has_program(image: &TreeImage, path: &str) -> bool {
    let at = follow(image, path.as_bytes()).ok();
    let at = at.and_then(|at| image.index.find(at.as_bytes()));
    at.is_some_and(|at| {
        let entry = &image.index.placed()[at].entry;
        matches!(entry.kind, Kind::File { .. } | Kind::HardLink(_))
            && entry.attributes.mode & 0o111 != 0
    })
}

/// The names in a folder.
pub fn list(image: &TreeImage, folder: &str) -> Vec<String> {
    let Some(at) = find(image, folder) else {
        return Vec::new();
    };
    let after = image.index.placed()[at + 1..].iter();
    let within = after.take_while(|it| it.entry.path.is_within(folder.as_bytes()));
    let here = within.filter(|it| it.entry.path.folder() == folder.as_bytes());
    here.map(|it| String::from_utf8_lossy(it.entry.path.name()).into_owned())
        .collect()
}

fn find(image: &TreeImage, path: &str) -> Option<usize> {
    let path = TreePath::parse_loose(path.as_bytes()).ok()?;
    image.index.find(path.as_bytes())
}

/// What is in a file, symlinks of the tree followed; `None` where there is no file.
///
/// # Errors
/// When it cannot be read.
pub fn read(image: &TreeImage, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let path = follow(image, path.as_bytes()).with_context(|| path.to_owned())?;
    let Some(number) = image.index.find(path.as_bytes()) else {
        return Ok(None);
    };
    let small = match &image.index.placed()[number].entry.kind {
        Kind::File { size, .. } => *size <= MOST,
        Kind::HardLink(_) => true,
        _ => false,
    };
    if !small {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    cat(image, path.as_bytes(), &mut bytes)?;
    Ok(Some(bytes))
}

/// The same of a text.
///
/// # Errors
/// When it cannot be read.
pub fn text(image: &TreeImage, path: &str) -> anyhow::Result<Option<String>> {
    let bytes = read(image, path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The tree's fstab; nothing where it has none.
///
/// # Errors
/// When it cannot be read, or its symlinks lead where another one cannot be written.
pub fn fstab(image: &TreeImage) -> anyhow::Result<String> {
    if let Some(text) = text(image, FSTAB)? {
        return Ok(text);
    }
    let at = follow(image, FSTAB.as_bytes())?;
    let folder = image.index.find(at.folder());
    let is_folder = |at: usize| image.index.placed()[at].entry.kind == Kind::Folder;
    let has_folder = at.folder().is_empty() || folder.is_some_and(is_folder);
    if at.as_bytes() != FSTAB.as_bytes() && !has_folder {
        bail!(
            "/{FSTAB} of {} leads to {at}, and the tree has no such folder: a deploy could not write it",
            image.name()
        );
    }
    Ok(String::new())
}
