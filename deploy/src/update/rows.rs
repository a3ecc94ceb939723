//! Every path that a tree or the machine has, and what becomes of it.

use super::local::Local;
use super::look::{Three, time};
use super::side::{Side, between};
use super::table::{Act, Here, InTrees, Why, Wishes, decide};
use pitstop_trees::Aspect;
use pitstop_trees::entry::Kind;
use pitstop_trees::machine::Node;
use pitstop_trees::path::TreePath;
use rustix::fs::FileType;
use std::collections::{HashMap, HashSet};

/// A path. Numbers are those of entries of the trees, and of nodes of the machine.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    pub path: &'a TreePath,
    pub old: Option<usize>,
    pub new: Option<usize>,
    pub here: Option<usize>,
    /// What differs between the trees, and between the machine and each of them.
    pub changed: Vec<Aspect>,
    pub vs_old: Vec<Aspect>,
    pub vs_new: Vec<Aspect>,
    /// The machine's own: nothing is done to it.
    pub own: bool,
    pub act: Act,
    pub why: Why,
}

/// Brings the three together, in the order of the tree.
pub fn merge<'a>(old: Option<&Side<'a>>, new: &Side<'a>, nodes: &'a [Node]) -> Vec<Row<'a>> {
    let old_count = old.map_or(0, |old| old.index.placed().len());
    let new_count = new.index.placed().len();
    let (mut o, mut n, mut h) = (0, 0, 0);
    let mut rows = Vec::with_capacity(new_count.max(nodes.len()));
    loop {
        let was = old.filter(|_| o < old_count).map(|old| &old.entry(o).path);
        let is = (n < new_count).then(|| &new.entry(n).path);
        let here = nodes.get(h).map(|node| &node.path);
        let Some(path) = [was, is, here].into_iter().flatten().min() else {
            return rows;
        };
        let take = |at: Option<&TreePath>, number: &mut usize| {
            (at == Some(path)).then(|| {
                *number += 1;
                *number - 1
            })
        };
        let (was, is, here) = (take(was, &mut o), take(is, &mut n), take(here, &mut h));
        rows.push(Row {
            path,
            old: was,
            new: is,
            here,
            changed: match (old, was, is) {
                (Some(old), Some(was), Some(is)) => between(old, was, new, is),
                _ => Vec::new(),
            },
            vs_old: Vec::new(),
            vs_new: Vec::new(),
            own: false,
            act: Act::Nothing,
            why: Why::Same,
        });
    }
}

/// Marks what is the machine's own, and all that is in it.
pub fn mark_own(rows: &mut [Row], nodes: &[Node], local: &Local) {
    let mut own: Option<&TreePath> = None;
    for row in rows {
        if own.is_some_and(|own| row.path.is_within(own.as_bytes())) {
            row.own = true;
            continue;
        }
        // What every machine has of its own it may yet get from the tree, once.
        let there = row.here.is_some() || row.old.is_some();
        let hidden = row.here.is_some_and(|here| nodes[here].other_mount);
        row.own = hidden || local.wished(row.path) || (there && local.known(row.path));
        if row.own {
            own = Some(row.path);
        }
    }
}

/// Decides for each path by the table, then what follows from paths above, below and beside it.
pub fn judge(rows: &mut [Row], three: &Three, wishes: Wishes, local: &Local) {
    for row in rows.iter_mut() {
        (row.act, row.why) = by_table(row, three, wishes);
        if row.act == Act::Delete && local.is_running(row.path) {
            (row.act, row.why) = (Act::Keep, Why::Running);
        }
    }
    keep_kernels(rows);
    block(rows, three);
    settle(rows, three);
    need(rows, three);
    join(rows, three);
    settle_attributes(rows, three);
}

/// What admins edit, and what the machine's own programs write for it: how old it is tells nothing.
fn is_settings(path: &TreePath) -> bool {
    path.is_within(b"etc") || is_boot_configuration(path)
}

/// What boot loaders read: which kernels there are, and on what disk the root is.
fn is_boot_configuration(path: &TreePath) -> bool {
    let name = path.name();
    let is_text = [&b".cfg"[..], b".conf"]
        .iter()
        .any(|end| name.ends_with(end));
    BOOT.iter().any(|place| path.is_within(place)) && (is_text || name == b"grubenv")
}

