//! What is in a tree: every path with what `statx` tells, sorted. Files are not opened yet.

use super::exclude::Excludes;
use super::identity::{Identity, Verdict, is_ours};
use super::mounts::Mount;
use crate::inode::{Stamp, stamp};
use crate::path::{TreePath, shown};
use anyhow::Context;
use pitstop_imaging::image::members::lock;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Folders are read by so many threads: on a cold disk they wait.
const THREADS: usize = 8;
/// `STATX_ATTR_MOUNT_ROOT` (linux/stat.h): the root of another mount.
const MOUNT_ROOT: u64 = 0x2000;

/// A path that was found.
#[derive(Debug, Clone)]
pub struct Node {
    pub path: TreePath,
    /// Which filesystem it is read from.
    pub mount: usize,
    pub kind: FileType,
    pub stat: Statx,
    /// Its contents are not kept.
    pub emptied: bool,
    /// Another name of the node with this number.
    pub link: Option<usize>,
    /// Something else is mounted there, and hides what is below.
    pub other_mount: bool,
}

impl Node {
    pub fn stamp(&self) -> Stamp {
        stamp(&self.stat)
    }
}

/// All that was found, in the order of the tree.
pub struct Tree {
    pub nodes: Vec<Node>,
    /// Further names of a node that has some.
    pub names: HashMap<usize, Vec<usize>>,
    /// What is not read, and why.
    pub left_out: Vec<(TreePath, String)>,
    /// What was gone before it could be looked at.
    pub gone: Vec<TreePath>,
    pub identity: Vec<TreePath>,
}

/// Which folders a walk goes into.
pub type Enter<'a> = &'a (dyn Fn(&TreePath) -> bool + Sync);

/// What a walk leaves out.
pub struct Wanted<'a> {
    pub excludes: &'a Excludes,
    /// `None`: everything is kept.
    pub identity: Option<&'a Identity>,
    /// Files of the image itself.
    pub skipped: &'a [TreePath],
    /// Folders that are listed themselves, and their contents where this says so.
    pub enter: Enter<'a>,
    /// Whether sockets are listed: an image has none.
    pub sockets: bool,
}

struct Walk<'a> {
    mounts: &'a [&'a Mount],
    wanted: &'a Wanted<'a>,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    folders: Vec<(TreePath, usize)>,
    busy: usize,
    error: Option<anyhow::Error>,
    nodes: Vec<Node>,
    left_out: Vec<(TreePath, String)>,
    gone: Vec<TreePath>,
    identity: Vec<TreePath>,
}

/// Lists the tree on `mounts`.
///
/// # Errors
/// When a folder cannot be read. One that is gone meanwhile is told as that.
pub fn walk(mounts: &[&Mount], wanted: &Wanted) -> anyhow::Result<Tree> {
    let walk = Walk {
        mounts,
        wanted,
        state: Mutex::default(),
        moved: Condvar::new(),
    };
    let root = crate::inode::stat(&mounts[0].folder).context("looking at the root of the tree")?;
    {
        let mut state = lock(&walk.state);
        state.nodes.push(node(TreePath::root(), 0, root));
        state.folders.push((TreePath::root(), 0));
    }
    let threads = thread::available_parallelism().map_or(THREADS, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads.max(THREADS) {
            scope.spawn(|| walk.work());
        }
    });
    let state = walk.state.into_inner();
    let state = state.unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.error {
        return Err(error);
    }
    Ok(sorted(state))
}

fn node(path: TreePath, mount: usize, stat: Statx) -> Node {
    Node {
        path,
        mount,
        kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
        stat,
        emptied: false,
        link: None,
        other_mount: false,
    }
}

/// Brings what was found into order, and finds the names of one file.
fn sorted(state: State) -> Tree {
    let mut nodes = state.nodes;
    nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut first: HashMap<(u32, u32, u64), usize> = HashMap::new();
    let mut names: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, node) in nodes.iter_mut().enumerate() {
        if node.stat.stx_nlink < 2 || node.kind == FileType::Directory {
            continue;
        }
        let stat = &node.stat;
        let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        match first.get(&key) {
            Some(target) => {
                node.link = Some(*target);
                names.entry(*target).or_default().push(number);
            }
            None => {
                first.insert(key, number);
            }
        }
    }
    let (mut left_out, mut identity) = (state.left_out, state.identity);
    left_out.sort();
    identity.sort();
    Tree {
        nodes,
        names,
        left_out,
        gone: state.gone,
        identity,
    }
}

