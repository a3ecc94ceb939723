//! What is decided, as work: what is staged, and the steps that follow.

use super::grub::{self, Started};
use super::journal::{Guard, Journal, Step, bare_kind};
use super::look::{Three, time};
use super::record;
use super::rows::Row;
use super::table::Act;
use super::volumes::Volumes;
use anyhow::bail;
use pitstop_trees::entry::{Attributes, Kind};
use pitstop_trees::flags::Flags;
use pitstop_trees::machine::Node;
use pitstop_trees::path::TreePath;
use pitstop_trees::{Aspect, Held, RECORD, Spot};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// `STATX_ATTR_IMMUTABLE` and `STATX_ATTR_APPEND` (linux/stat.h), which are the flags of the same names.
const HARD: u32 = 0x30;
/// A folder that is made.
#[derive(Debug)]
pub struct NewFolder {
    pub volume: usize,
    pub name: String,
    pub attributes: Attributes,
}

/// A further name of something staged.
#[derive(Debug)]
pub struct NewLink {
    pub volume: usize,
    pub from: String,
    pub to: String,
}

#[derive(Debug, Default)]
pub struct Work {
    /// Entries of the image, each with its place among the staged ones.
    pub spots: BTreeMap<usize, Spot>,
    /// Of those, what the machine's files have already: they are as in the last tree.
    pub held: Held,
    /// These files, by the same numbers.
    pub files: BTreeMap<usize, TreePath>,
    pub folders: Vec<NewFolder>,
    pub links: Vec<NewLink>,
    /// The volume that the record is in.
    pub record: usize,
    pub journal: Journal,
    /// Folders of GRUB whose core changes, on disks that another one starts.
    pub other_grub: Vec<TreePath>,
}

impl Work {
    /// Keeps of the volumes those in which something is done, and the root: all of them have to be there when the update is
    /// finished after a power cut, and are flushed before it is done.
    fn number(&mut self, volumes: &Volumes) {
        let tops = &volumes.tops;
        let steps = self.journal.steps.iter();
        let changed = steps.map(|step| volumes.holding(step.path()));
        let staged = self.journal.steps.iter().filter_map(Step::volume);
        let used: BTreeSet<usize> = staged.chain(changed).chain([0]).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let renumber = |volume: &mut usize| {
            *volume = used.binary_search(volume).unwrap_or_default();
        };
        self.journal
            .steps
            .iter_mut()
            .filter_map(Step::volume_mut)
            .for_each(renumber);
        self.spots
            .values_mut()
            .map(|spot| &mut spot.folder)
            .for_each(renumber);
        self.folders
            .iter_mut()
            .map(|it| &mut it.volume)
            .for_each(renumber);
        self.links
            .iter_mut()
            .map(|it| &mut it.volume)
            .for_each(renumber);
        renumber(&mut self.record);
        let tops = used.iter().filter_map(|volume| tops.get(*volume));
        self.journal.volumes = tops.cloned().collect();
    }
}

/// Makes work of rows.
pub struct Maker<'a> {
    rows: &'a [Row<'a>],
    three: &'a Three<'a>,
    volumes: &'a Volumes,
    /// Names under which files with several names are staged, by their entries.
    staged: HashMap<usize, (usize, String)>,
    work: Work,
}

