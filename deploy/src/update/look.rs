//! What is on the machine, compared with what the trees have: by all cores, each a stretch of the tree.

use super::rows::Row;
use super::side::Side;
use crate::wishes::Check;
use anyhow::{Context, anyhow};
use pitstop_trees::Aspect;
use pitstop_trees::entry::{Attributes, Entry, Hash, Kind, Time, Xattrs};
use pitstop_trees::inode::COMPRESSION;
use pitstop_trees::machine::{Looker, Machine, Node};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A label that an image does not have is of the machine's own policy.
const LABEL: &[u8] = b"security.selinux";

/// The two trees and the machine.
pub struct Three<'a> {
    pub old: Option<&'a Side<'a>>,
    pub new: &'a Side<'a>,
    pub machine: &'a Machine,
    pub nodes: &'a [Node],
    /// Further names of the nodes that have some.
    pub names: HashMap<usize, Vec<usize>>,
    pub check: Check,
}

/// Further names of files, by the node that is the first one.
pub fn names(nodes: &[Node]) -> HashMap<usize, Vec<usize>> {
    let mut names: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        if let Some(first) = node.link {
            names.entry(first).or_default().push(number);
        }
    }
    names
}

impl Three<'_> {
    /// Fills in what of the rows differs from the trees.
    pub fn look(&self, rows: &mut [Row]) -> anyhow::Result<()> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let share = rows.len().div_ceil(threads).max(1);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let all: Vec<_> = rows
                .chunks_mut(share)
                .map(|rows| {
                    scope.spawn(|| {
                        let done = self.some(rows, &stop);
                        if done.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        done
                    })
                })
                .collect();
            let died = |_| Err(anyhow!("a thread that looks at files died"));
            // Of several errors the first one in the tree is told.
            all.into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(died))
        })
    }

    fn some(&self, rows: &mut [Row], stop: &AtomicBool) -> anyhow::Result<()> {
        let mut looker = Looker::new(self.machine);
        for row in rows {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.one(row, &mut looker)
                .with_context(|| format!("looking at {}", self.machine.shown(row.path)))?;
        }
        Ok(())
    }

    fn one(&self, row: &mut Row, looker: &mut Looker) -> anyhow::Result<()> {
        let Some(here) = row.here else {
            return Ok(());
        };
        let node = &self.nodes[here];
        if row.own || (row.old.is_none() && row.new.is_none()) {
            return Ok(());
        }
        let old = row.old.and_then(|it| Some((self.old?, it)));
        let sides = [old, row.new.map(|it| (self.new, it))];
        let flags =
            |(side, number): &(&Side, usize)| !side.resolved(*number).attributes.flags.is_empty();
        let sure = self.check == Check::Full || sides.iter().flatten().any(flags);
        let Some(attributes) = looker.attributes(node, sure)? else {
            row.here = None;
            return Ok(());
        };
        let mut seen = Seen {
            three: self,
            node,
            attributes,
            by_time: self.check == Check::Quick && !are_twins(&sides),
            held: Vec::new(),
        };
        let [old, new] = sides;
        let splits = self.is_split(here, old, new);
        row.vs_new = match new {
            Some((side, number)) => seen.against(side, number, looker)?,
            None => Vec::new(),
        };
        row.vs_old = match (old, new) {
            // What does not differ between the trees is looked at once.
            (Some(_), Some(_)) if row.changed.is_empty() => row.vs_new.clone(),
            (Some((side, number)), _) => seen.against(side, number, looker)?,
            (None, _) => Vec::new(),
        };
        if splits && !row.vs_new.contains(&Aspect::Target) {
            row.vs_new.push(Aspect::Target);
        }
        Ok(())
    }

    /// Whether the machine has two names of one file, as the last tree had, and they are two files in the new one. The first of
    /// the names that are still there stays what it is, and the others part from it.
    fn is_split(
        &self,
        here: usize,
        old: Option<(&Side, usize)>,
        new: Option<(&Side, usize)>,
    ) -> bool {
        let (Some((old, was)), Some((new, is))) = (old, new) else {
            return false;
        };
        let first = self.nodes[here].link.unwrap_or(here);
        let Some(others) = self.names.get(&first) else {
            return false;
        };
        let joined = [&first].into_iter().chain(others).find_map(|name| {
            let path = &self.nodes[*name].path;
            let joined = new.joins(is, path)?;
            (old.joins(was, path) == Some(true)).then_some(joined)
        });
        joined == Some(false)
    }

    /// Whether the file at a node has names that are none of the entry `new` in the new tree: what is set on it is set on them.
    pub fn is_shared(&self, here: usize, new: usize) -> bool {
        let node = &self.nodes[here];
        if node.kind == FileType::Directory || node.stat.stx_nlink < 2 {
            return false;
        }
        let first = node.link.unwrap_or(here);
        let others = self.names.get(&first).into_iter().flatten();
        let own = others.chain([&first]).filter(|other| {
            let path = &self.nodes[**other].path;
            self.new.joins(new, path) == Some(true)
        });
        own.count() as u64 != u64::from(node.stat.stx_nlink)
    }

    fn node(&self, path: &pitstop_trees::path::TreePath) -> Option<&Node> {
        let found = self.nodes.binary_search_by(|node| node.path.cmp(path));
        found.ok().map(|at| &self.nodes[at])
    }
}

