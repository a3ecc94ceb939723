//! What differs between two trees, by their indexes alone.

use crate::entry::{Entry, Kind};
use crate::index::Index;
use crate::path::TreePath;
use serde::Serialize;
use std::cmp::Ordering;

/// What about an entry is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    Kind,
    /// The data of a file, or where its holes are.
    Content,
    /// Where a symlink or a hard link leads, or the numbers of a device.
    Target,
    Mode,
    Owner,
    Time,
    Xattrs,
    Flags,
}

impl Aspect {
    pub fn word(self) -> &'static str {
        match self {
            Aspect::Kind => "kind",
            Aspect::Content => "content",
            Aspect::Target => "target",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Time => "time",
            Aspect::Xattrs => "attributes",
            Aspect::Flags => "flags",
        }
    }
}

/// One path that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    /// Only the second one has it.
    Added(&'a Entry),
    /// Only the first one has it.
    Removed(&'a Entry),
    Changed(&'a Entry, &'a Entry, Vec<Aspect>),
}

impl Difference<'_> {
    pub fn path(&self) -> &TreePath {
        match self {
            Difference::Added(entry)
            | Difference::Removed(entry)
            | Difference::Changed(entry, ..) => &entry.path,
        }
    }
}

/// Compares two trees, path by path, in the order of the tree.
pub fn diff<'a>(old: &'a Index, new: &'a Index) -> Vec<Difference<'a>> {
    let (mut old, mut new) = (old.entries().peekable(), new.entries().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(&b.path),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), None) => found.push(Difference::Removed(was)),
            (None, Some(is)) => found.push(Difference::Added(is)),
            (Some(was), Some(is)) => {
                let aspects = compare(was, is);
                if !aspects.is_empty() {
                    found.push(Difference::Changed(was, is, aspects));
                }
            }
            (None, None) => {}
        }
    }
}

/// What about two entries is not the same.
pub fn compare(was: &Entry, is: &Entry) -> Vec<Aspect> {
    let mut aspects = Vec::new();
    if was.kind.letter() != is.kind.letter() {
        aspects.push(Aspect::Kind);
    } else if was.kind != is.kind {
        aspects.push(match was.kind {
            Kind::File { .. } => Aspect::Content,
            _ => Aspect::Target,
        });
    }
    let (a, b) = (&was.attributes, &is.attributes);
    let differs = [
        (a.mode != b.mode, Aspect::Mode),
        ((a.uid, a.gid) != (b.uid, b.gid), Aspect::Owner),
        (a.mtime != b.mtime, Aspect::Time),
        (a.xattrs != b.xattrs, Aspect::Xattrs),
        (a.flags != b.flags, Aspect::Flags),
    ];
    let other = differs.into_iter().filter(|(differs, _)| *differs);
    aspects.extend(other.map(|(_, aspect)| aspect));
    aspects
}
