//! NTFS, by the crate `ntfs`, and our own reading of its folders. Files that NTFS has compressed or encrypted are not read.

use super::part::Part;
use super::{BrowseError, Entry, Found, Kind, MOST_ENTRIES, Taker, broken, pass_on, sorted};
use crate::source::{ReadAt, Stream};
use crate::used::ntfs::directory::{Entry as Name, entries};
use ntfs::{Ntfs, NtfsAttributeFlags, NtfsFile, NtfsReadSeek};
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};

pub(super) fn look<D: ReadAt>(
    part: &Part<D>,
    names: &[&str],
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    // The crate panics at some damage.
    panic::catch_unwind(AssertUnwindSafe(|| walk(part, names, taker)))
        .unwrap_or_else(|_| Err(broken("its metadata is damaged")))
}

fn walk<D: ReadAt>(
    part: &Part<D>,
    names: &[&str],
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    let mut stream = Stream::new(part);
    let mut ntfs = Ntfs::new(&mut stream).map_err(broken)?;
    // Looking for a file's data needs the table of capitals.
    ntfs.read_upcase_table(&mut stream).map_err(broken)?;
    let mut at = ntfs.root_directory(&mut stream).map_err(broken)?;
    for (depth, name) in names.iter().enumerate() {
        let path = || names[..=depth].join("/");
        if !at.is_directory() {
            return Err(BrowseError::NotFound(path()));
        }
        let there = entries(&at, &mut stream).map_err(broken)?;
        let lower = name.to_lowercase();
        let exact = there.iter().find(|it| it.name == *name);
        let found = exact.or_else(|| there.iter().find(|it| it.name.to_lowercase() == lower));
        let number = found.ok_or_else(|| BrowseError::NotFound(path()))?.file;
        at = ntfs.file(&mut stream, number).map_err(broken)?;
    }
    if at.is_directory() {
        return list(&ntfs, &at, names.is_empty(), &mut stream);
    }
    read(part, &at, &names.join("/"), &mut stream, taker)
}

fn list(
    ntfs: &Ntfs,
    folder: &NtfsFile<'_>,
    is_root: bool,
    stream: &mut Stream<'_>,
) -> Result<Found, BrowseError> {
    let there = entries(folder, stream).map_err(broken)?;
    let mut found = Vec::new();
    for Name { name, file } in long_names(there) {
        // The filesystem's own: `$MFT`, and the root in itself.
        if is_root && (name.starts_with('$') || name == ".") || found.len() >= MOST_ENTRIES {
            continue;
        }
        let file = ntfs.file(stream, file).map_err(broken)?;
        let kind = if file.is_directory() {
            Kind::Folder
        } else {
            Kind::File
        };
        let size = match file.data(stream, "") {
            Some(item) if kind == Kind::File => {
                let item = item.map_err(broken)?;
                item.to_attribute().map_err(broken)?.value_length()
            }
            _ => 0,
        };
        found.push(Entry {
            name,
            kind,
            size,
            target: String::new(),
        });
    }
    Ok(sorted(found))
}

/// Without the names in DOS's spelling of files that have a longer one.
fn long_names(there: Vec<Name>) -> Vec<Name> {
    let mut longest: HashMap<u64, usize> = HashMap::new();
    for it in &there {
        let length = longest.entry(it.file).or_default();
        *length = (*length).max(it.name.len());
    }
    let is_dos = |it: &Name| {
        it.name.contains('~') && it.name.len() < longest.get(&it.file).copied().unwrap_or_default()
    };
    there.into_iter().filter(|it| !is_dos(it)).collect()
}

fn read<D: ReadAt>(
    part: &Part<D>,
    file: &NtfsFile<'_>,
    path: &str,
    stream: &mut Stream<'_>,
    taker: &mut dyn Taker,
) -> Result<Found, BrowseError> {
    let Some(item) = file.data(stream, "") else {
        return Err(BrowseError::NotAFile(path.to_owned()));
    };
    let item = item.map_err(broken)?;
    let attribute = item.to_attribute().map_err(broken)?;
    let flags = attribute.flags();
    if flags.intersects(NtfsAttributeFlags::COMPRESSED | NtfsAttributeFlags::ENCRYPTED) {
        return Err(BrowseError::Unsupported(format!(
            "{path} is compressed or encrypted by NTFS"
        )));
    }
    let mut value = attribute.value(stream).map_err(broken)?;
    let size = value.len();
    let left = part.left();
    left.set(left.get().saturating_add(size).saturating_add(size / 8));
    pass_on(size, taker, |buffer| {
        value.read(stream, buffer).map_err(broken)
    })
}
