//! Bytes as an index: nothing in it is believed before it is checked.

use super::columns::{Column, Columns, RATIO_MOST};
use super::{EXTENTS_MOST, Index, IndexError, Member, Placed};
use crate::entry::{Attributes, Entry, Extent, Kind, Time, Xattrs, is_device};
use crate::flags::Flags;
use crate::header::BLOCK;
use crate::path::TreePath;
use crate::wire::{Broken, Reader};
use pitstop_imaging::image::members::{TREE_MAGIC, u32_at};
use std::sync::Arc;

const FIXED: usize = 8 + 4 * 4;
const NANOS: u32 = 1_000_000_000;

impl From<Broken> for IndexError {
    fn from(_: Broken) -> Self {
        IndexError::Wrong("a column ends early or has a number out of range")
    }
}

/// Reads what [`encode`](super::encode) wrote, of a file whose members have `data` bytes together.
///
/// # Errors
/// When it is of another version, not of that file, or not one whole tree.
pub fn decode(blob: &[u8], data: u64) -> Result<Index, IndexError> {
    decode_of(blob, Some(data))
}

/// Reads an index that was kept without its image.
///
/// # Errors
/// As of [`decode`].
pub fn decode_alone(blob: &[u8]) -> Result<Index, IndexError> {
    decode_of(blob, None)
}

fn decode_of(blob: &[u8], data: Option<u64>) -> Result<Index, IndexError> {
    let short = || IndexError::Wrong("it ends early");
    let fixed = blob.get(..FIXED).ok_or_else(short)?;
    if fixed[..8] != TREE_MAGIC {
        return Err(IndexError::Version(
            String::from_utf8_lossy(&fixed[..8]).into_owned(),
        ));
    }
    let count = |at| {
        let word = u32_at(fixed, at).ok_or_else(short)?;
        usize::try_from(word).map_err(|_| short())
    };
    let (members, entries, toml, columns) = (count(8)?, count(12)?, count(16)?, count(20)?);
    let (columns, rest) = Columns::load(&blob[FIXED..], columns)?;
    if rest.len() != toml {
        return Err(IndexError::Wrong("its metadata has another length"));
    }
    let toml = String::from_utf8(rest.to_vec())
        .map_err(|_| IndexError::Wrong("its metadata is not UTF-8"))?;
    let members = read_members(&columns, members)?;
    check_counts(&members, entries, data)?;
    let placed = Rows::new(&columns)?.read(entries)?;
    Index::new(members, placed, toml)
}

fn read_members(columns: &Columns, count: usize) -> Result<Vec<Member>, IndexError> {
    let of = |column| Reader::new(columns.get(column));
    let (mut size, mut raw, mut hash) = (
        of(Column::MemberSize),
        of(Column::MemberRaw),
        of(Column::MemberHash),
    );
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(Member {
            size: size.small()?,
            raw: raw.small()?,
            hash: hash.hash()?,
        });
    }
    for column in [size, raw, hash] {
        column.end()?;
    }
    Ok(members)
}

/// What is claimed has to fit in the file, before memory is taken for it: a header has a block at least, and deflate makes
/// no more of a byte than it can.
fn check_counts(members: &[Member], entries: usize, data: Option<u64>) -> Result<(), IndexError> {
    let (mut file, mut tar) = (0u64, 0u64);
    for member in members {
        if u64::from(member.raw) > u64::from(member.size) * RATIO_MOST {
            return Err(IndexError::Wrong("a member has no possible size"));
        }
        file += u64::from(member.size);
        tar += u64::from(member.raw);
    }
    if data.is_some_and(|data| file != data) {
        return Err(IndexError::Wrong("its members do not end where it begins"));
    }
    if entries as u64 > tar / BLOCK {
        return Err(IndexError::Wrong(
            "it has more entries than its tar can have",
        ));
    }
    Ok(())
}

/// The columns of entries, read side by side.
struct Rows<'a> {
    columns: &'a Columns,
    sets: Vec<Arc<Xattrs>>,
    path: Vec<u8>,
    seconds: i64,
}

