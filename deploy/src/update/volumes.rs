//! The parts of a machine between which nothing can be renamed: its filesystems, and the subvolumes of Btrfs.

use pitstop_trees::machine::Node;
use pitstop_trees::path::TreePath;
use rustix::fs::FileType;
use std::collections::HashMap;

pub struct Volumes {
    /// The topmost folder of each; the first one is the root.
    pub tops: Vec<TreePath>,
    of: HashMap<TreePath, usize>,
}

impl Volumes {
    pub fn new(nodes: &[Node]) -> Self {
        let mut found = Self {
            tops: Vec::new(),
            of: HashMap::new(),
        };
        let mut known: HashMap<(usize, u32, u32), usize> = HashMap::new();
        for node in nodes {
            if node.kind != FileType::Directory || node.other_mount {
                continue;
            }
            let key = (node.mount, node.stat.stx_dev_major, node.stat.stx_dev_minor);
            let number = *known.entry(key).or_insert_with(|| {
                found.tops.push(node.path.clone());
                found.tops.len() - 1
            });
            found.of.insert(node.path.clone(), number);
        }
        found
    }

    /// The volume that what is at `path` is in.
    pub fn holding(&self, path: &TreePath) -> usize {
        let top = self.of.get(path).copied();
        top.unwrap_or_else(|| self.of(path))
    }

    /// The volume that something new at `path` is in: that of the folder that will hold it.
    pub fn of(&self, path: &TreePath) -> usize {
        let mut folder = path.folder();
        loop {
            if let Some(number) = self.of.get(folder) {
                return *number;
            }
            match folder.iter().rposition(|byte| *byte == b'/') {
                Some(at) => folder = &folder[..at],
                None if folder.is_empty() => return 0,
                None => folder = &[],
            }
        }
    }
}
