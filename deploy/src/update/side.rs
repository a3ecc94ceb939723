//! One of the two trees: its entries, hard links as the files that they are.

use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::index::Index;
use pitstop_trees::path::TreePath;
use pitstop_trees::{Aspect, compare};
use std::collections::HashMap;

pub struct Side<'a> {
    pub index: &'a Index,
    /// Numbers of files that have further names, and those of the names.
    linked: HashMap<usize, Vec<usize>>,
}

impl<'a> Side<'a> {
    pub fn new(index: &'a Index) -> Self {
        let mut linked: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, entry) in index.entries().enumerate() {
            if let Kind::HardLink(target) = &entry.kind
                && let Some(first) = index.find(target.as_bytes())
            {
                linked.entry(first).or_default().push(number);
            }
        }
        Self { index, linked }
    }

    /// The entry with this number as it is stored.
    pub fn entry(&self, number: usize) -> &'a Entry {
        &self.index.placed()[number].entry
    }

    /// The number of the entry that says what is there: of a hard link that of its file.
    pub fn first(&self, number: usize) -> usize {
        match &self.entry(number).kind {
            Kind::HardLink(target) => self.index.find(target.as_bytes()).unwrap_or(number),
            _ => number,
        }
    }

    /// What is there.
    pub fn resolved(&self, number: usize) -> &'a Entry {
        self.entry(self.first(number))
    }

    /// Whether it is a file with several names.
    pub fn is_linked(&self, number: usize) -> bool {
        self.linked.contains_key(&self.first(number))
    }

    /// Whether the file has another name here that is a file of its own in `new`: the first one that is there stays what it is.
    fn parts(&self, was: usize, new: &Side, is: usize) -> bool {
        let first = self.first(was);
        let Some(others) = self.linked.get(&first) else {
            return false;
        };
        let mut joined = [&first].into_iter().chain(others).filter_map(|name| {
            let path = &self.entry(*name).path;
            new.joins(is, path)
        });
        joined.next() == Some(false)
    }

    /// Whether two paths are names of one file.
    pub fn joins(&self, one: usize, other: &TreePath) -> Option<bool> {
        let other = self.index.find(other.as_bytes())?;
        Some(self.first(one) == self.first(other))
    }
}

/// What about a path is not the same in both trees.
pub fn between(old: &Side, was: usize, new: &Side, is: usize) -> Vec<Aspect> {
    let mut aspects = compare(old.resolved(was), new.resolved(is));
    let split = old.parts(was, new, is);
    let joined = match &new.entry(is).kind {
        Kind::HardLink(target) => old.joins(was, target) != Some(true),
        _ => false,
    };
    if (split || joined) && !aspects.contains(&Aspect::Target) {
        aspects.push(Aspect::Target);
    }
    aspects
}