/// The columns that only some kinds have.
struct OfKinds<'a> {
    size: Reader<'a>,
    hash: Reader<'a>,
    link: Reader<'a>,
    device: Reader<'a>,
    extents: Reader<'a>,
}

impl<'a> Rows<'a> {
    fn new(columns: &'a Columns) -> Result<Self, IndexError> {
        Ok(Self {
            columns,
            sets: read_sets(columns.get(Column::XattrSets))?,
            path: Vec::new(),
            seconds: 0,
        })
    }

    fn read(mut self, count: usize) -> Result<Vec<Placed>, IndexError> {
        let of = |column| Reader::new(self.columns.get(column));
        let mut kind = of(Column::Kind);
        let mut path = of(Column::Path);
        let mut plain = [
            Column::Mode,
            Column::Uid,
            Column::Gid,
            Column::Seconds,
            Column::Nanos,
            Column::XattrSet,
            Column::Flags,
            Column::Header,
        ]
        .map(of);
        let mut some = OfKinds {
            size: of(Column::Size),
            hash: of(Column::Hash),
            link: of(Column::Link),
            device: of(Column::Device),
            extents: of(Column::Extents),
        };
        let mut placed: Vec<Placed> = Vec::new();
        for _ in 0..count {
            let letter = kind.byte()?;
            let path = self.next_path(&mut path)?;
            let (attributes, header) = self.attributes(&mut plain)?;
            let kind = some.kind(letter, &placed)?;
            let entry = Entry {
                path,
                kind,
                attributes,
            };
            placed.push(Placed { entry, header });
        }
        for column in plain.into_iter().chain([kind, path]).chain([
            some.size,
            some.hash,
            some.link,
            some.device,
            some.extents,
        ]) {
            column.end()?;
        }
        Ok(placed)
    }

    fn next_path(&mut self, column: &mut Reader) -> Result<TreePath, IndexError> {
        let shared: usize = column.small()?;
        if shared > self.path.len() {
            return Err(Broken.into());
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(column.bytes()?);
        TreePath::parse(&self.path).map_err(|_| IndexError::Wrong("a path leads out of the tree"))
    }

    fn attributes(&mut self, plain: &mut [Reader; 8]) -> Result<(Attributes, u32), IndexError> {
        let [mode, uid, gid, seconds, nanos, set, flags, header] = plain;
        self.seconds = self.seconds.wrapping_add(seconds.signed()?);
        let set: usize = set.small()?;
        let attributes = Attributes {
            mode: mode.small()?,
            uid: uid.small()?,
            gid: gid.small()?,
            mtime: Time {
                seconds: self.seconds,
                nanos: nanos.small()?,
            },
            xattrs: Arc::clone(self.sets.get(set).ok_or(Broken)?),
            flags: Flags::from_kernel(flags.small()?),
        };
        // The largest number is no owner (chown(2)).
        let nobody = attributes.uid == u32::MAX || attributes.gid == u32::MAX;
        if attributes.mode > 0o7777 || attributes.mtime.nanos >= NANOS || nobody {
            return Err(Broken.into());
        }
        let blocks: u32 = header.small()?;
        let header = blocks.checked_mul(512).ok_or(Broken)?;
        Ok((attributes, header))
    }
}

fn read_sets(column: &[u8]) -> Result<Vec<Arc<Xattrs>>, IndexError> {
    let mut reader = Reader::new(column);
    let mut sets = vec![Arc::default()];
    let mut left = column.len();
    while left > 0 {
        let count: usize = reader.small()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let name = reader.bytes()?;
            if name.is_empty() || name.contains(&0) {
                return Err(IndexError::Wrong(
                    "an extended attribute has no possible name",
                ));
            }
            pairs.push((name.to_vec(), reader.bytes()?.to_vec()));
        }
        sets.push(Arc::new(Xattrs::new(pairs)));
        left = reader.left();
    }
    Ok(sets)
}