/// Where kernels and boot loaders are, and the modules of kernels.
const BOOT: [&[u8]; 2] = [b"boot", b"efi"];
const MODULES: [&[u8]; 2] = [b"lib/modules", b"usr/lib/modules"];

/// Keeps kernels that go where the machine's own boot configuration stays: it may have no others in it.
fn keep_kernels(rows: &mut [Row]) {
    let stays = |row: &Row| {
        let differs = (row.act == Act::Keep || row.own) && row.here.is_some() && row.new.is_some();
        differs && is_boot_configuration(row.path) && row.path.name() != b"grubenv"
    };
    if !rows.iter().any(stays) {
        return;
    }
    let may_boot = |path: &TreePath| {
        BOOT.iter()
            .chain(&MODULES)
            .any(|place| path.is_within(place))
    };
    for row in rows {
        if row.act == Act::Delete && row.old.is_some() && may_boot(row.path) {
            (row.act, row.why) = (Act::Keep, Why::BootStays);
        }
    }
}

fn by_table(row: &Row, three: &Three, wishes: Wishes) -> (Act, Why) {
    if row.own {
        return match row.new {
            Some(_) if !row.vs_new.is_empty() || row.here.is_none() || !row.changed.is_empty() => {
                (Act::Keep, Why::MachinesOwn)
            }
            _ => (Act::Nothing, Why::MachinesOwn),
        };
    }
    let trees = match (row.old, row.new) {
        (Some(_), Some(_)) if row.changed.is_empty() => InTrees::Same,
        (Some(_), Some(_)) => InTrees::Changed,
        (None, Some(_)) => InTrees::Added,
        (Some(_), None) => InTrees::Gone,
        (None, None) => InTrees::Unknown,
    };
    let node = row.here.map(|here| &three.nodes[here]);
    let is_folder = node.is_some_and(|node| node.kind == FileType::Directory);
    let here = here(row, trees, is_folder);
    let older = match (three.old, node, row.new) {
        (None, Some(node), Some(new)) => {
            let there = three.new.resolved(new).attributes.mtime;
            Some(!is_folder && !is_settings(row.path) && time(node) < there)
        }
        _ => None,
    };
    decide(trees, here, older, wishes)
}

fn here(row: &Row, trees: InTrees, is_folder: bool) -> Here {
    // A folder's time is that of the last change in it, by whomever. A file whose time alone differs was proven by its hash.
    let same = |aspects: &[Aspect]| aspects.iter().all(|aspect| *aspect == Aspect::Time);
    if row.here.is_none() {
        return Here::Absent;
    }
    let exactly = row.vs_new.is_empty() || (is_folder && same(&row.vs_new));
    let timely = trees == InTrees::Changed && !row.vs_new.is_empty();
    if row.new.is_some() && exactly && !timely {
        Here::AsNew
    } else if row.old.is_some() && same(&row.vs_old) {
        Here::AsOld
    } else if row.new.is_some() && same(&row.vs_new) {
        // Only its time has to be set.
        if trees == InTrees::Added {
            Here::AsOld
        } else {
            Here::AsNew
        }
    } else {
        Here::Edited
    }
}

/// Keeps out what has no folder to go to.
fn block(rows: &mut [Row], three: &Three) {
    let mut blocked: Option<&TreePath> = None;
    for row in rows {
        if blocked.is_some_and(|above| row.path.is_within(above.as_bytes())) {
            if matches!(row.act, Act::Place | Act::Refuse) && row.new.is_some() {
                (row.act, row.why) = (Act::Keep, Why::Below);
            }
            continue;
        }
        let stays = !matches!(row.act, Act::Place | Act::Delete);
        blocked = (stays && is_folder_in_tree(row, three) && is_file_here(row, three))
            .then_some(row.path);
    }
}

fn is_folder_in_tree(row: &Row, three: &Three) -> bool {
    let new = row.new.map(|new| &three.new.resolved(new).kind);
    matches!(new, Some(Kind::Folder))
}

fn is_folder_here(row: &Row, three: &Three) -> bool {
    let node = row.here.map(|here| &three.nodes[here]);
    node.is_some_and(|node| node.kind == FileType::Directory)
}

fn is_file_here(row: &Row, three: &Three) -> bool {
    row.here.is_some() && !is_folder_here(row, three)
}

