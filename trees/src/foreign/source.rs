//! An imported tree as the source of an image.

use super::build::Content;
use crate::entry::{Entry, Kind};
use crate::extract::pieces;
use crate::meta::Meta;
use crate::pack::{Contents, Data, Found, GROUP, Source};
use crate::path::TreePath;
use crate::resolve::resolve;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// How much is copied at once.
const PIECE: usize = 1 << 20;
/// More than an os-release file has.
const BEGINNING: u64 = 64 << 10;

/// Entries in the order of the tree, and where their data is.
#[derive(Default)]
pub struct ImportedTree {
    pub entries: Vec<Item>,
    pub left_out: Vec<(String, String)>,
    pub identity: Vec<TreePath>,
}

/// An entry, and where its data is.
pub struct Item {
    pub entry: Entry,
    pub(super) content: Option<Content>,
}

impl Item {
    /// Writes its data to a new file, with its holes. What has no data leaves it empty.
    ///
    /// # Errors
    /// As reading and writing have them.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        let Some(content) = &self.content else {
            return Ok(());
        };
        let stored = self.entry.kind.stored();
        let mut piece = vec![0; usize::try_from(stored).map_or(PIECE, |size| size.min(PIECE))];
        let mut at = 0;
        while at < stored {
            let length =
                usize::try_from(stored - at).map_or(piece.len(), |left| left.min(piece.len()));
            content.read(&mut piece[..length], at)?;
            match &content.extents {
                None => file.write_all_at(&piece[..length], at)?,
                Some(extents) => {
                    for (part, place) in pieces(extents, at, length) {
                        file.write_all_at(&piece[part], place)?;
                    }
                }
            }
            at += length as u64;
        }
        file.set_len(content.size)
    }
}

impl ImportedTree {
    fn find(&self, path: &TreePath) -> Option<&Item> {
        let found = self
            .entries
            .binary_search_by(|item| item.entry.path.cmp(path));
        found.ok().map(|at| &self.entries[at])
    }

    /// The beginning of a file, symlinks followed.
    pub fn beginning(&self, path: &str) -> Option<Vec<u8>> {
        let found = resolve(path.as_bytes(), true, |path| {
            match &self.find(path)?.entry.kind {
                Kind::Symlink(target) => Some(target),
                _ => None,
            }
        });
        let mut item = self.find(&found.ok()?)?;
        if let Kind::HardLink(target) = &item.entry.kind {
            item = self.find(target)?;
        }
        let content = item.content.as_ref()?;
        let length = item.entry.kind.stored().min(BEGINNING);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        content.read(&mut bytes, 0).ok()?;
        Some(bytes)
    }
}

impl Contents for Content {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.at + at)
    }

    fn done(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Source for ImportedTree {
    fn count(&self) -> usize {
        self.entries.len()
    }

    fn size(&self, number: usize) -> u64 {
        let item = &self.entries[number];
        item.content
            .as_ref()
            .map_or(0, |_| item.entry.kind.stored())
    }

    fn is_folder(&self, number: usize) -> bool {
        self.entries[number].entry.kind == Kind::Folder
    }

    fn read(&self, number: usize) -> anyhow::Result<Option<Found>> {
        let item = &self.entries[number];
        let mut entry = item.entry.clone();
        let stored = entry.kind.stored();
        let data = match &item.content {
            None => Data::None,
            Some(content) if stored > GROUP as u64 => Data::Stream(Arc::new(content.clone())),
            Some(content) => {
                let mut bytes = vec![0; usize::try_from(stored)?];
                content.read(&mut bytes, 0)?;
                Data::Bytes(bytes)
            }
        };
        close_holes(&mut entry);
        Ok(Some(Found { entry, data }))
    }

    fn finish(&self, _meta: &mut Meta) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A map that says nothing is none.
fn close_holes(entry: &mut Entry) {
    if let Kind::File { size, extents, .. } = &mut entry.kind
        && let Some(map) = extents
        && let [only] = &**map
        && only.start == 0
        && only.length == *size
    {
        *extents = None;
    }
}