impl OfKinds<'_> {
    fn kind(&mut self, letter: u8, before: &[Placed]) -> Result<Kind, IndexError> {
        Ok(match letter {
            b'd' => Kind::Folder,
            b'p' => Kind::Fifo,
            b'l' => {
                let target = self.link.bytes()?;
                if target.is_empty() || target.contains(&0) {
                    return Err(IndexError::Wrong("a symlink has no possible target"));
                }
                Kind::Symlink(target.to_vec())
            }
            b'h' => {
                let number: usize = self.link.small()?;
                let target = before.get(number).ok_or(Broken)?;
                Kind::HardLink(target.entry.path.clone())
            }
            b'c' | b'b' => {
                let (major, minor) = (self.device.small()?, self.device.small()?);
                if !is_device(major, minor) {
                    return Err(IndexError::Wrong("a device has no possible number"));
                }
                if letter == b'c' {
                    Kind::Character { major, minor }
                } else {
                    Kind::Block { major, minor }
                }
            }
            b'f' => self.file()?,
            _ => return Err(IndexError::Wrong("an entry is of no known kind")),
        })
    }

    fn file(&mut self) -> Result<Kind, IndexError> {
        let size = self.size.number()?;
        let extents = match self.extents.small::<usize>()? {
            0 => None,
            more => Some(self.stretches(more - 1, size)?),
        };
        let mut kind = Kind::File {
            size,
            extents,
            hash: *blake3::hash(b"").as_bytes(),
        };
        if kind.stored() > 0
            && let Kind::File { hash, .. } = &mut kind
        {
            *hash = self.hash.hash()?;
        }
        Ok(kind)
    }

    fn stretches(&mut self, count: usize, size: u64) -> Result<Arc<[Extent]>, IndexError> {
        if count > EXTENTS_MOST {
            return Err(IndexError::Wrong("a file has more holes than any can have"));
        }
        let mut extents = Vec::with_capacity(count);
        let mut end = 0u64;
        for _ in 0..count {
            let start = end.checked_add(self.extents.number()?).ok_or(Broken)?;
            let length = self.extents.number()?;
            end = start.checked_add(length).ok_or(Broken)?;
            extents.push(Extent { start, length });
        }
        if end > size {
            return Err(IndexError::Wrong("a file has data behind its end"));
        }
        Ok(extents.into())
    }
}

/// Whether entries are one tree: in order, each in a folder that stands before it, links to files that do.
pub fn check_tree(placed: &[Placed]) -> Result<(), IndexError> {
    let mut entries = placed.iter().map(|placed| &placed.entry);
    match entries.next() {
        Some(root) if root.path.is_root() && root.kind == Kind::Folder => {}
        _ => return Err(IndexError::Wrong("it does not begin with the root")),
    }
    let mut folders: Vec<&TreePath> = Vec::new();
    let mut before = &placed[0].entry.path;
    for entry in entries {
        if entry.path <= *before {
            return Err(IndexError::Wrong("its entries are not in order"));
        }
        before = &entry.path;
        while folders
            .last()
            .is_some_and(|last| !entry.path.is_within(last.as_bytes()))
        {
            folders.pop();
        }
        let folder = folders.last().map_or(&[][..], |last| last.as_bytes());
        if folder != entry.path.folder() {
            return Err(IndexError::Wrong("an entry is in no folder"));
        }
        match &entry.kind {
            Kind::Folder => folders.push(&entry.path),
            Kind::HardLink(target) => check_link(placed, target, &entry.path)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_link(placed: &[Placed], target: &TreePath, link: &TreePath) -> Result<(), IndexError> {
    let found = placed.binary_search_by(|placed| placed.entry.path.cmp(target));
    let target = found.ok().map(|at| &placed[at].entry);
    match target {
        Some(entry)
            if entry.path < *link && !matches!(entry.kind, Kind::Folder | Kind::HardLink(_)) =>
        {
            Ok(())
        }
        _ => Err(IndexError::Wrong("a hard link leads to no file before it")),
    }
}
