//! Files of a tree that have to do with booting, read from its image.

use anyhow::Context;
use pitstop_trees::TreeImage;
use pitstop_trees::entry::Kind;
use pitstop_trees::path::TreePath;

/// No loader and no configuration of one is larger.
const MOST: u64 = 64 << 20;

/// Whether the tree has something at `path`, which no symlink leads to.
pub fn has(image: &TreeImage, path: &str) -> bool {
    find(image, path).is_some()
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

/// What is in a file; `None` where there is no file.
///
/// # Errors
/// When it cannot be read.
pub fn read(image: &TreeImage, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(number) = find(image, path) else {
        return Ok(None);
    };
    let small = match &image.index.placed()[number].entry.kind {
        Kind::File { size, .. } => *size <= MOST,
        Kind::HardLink(_) | Kind::Symlink(_) => true,
        _ => false,
    };
    if !small {
        return Ok(None);
    }
    let path = TreePath::parse_loose(path.as_bytes()).context("a path in the tree")?;
    let mut bytes = Vec::new();
    pitstop_trees::cat(image, path.as_bytes(), &mut bytes)?;
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
