//! FAT, by the crate `fatfs`.

use super::part::Part;
use super::{BrowseError, Entry, Found, Kind, MOST_ENTRIES, Taker, broken, pass_on, sorted};
use crate::source::ReadAt;
use fatfs::{FileSystem, FsOptions};
use std::io::Read;

pub(super) fn look<D: ReadAt>(
    part: Part<D>,
    names: &[&str],
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    let left = part.left();
    let system = FileSystem::new(part, FsOptions::new()).map_err(broken)?;
    let mut folder = system.root_dir();
    for (depth, name) in names.iter().enumerate() {
        let missing = || BrowseError::NotFound(names[..=depth].join("/"));
        let mut entries = folder.iter().take(MOST_ENTRIES).map_while(Result::ok);
        let found = entries.find(|entry| {
            let (long, short) = (entry.file_name(), entry.short_file_name());
            long.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name)
        });
        let found = found.ok_or_else(missing)?;
        if found.is_dir() {
            folder = found.to_dir();
            continue;
        }
        if depth + 1 < names.len() {
            return Err(missing());
        }
        let size = found.len();
        left.set(left.get().saturating_add(size).saturating_add(size / 8));
        let mut file = found.to_file();
        return pass_on(size, taker, |buffer| file.read(buffer).map_err(broken));
    }
    list(&folder)
}

fn list<D: ReadAt>(folder: &fatfs::Dir<'_, Part<D>>) -> Result<Found, BrowseError> {
    let mut entries = Vec::new();
    for entry in folder.iter().take(MOST_ENTRIES + 2) {
        let entry = entry.map_err(broken)?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        entries.push(Entry {
            name,
            kind: if entry.is_dir() {
                Kind::Folder
            } else {
                Kind::File
            },
            size: if entry.is_dir() { 0 } else { entry.len() },
            target: String::new(),
        });
    }
    Ok(sorted(entries))
}
