//! Whether what has to be of one moment is as it was listed, once all of it was read.

use super::walk::{Node, Tree};
use crate::path::TreePath;
use rustix::fs::FileType;
use std::cmp::Ordering;

/// What has to be of one moment: programs and their settings, kernels and their modules.
const PLACES: [&[u8]; 3] = [b"etc", b"usr", b"boot"];

/// Whether `path` is of it.
pub fn matters(path: &TreePath) -> bool {
    PLACES.iter().any(|place| path.is_within(place))
}

/// What came, went or changed there from one walk to a later one.
pub fn changes(before: &Tree, after: &Tree) -> Vec<(TreePath, String)> {
    let mut changes = Vec::new();
    let of = |tree: &'_ Tree| -> Vec<usize> {
        let nodes = tree.nodes.iter().enumerate();
        let wanted = nodes.filter(|(_, node)| matters(&node.path));
        wanted.map(|(number, _)| number).collect()
    };
    let (old, new) = (of(before), of(after));
    let (mut o, mut n) = (0, 0);
    loop {
        let was = old.get(o).map(|number| &before.nodes[*number]);
        let is = new.get(n).map(|number| &after.nodes[*number]);
        let order = match (was, is) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.path.cmp(&is.path),
        };
        let how = match (order, was, is) {
            (Ordering::Equal, Some(was), Some(is)) if !is_same(was, is) => {
                Some((is, "it changed after the tree was listed"))
            }
            (Ordering::Less, Some(was), _) => Some((was, "it went while the tree was read")),
            (Ordering::Greater, _, Some(is)) => Some((is, "it came while the tree was read")),
            _ => None,
        };
        changes.extend(how.map(|(node, how)| (node.path.clone(), how.to_owned())));
        o += usize::from(order.is_le());
        n += usize::from(order.is_ge());
    }
}

/// What is in a folder has paths of its own; nothing of what is emptied, or lies beneath a mount, is in an image.
fn is_same(was: &Node, is: &Node) -> bool {
    let attributes = |node: &Node| {
        let stat = &node.stat;
        // Not the inode's number: FAT gives another one each time that it is read.
        (stat.stx_mode, stat.stx_uid, stat.stx_gid)
    };
    if was.emptied || was.other_mount {
        return was.kind == is.kind;
    }
    if was.kind == FileType::Directory {
        return attributes(was) == attributes(is);
    }
    was.kind == is.kind && was.stamp() == is.stamp()
}