impl Walk<'_> {
    fn work(&self) {
        while let Some((path, mount)) = self.take() {
            let read = self.folder(&path, mount);
            let mut state = lock(&self.state);
            state.busy -= 1;
            match read {
                Ok(found) => {
                    state.folders.extend(found.folders);
                    state.nodes.extend(found.nodes);
                    state.left_out.extend(found.left_out);
                    state.gone.extend(found.gone);
                    state.identity.extend(found.identity);
                }
                Err(error) => {
                    state.error.get_or_insert(error);
                }
            }
            drop(state);
            self.moved.notify_all();
        }
    }

    fn take(&self) -> Option<(TreePath, usize)> {
        let mut state = lock(&self.state);
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(folder) = state.folders.pop() {
                state.busy += 1;
                return Some(folder);
            }
            if state.busy == 0 {
                return None;
            }
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn folder(&self, path: &TreePath, mount: usize) -> anyhow::Result<State> {
        let mut found = State::default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match self.open(path, mount, flags) {
            Err(Errno::NOENT | Errno::NOTDIR) if !path.is_root() => {
                found.gone.push(path.clone());
                return Ok(found);
            }
            opened => opened.with_context(|| format!("opening the folder {path}"))?,
        };
        let listing = Dir::read_from(&opened).with_context(|| format!("reading {path}"))?;
        for entry in listing {
            let entry = entry.with_context(|| format!("reading the folder {path}"))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = path
                .join(name)
                .with_context(|| format!("the name {} in {path}", shown(name)))?;
            self.entry(&opened, below, mount, &mut found)?;
        }
        Ok(found)
    }

    /// A path on its filesystem.
    fn open(&self, path: &TreePath, mount: usize, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.mounts[mount].open(path, flags)
    }

    fn entry(
        &self,
        folder: &OwnedFd,
        path: TreePath,
        mount: usize,
        found: &mut State,
    ) -> anyhow::Result<()> {
        if is_ours(&path)
            || self.wanted.skipped.contains(&path)
            || self.wanted.excludes.matches(&path)
        {
            return Ok(());
        }
        let verdict = self
            .wanted
            .identity
            .map_or(Verdict::Kept, |it| it.verdict(&path));
        if verdict == Verdict::LeftOut {
            found.identity.push(path);
            return Ok(());
        }
        let on = self.mounts.iter().position(|mount| mount.path == path);
        let stat = if let Some(on) = on {
            crate::inode::stat(&self.mounts[on].folder).map_err(anyhow::Error::from)
        } else {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let looked = statx(folder.as_fd(), path.name(), flags, StatxFlags::BASIC_STATS);
            if matches!(looked, Err(Errno::NOENT)) {
                found.gone.push(path);
                return Ok(());
            }
            looked.map_err(anyhow::Error::from)
        };
        let stat = stat.with_context(|| format!("looking at {path}"))?;
        let mut node = node(path, on.unwrap_or(mount), stat);
        if node.kind == FileType::Socket && !self.wanted.sockets {
            found.left_out.push((node.path, "a socket".into()));
            return Ok(());
        }
        if verdict == Verdict::Emptied && node.kind == FileType::RegularFile {
            node.emptied = true;
            found.identity.push(node.path.clone());
        }
        let is_folder = node.kind == FileType::Directory;
        node.other_mount = is_folder && on.is_none() && self.is_other_mount(&node);
        if is_folder && !node.other_mount && (self.wanted.enter)(&node.path) {
            found.folders.push((node.path.clone(), node.mount));
        }
        found.nodes.push(node);
        Ok(())
    }

    /// Whether a folder is where something else is mounted, which only a handle that is not detached shows.
    fn is_other_mount(&self, node: &Node) -> bool {
        let mount = self.mounts[node.mount];
        if mount.detached {
            return false;
        }
        // Before Linux 5.8 the kernel does not tell; then another device has to do.
        if node.stat.stx_attributes_mask.bits() & MOUNT_ROOT != 0 {
            return node.stat.stx_attributes.bits() & MOUNT_ROOT != 0;
        }
        let root = crate::inode::stat(&mount.folder);
        root.is_ok_and(|root| {
            (root.stx_dev_major, root.stx_dev_minor)
                != (node.stat.stx_dev_major, node.stat.stx_dev_minor)
        })
    }
}
