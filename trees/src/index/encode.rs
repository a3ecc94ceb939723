//! An index as bytes.

use super::columns::{COLUMNS, Column, Columns};
use super::{Index, Placed};
use crate::entry::{Entry, Kind, Xattrs};
use crate::wire::{put_bytes, put_number, put_signed};
use pitstop_imaging::image::members::TREE_MAGIC;
use std::collections::HashMap;
use std::sync::Arc;

/// The index as it is stored, before it is cut into members.
pub fn encode(index: &Index) -> Vec<u8> {
    let mut columns = Columns::new();
    for member in &index.members {
        put_number(columns.of(Column::MemberSize), u64::from(member.size));
        put_number(columns.of(Column::MemberRaw), u64::from(member.raw));
        columns
            .of(Column::MemberHash)
            .extend_from_slice(&member.hash);
    }
    let mut writer = Writer {
        columns,
        index,
        sets: HashMap::new(),
        before: (&[], 0),
    };
    for placed in &index.placed {
        writer.entry(placed);
    }
    let mut blob = TREE_MAGIC.to_vec();
    let counts = [
        index.members.len(),
        index.placed.len(),
        index.toml.len(),
        COLUMNS,
    ];
    for count in counts {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        blob.extend_from_slice(&count.to_le_bytes());
    }
    writer.columns.store(&mut blob);
    blob.extend_from_slice(index.toml.as_bytes());
    blob
}

struct Writer<'a> {
    columns: Columns,
    index: &'a Index,
    /// Sets of extended attributes, numbered from 1; 0 is the empty one.
    sets: HashMap<Arc<Xattrs>, u64>,
    /// Path and seconds of the entry before.
    before: (&'a [u8], i64),
}

impl<'a> Writer<'a> {
    fn entry(&mut self, placed: &'a Placed) {
        let entry = &placed.entry;
        let columns = &mut self.columns;
        columns.of(Column::Kind).push(entry.kind.letter());
        let path = entry.path.as_bytes();
        let same = path.iter().zip(self.before.0).take_while(|(a, b)| a == b);
        let shared = same.count();
        put_number(columns.of(Column::Path), shared as u64);
        put_bytes(columns.of(Column::Path), &path[shared..]);
        let attributes = &entry.attributes;
        put_number(columns.of(Column::Mode), u64::from(attributes.mode));
        put_number(columns.of(Column::Uid), u64::from(attributes.uid));
        put_number(columns.of(Column::Gid), u64::from(attributes.gid));
        let time = attributes.mtime;
        let later = time.seconds.wrapping_sub(self.before.1);
        put_signed(columns.of(Column::Seconds), later);
        put_number(columns.of(Column::Nanos), u64::from(time.nanos));
        put_number(
            columns.of(Column::Flags),
            u64::from(attributes.flags.bits()),
        );
        put_number(columns.of(Column::Header), u64::from(placed.header / 512));
        self.before = (path, time.seconds);
        let set = self.xattr_set(&attributes.xattrs);
        put_number(self.columns.of(Column::XattrSet), set);
        self.kind(entry);
    }

    fn xattr_set(&mut self, xattrs: &Arc<Xattrs>) -> u64 {
        if xattrs.is_empty() {
            return 0;
        }
        if let Some(number) = self.sets.get(xattrs) {
            return *number;
        }
        let number = self.sets.len() as u64 + 1;
        self.sets.insert(Arc::clone(xattrs), number);
        let column = self.columns.of(Column::XattrSets);
        put_number(column, xattrs.pairs().len() as u64);
        for (name, value) in xattrs.pairs() {
            put_bytes(column, name);
            put_bytes(column, value);
        }
        number
    }

    fn kind(&mut self, entry: &Entry) {
        let columns = &mut self.columns;
        match &entry.kind {
            Kind::Folder | Kind::Fifo => {}
            Kind::Symlink(target) => put_bytes(columns.of(Column::Link), target),
            Kind::HardLink(target) => {
                // An index whose links lead nowhere is not made.
                let number = self.index.find(target.as_bytes()).unwrap_or_default();
                put_number(columns.of(Column::Link), number as u64);
            }
            Kind::Character { major, minor } | Kind::Block { major, minor } => {
                put_number(columns.of(Column::Device), u64::from(*major));
                put_number(columns.of(Column::Device), u64::from(*minor));
            }
            Kind::File {
                size,
                extents,
                hash,
            } => {
                put_number(columns.of(Column::Size), *size);
                if entry.kind.stored() > 0 {
                    columns.of(Column::Hash).extend_from_slice(hash);
                }
                let column = columns.of(Column::Extents);
                // 0 is a file without holes, 1 one that is all hole.
                put_number(column, extents.as_ref().map_or(0, |e| e.len() as u64 + 1));
                let mut end = 0;
                for extent in extents.iter().flat_map(|extents| extents.iter()) {
                    put_number(column, extent.start - end);
                    put_number(column, extent.length);
                    end = extent.start + extent.length;
                }
            }
        }
    }
}