/// What is known of a path on the machine.
struct Seen<'a> {
    three: &'a Three<'a>,
    node: &'a Node,
    attributes: Attributes,
    /// Whether size and time tell what is in a file.
    by_time: bool,
    /// Contents that were compared already, and whether the file has them.
    held: Vec<(Hash, u64, bool)>,
}

impl Seen<'_> {
    fn against(
        &mut self,
        side: &Side,
        number: usize,
        looker: &mut Looker,
    ) -> anyhow::Result<Vec<Aspect>> {
        let entry = side.resolved(number);
        if !is_of_kind(self.node.kind, &entry.kind) {
            return Ok(vec![Aspect::Kind]);
        }
        let mut aspects = Vec::new();
        let is_fat = self.three.machine.is_fat(self.node.mount);
        match &entry.kind {
            Kind::File { .. } if !self.has_content(entry, is_fat, looker)? => {
                aspects.push(Aspect::Content);
            }
            Kind::Symlink(target) if looker.target(self.node)?.as_ref() != Some(target) => {
                aspects.push(Aspect::Target);
            }
            Kind::Character { major, minor } | Kind::Block { major, minor } => {
                let stat = &self.node.stat;
                if (stat.stx_rdev_major, stat.stx_rdev_minor) != (*major, *minor) {
                    aspects.push(Aspect::Target);
                }
            }
            _ => {}
        }
        if self.is_unlinked(side, number) && !aspects.contains(&Aspect::Target) {
            aspects.push(Aspect::Target);
        }
        if !is_fat {
            self.attributes(entry, &mut aspects);
        }
        Ok(aspects)
    }

    fn attributes(&self, entry: &Entry, aspects: &mut Vec<Aspect>) {
        let (here, there) = (&self.attributes, &entry.attributes);
        let is_symlink = matches!(entry.kind, Kind::Symlink(_));
        let differs = [
            (!is_symlink && here.mode != there.mode, Aspect::Mode),
            (
                (here.uid, here.gid) != (there.uid, there.gid),
                Aspect::Owner,
            ),
            (here.mtime != there.mtime, Aspect::Time),
            (!same_xattrs(&here.xattrs, &there.xattrs), Aspect::Xattrs),
            // How data is stored is advice that not every filesystem takes.
            (
                here.flags.by_weight().0 != there.flags.by_weight().0,
                Aspect::Flags,
            ),
        ];
        let found = differs.into_iter().filter(|(differs, _)| *differs);
        aspects.extend(found.map(|(_, aspect)| aspect));
    }

    /// Whether the file holds what the entry says: by size and time, and by its hash where that is not enough.
    fn has_content(
        &mut self,
        entry: &Entry,
        is_fat: bool,
        looker: &mut Looker,
    ) -> anyhow::Result<bool> {
        let Kind::File { size, hash, .. } = &entry.kind else {
            return Ok(true);
        };
        if self.node.stat.stx_size != *size {
            return Ok(false);
        }
        if self.by_time && !is_fat && self.attributes.mtime == entry.attributes.mtime {
            return Ok(true);
        }
        let known = self
            .held
            .iter()
            .find(|(it, of, _)| it == hash && of == size);
        if let Some((.., holds)) = known {
            return Ok(*holds);
        }
        let holds = looker.holds(self.node, &entry.kind)?;
        self.held.push((*hash, *size, holds));
        Ok(holds)
    }

    /// Whether it is another name of a file in the tree, and not on the machine.
    fn is_unlinked(&self, side: &Side, number: usize) -> bool {
        let Kind::HardLink(target) = &side.entry(number).kind else {
            return false;
        };
        let inode = |node: &Node| {
            let stat = &node.stat;
            (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
        };
        let other = self.three.node(target);
        other.is_some_and(|other| inode(other) != inode(self.node))
    }
}

/// Whether both trees have a file of one size and time, and not the same in it: programs that are built to be alike have such.
fn are_twins(sides: &[Option<(&Side, usize)>; 2]) -> bool {
    let [Some((old, was)), Some((new, is))] = sides else {
        return false;
    };
    let (was, is) = (old.resolved(*was), new.resolved(*is));
    let (Kind::File { size: one, .. }, Kind::File { size: other, .. }) = (&was.kind, &is.kind)
    else {
        return false;
    };
    one == other && was.attributes.mtime == is.attributes.mtime && was.kind != is.kind
}

fn is_of_kind(found: FileType, kind: &Kind) -> bool {
    let wanted = match kind {
        Kind::Folder => FileType::Directory,
        Kind::File { .. } | Kind::HardLink(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Character { .. } => FileType::CharacterDevice,
        Kind::Block { .. } => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
    };
    found == wanted
}

fn same_xattrs(here: &Xattrs, there: &Xattrs) -> bool {
    let has_label = there.pairs().iter().any(|(key, _)| key == LABEL);
    // Not every filesystem takes this advice.
    let counts = |key: &[u8]| key != COMPRESSION && (has_label || key != LABEL);
    let [here, there] = [here, there].map(|it| it.pairs().iter().filter(|(key, _)| counts(key)));
    here.eq(there)
}

/// When what is at a path was changed last.
pub fn time(node: &Node) -> Time {
    Time {
        seconds: node.stat.stx_mtime.tv_sec,
        nanos: node.stat.stx_mtime.tv_nsec,
    }
}