impl<'a> Maker<'a> {
    pub fn new(rows: &'a [Row<'a>], three: &'a Three<'a>, volumes: &'a Volumes) -> Self {
        Self {
            rows,
            three,
            volumes,
            staged: HashMap::new(),
            work: Work::default(),
        }
    }

    /// # Errors
    /// When names of one file would be on two filesystems.
    pub fn make(mut self) -> anyhow::Result<Work> {
        let touched = self.touched();
        self.soften(&touched);
        self.place()?;
        // Setting the time of one name of a file would hide that another, which goes, is still the same.
        self.delete();
        self.set();
        self.times(&touched);
        self.flags(&touched);
        for folder in grub::renewed(self.rows) {
            match grub::started(self.three.machine, folder) {
                Started::Own => self.step(Step::Grub(folder.clone())),
                Started::Other => self.work.other_grub.push(folder.clone()),
                Started::Nothing => {}
            }
        }
        self.record()?;
        self.work.number(self.volumes);
        Ok(self.work)
    }

    fn step(&mut self, step: Step) {
        self.work.journal.steps.push(step);
    }

    fn node(&self, row: &Row) -> Option<&'a Node> {
        row.here.map(|here| &self.three.nodes[here])
    }

    fn is_folder(&self, row: &Row) -> bool {
        let node = self.node(row);
        node.is_some_and(|node| node.kind == FileType::Directory)
    }

    fn hard(&self, row: &Row) -> u32 {
        let may = |node: &&Node| matches!(node.kind, FileType::RegularFile | FileType::Directory);
        let node = self.node(row).filter(may);
        node.map_or(0, |node| {
            u32::try_from(node.stat.stx_attributes.bits() & u64::from(HARD)).unwrap_or(0)
        })
    }

    /// Folders in which something comes or goes.
    fn touched(&self) -> HashSet<&'a [u8]> {
        let moved = |row: &&Row| matches!(row.act, Act::Place | Act::Delete);
        let rows = self.rows.iter().filter(moved);
        rows.map(|row| row.path.folder()).collect()
    }

    fn soften(&mut self, touched: &HashSet<&[u8]>) {
        for row in self.rows {
            let changes = matches!(row.act, Act::Place | Act::Set | Act::Delete);
            let entered = self.is_folder(row) && touched.contains(row.path.as_bytes());
            if (changes || entered) && self.hard(row) != 0 {
                self.step(Step::Soften(row.path.clone()));
            }
        }
    }

    fn place(&mut self) -> anyhow::Result<()> {
        for (number, row) in self.rows.iter().enumerate() {
            let (Act::Place, Some(new)) = (row.act, row.new) else {
                continue;
            };
            let folder_comes = self.three.new.resolved(new).kind == Kind::Folder;
            if self.is_folder(row) {
                self.clear(number);
            } else if let Some(node) = self.node(row).filter(|_| folder_comes) {
                self.step(Step::Remove(row.path.clone(), guard(node)));
            }
            let stays = self
                .node(row)
                .filter(|_| !folder_comes && !self.is_folder(row));
            let before = stays.map(guard);
            let volume = self.volumes.of(row.path);
            let name = format!("n{number}");
            self.stage(row, new, volume, &name)?;
            self.step(Step::Place {
                volume,
                name,
                path: row.path.clone(),
                before,
            });
        }
        Ok(())
    }

    fn stage(&mut self, row: &Row, new: usize, volume: usize, name: &str) -> anyhow::Result<()> {
        let first = self.three.new.first(new);
        let entry = self.three.new.entry(first);
        if entry.kind == Kind::Folder {
            self.work.folders.push(NewFolder {
                volume,
                name: name.to_owned(),
                attributes: entry.attributes.clone(),
            });
            return Ok(());
        }
        if let Some((on, from)) = self.staged.get(&first) {
            if *on != volume {
                bail!(
                    "{} and {} are one file in the tree, and on two filesystems of this machine",
                    row.path,
                    entry.path
                );
            }
            self.work.links.push(NewLink {
                volume,
                from: from.clone(),
                to: name.to_owned(),
            });
            return Ok(());
        }
        self.staged.insert(first, (volume, name.to_owned()));
        let spot = Spot {
            folder: volume,
            name: name.as_bytes().to_vec(),
        };
        self.work.spots.insert(first, spot);
        self.hold(row, first);
        Ok(())
    }

    /// Notes what of a new file the machine has in the one that it replaces.
    fn hold(&mut self, row: &Row, new: usize) {
        let node = self.node(row);
        let is_file = node.is_some_and(|node| node.kind == FileType::RegularFile);
        let changed = [Aspect::Kind, Aspect::Content];
        let is_as_old = !row.vs_old.iter().any(|aspect| changed.contains(aspect));
        if let (Some(old), Some(was)) = (self.three.old, row.old)
            && is_file
            && is_as_old
        {
            let held = &mut self.work.held;
            held.note(old.index, old.first(was), self.three.new.index, new);
            self.work.files.insert(new, row.path.clone());
        }
    }

    /// Empties and removes a folder that becomes something else: all in it goes.
    fn clear(&mut self, number: usize) {
        let path = self.rows[number].path;
        let within = self.rows[number..].iter();
        let within: Vec<&Row> = within
            .take_while(|row| row.path.is_within(path.as_bytes()))
            .filter(|row| row.here.is_some())
            .collect();
        for row in within.into_iter().rev() {
            self.remove(row);
        }
    }

    fn remove(&mut self, row: &Row) {
        let Some(node) = self.node(row) else {
            return;
        };
        self.step(if node.kind == FileType::Directory {
            Step::RemoveFolder(row.path.clone())
        } else {
            Step::Remove(row.path.clone(), guard(node))
        });
    }

    fn set(&mut self) {
        for row in self.rows {
            if let (Act::Set, Some(new)) = (row.act, row.new) {
                let entry = self.three.new.resolved(new);
                self.step(Step::Set(
                    row.path.clone(),
                    bare_kind(&entry.kind),
                    Attributes {
                        flags: Flags::default(),
                        ..entry.attributes.clone()
                    },
                ));
            }
        }
    }

    fn delete(&mut self) {
        // What became something else is empty by now: removing it again does nothing.
        for row in self.rows.iter().rev() {
            if row.act == Act::Delete && !self.is_cleared(row.path) {
                self.remove(row);
            }
        }
    }

    /// Whether it is in a folder that became something else.
    fn is_cleared(&self, path: &TreePath) -> bool {
        let mut folder = path.folder();
        while !folder.is_empty() {
            let at = self
                .rows
                .binary_search_by(|row| pitstop_trees::path::order(row.path.as_bytes(), folder));
            if at.is_ok_and(|at| self.rows[at].act == Act::Place) {
                return true;
            }
            let slash = folder.iter().rposition(|byte| *byte == b'/');
            folder = slash.map_or(&[][..], |slash| &folder[..slash]);
        }
        false
    }

    /// The times of folders, the innermost first. One that only the update changed is as in the tree again.
    fn times(&mut self, touched: &HashSet<&[u8]>) {
        for row in self.rows.iter().rev() {
            let Some(new) = row.new else {
                continue;
            };
            let entry = self.three.new.resolved(new);
            if entry.kind != Kind::Folder {
                continue;
            }
            let old = row.old.and_then(|old| Some((self.three.old?, old)));
            let as_last = |node| {
                let time = time(node);
                let was = old.map(|(side, old)| side.resolved(old).attributes.mtime);
                time == entry.attributes.mtime || Some(time) == was
            };
            let wanted = match row.act {
                Act::Place | Act::Set => true,
                _ => touched.contains(row.path.as_bytes()) && self.node(row).is_some_and(as_last),
            };
            if wanted {
                self.step(Step::Time(row.path.clone(), entry.attributes.mtime));
            }
        }
    }

    fn flags(&mut self, touched: &HashSet<&[u8]>) {
        for row in self.rows.iter().rev() {
            let had = self.hard(row);
            let flags = match (row.act, row.new) {
                (Act::Place | Act::Set, Some(new)) => {
                    let flags = self.three.new.resolved(new).attributes.flags;
                    Some(flags).filter(|flags| !flags.is_empty() || had != 0)
                }
                (Act::Delete, _) => None,
                // It was softened for what is in it.
                _ => (had != 0 && touched.contains(row.path.as_bytes()))
                    .then(|| Flags::from_kernel(had)),
            };
            if let Some(flags) = flags {
                self.step(Step::Flags(row.path.clone(), flags));
            }
        }
    }

    /// The record of what is on the machine comes last.
    fn record(&mut self) -> anyhow::Result<()> {
        let folder = TreePath::parse(RECORD.as_bytes())?;
        let volume = self.volumes.of(&folder.join(b"index")?);
        self.work.record = volume;
        for (name, file) in record::FILES {
            self.step(Step::Replace {
                volume,
                name: name.to_owned(),
                path: folder.join(file.as_bytes())?,
            });
        }
        Ok(())
    }
}

fn guard(node: &Node) -> Guard {
    Guard {
        inode: node.stat.stx_ino,
        size: node.stat.stx_size,
        time: time(node),
    }
}