/// Keeps folders that would go while something in them stays. One that is no folder in the tree any more, and would stay without what
/// the tree had in it, is refused: of a `/bin` that becomes a symlink nothing but a stranger would be left.
fn settle(rows: &mut [Row], three: &Three) {
    // Folders in which something stays, in which anything is deleted, and in which modules stay for the kernel that runs.
    let mut stays: HashSet<&[u8]> = HashSet::new();
    let mut loses: HashSet<&[u8]> = HashSet::new();
    let mut runs: HashSet<&[u8]> = HashSet::new();
    for row in rows.iter_mut().rev() {
        let path = row.path.as_bytes();
        let is_folder = is_folder_here(row, three);
        let becomes = is_folder && !row.own && row.new.is_some() && !is_folder_in_tree(row, three);
        let goes = is_folder && row.act == Act::Delete;
        if goes || (becomes && row.act == Act::Place) {
            if three.machine.is_point(row.path) {
                (row.act, row.why) = (Act::Keep, Why::MountPoint);
            } else if stays.contains(path) && goes {
                (row.act, row.why) = (Act::Keep, Why::HoldsOthers);
            } else if stays.contains(path) {
                (row.act, row.why) = (Act::Refuse, Why::FolderInTheWay);
            }
        }
        if becomes && row.act == Act::Keep && loses.contains(path) {
            row.act = Act::Refuse;
            if row.why != Why::MountPoint {
                row.why = Why::FolderInTheWay;
            }
        }
        if row.why == Why::FolderInTheWay && runs.contains(path) {
            row.why = Why::RunningInTheWay;
        }
        if row.path.is_root() {
            continue;
        }
        let there = row.here.is_some() && row.act != Act::Delete;
        if there || row.act == Act::Place {
            stays.insert(row.path.folder());
        }
        if row.act == Act::Delete || loses.contains(path) {
            loses.insert(row.path.folder());
        }
        if row.why == Why::Running || runs.contains(path) {
            runs.insert(row.path.folder());
        }
    }
}

/// Makes folders that were removed on the machine, where something goes into them.
fn need(rows: &mut [Row], three: &Three) {
    let mut needed: HashSet<&[u8]> = HashSet::new();
    for row in rows.iter_mut().rev() {
        let absent = row.here.is_none() && matches!(row.act, Act::Keep | Act::Nothing);
        if absent
            && !row.own
            && is_folder_in_tree(row, three)
            && needed.contains(row.path.as_bytes())
        {
            (row.act, row.why) = (Act::Place, Why::Needed);
        }
        if row.act == Act::Place {
            needed.insert(row.path.folder());
        }
    }
}

/// All names of a file that is replaced become names of the new one.
fn join(rows: &mut [Row], three: &Three) {
    let mut names: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, row) in rows.iter().enumerate() {
        let linked = row.new.filter(|new| three.new.is_linked(*new));
        if let Some(new) = linked {
            names.entry(three.new.first(new)).or_default().push(number);
        }
    }
    for names in names.values() {
        let place = |number: &usize| {
            let row = &rows[*number];
            row.act == Act::Place && !is_set(row, three)
        };
        if !names.iter().any(place) {
            continue;
        }
        for number in names {
            let row = &mut rows[*number];
            match row.act {
                Act::Nothing if !row.own => (row.act, row.why) = (Act::Place, Why::Linked),
                Act::Place => row.vs_new = vec![Aspect::Target],
                _ => {}
            }
        }
    }
}

/// Whether what is there becomes the tree's by its attributes alone, and nothing else with it.
fn is_set(row: &Row, three: &Three) -> bool {
    let data = [Aspect::Kind, Aspect::Content, Aspect::Target];
    let (Some(here), Some(new)) = (row.here, row.new) else {
        return false;
    };
    !three.is_shared(here, new)
        && !row.vs_new.is_empty()
        && !row.vs_new.iter().any(|aspect| data.contains(aspect))
}

fn settle_attributes(rows: &mut [Row], three: &Three) {
    for row in rows {
        let both = is_folder_here(row, three) && is_folder_in_tree(row, three);
        if row.act == Act::Place && row.why != Why::Linked && (both || is_set(row, three)) {
            row.act = Act::Set;
        }
    }
}
