//! ext2-4, by the crate `ext4-view`. A link leads within the filesystem, or nowhere.

use super::part::Part;
use super::{BrowseError, Entry, Found, Kind, MOST_ENTRIES, Taker, broken, pass_on, sorted};
use crate::source::ReadAt;
use ext4_view::{DirEntry, Ext4, Ext4Error, FileType};

pub(super) fn look<D: ReadAt + 'static>(
    part: Part<D>,
    names: &[&str],
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    let left = part.left();
    let system = Ext4::load(Box::new(part)).map_err(broken)?;
    let path = format!("/{}", names.join("/"));
    let missing = |error: Ext4Error| match error {
        Ext4Error::NotFound | Ext4Error::NotADirectory => BrowseError::NotFound(path.clone()),
        error => broken(error),
    };
    let metadata = system.metadata(path.as_str()).map_err(missing)?;
    if metadata.is_dir() {
        let entries = system.read_dir(path.as_str()).map_err(missing)?;
        let entries = entries.take(MOST_ENTRIES + 2).map(|it| it.map_err(broken));
        let entries = entries.map(|it| it.and_then(|it| entry(&system, &it)));
        let entries: Result<Vec<Option<Entry>>, BrowseError> = entries.collect();
        return Ok(sorted(entries?.into_iter().flatten().collect()));
    }
    if !metadata.file_type().is_regular_file() {
        return Err(BrowseError::NotAFile(path));
    }
    let size = metadata.len();
    let mut file = system.open(path.as_str()).map_err(missing)?;
    left.set(left.get().saturating_add(size).saturating_add(size / 8));
    pass_on(size, taker, |buffer| {
        file.read_bytes(buffer).map_err(broken)
    })
}

fn entry(system: &Ext4, entry: &DirEntry) -> Result<Option<Entry>, BrowseError> {
    let name = entry.file_name().display().to_string();
    if name == "." || name == ".." {
        return Ok(None);
    }
    let metadata = entry.metadata().map_err(broken)?;
    let kind = kind(metadata.file_type());
    let target = match kind {
        Kind::Link => system
            .read_link(&entry.path())
            .map(|it| it.display().to_string()),
        _ => Ok(String::new()),
    };
    Ok(Some(Entry {
        name,
        kind,
        size: if kind == Kind::File {
            metadata.len()
        } else {
            0
        },
        target: target.unwrap_or_default(),
    }))
}

fn kind(kind: FileType) -> Kind {
    if kind.is_dir() {
        Kind::Folder
    } else if kind.is_regular_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}
