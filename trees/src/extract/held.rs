//! Parts of large files that the machine has already: they are taken from there, and do not travel.

use crate::entry::Kind;
use crate::index::Index;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Members of an image that are parts of files of an older one, too.
#[derive(Debug, Default)]
pub struct Held {
    /// By the numbers of the entries that they are parts of.
    files: BTreeMap<usize, Vec<usize>>,
}

impl Held {
    /// Notes the parts that the file `is` of `new` has in common with the file `was` of `old`, at the same place. Never the first
    /// one: its member has the header too, and that has changed.
    pub fn note(&mut self, old: &Index, was: usize, new: &Index, is: usize) {
        if !is_plain(old, was) || !is_plain(new, is) {
            return;
        }
        let (before, now) = (old.data_range(was), new.data_range(is));
        let is_same = |number: &usize| {
            let part = new.raw_range(*number);
            if part.start <= now.start || part.end > now.end.next_multiple_of(512) {
                return false;
            }
            let at = before.start + (part.start - now.start);
            let there = old.members_in(&(at..before.end)).next();
            there.is_some_and(|there| {
                let (one, other) = (&new.members()[*number], &old.members()[there]);
                old.raw_range(there).start == at && (one.raw, one.hash) == (other.raw, other.hash)
            })
        };
        let parts: Vec<usize> = new.members_in(&now).filter(is_same).collect();
        if !parts.is_empty() {
            self.files.insert(is, parts);
        }
    }

    /// Entries, each with the members that are its parts.
    pub fn files(&self) -> impl Iterator<Item = (usize, &[usize])> {
        self.files.iter().map(|(entry, parts)| (*entry, &parts[..]))
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        self.files.values().flatten().copied()
    }
}

fn is_plain(index: &Index, number: usize) -> bool {
    let entry = &index.placed()[number].entry;
    matches!(entry.kind, Kind::File { extents: None, .. })
}

/// Fills `raw` with what member `number` holds, from `file`, which is to be as entry `entry` in that part. Whether it is what the
/// index says.
pub fn read(index: &Index, entry: usize, number: usize, file: &File, raw: &mut Vec<u8>) -> bool {
    let (data, part) = (index.data_range(entry), index.raw_range(number));
    let member = &index.members()[number];
    let (Some(at), Ok(length), Ok(size)) = (
        part.start.checked_sub(data.start),
        usize::try_from(data.end.min(part.end).saturating_sub(part.start)),
        usize::try_from(member.raw),
    ) else {
        return false;
    };
    raw.clear();
    raw.resize(size, 0);
    file.read_exact_at(&mut raw[..length], at).is_ok()
        && *blake3::hash(raw).as_bytes() == member.hash
}
