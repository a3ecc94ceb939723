//! A tree that is made entry by entry, as tars and layers have them: later ones replace earlier ones.
//!
//! Names lead to inodes, as on a disk, so that a hard link keeps its file when the other name is replaced. A path through a
//! symlink goes where it would go in that system, and never out of the tree.

use super::archive::Layer;
use super::source::{ImportedTree, Item};
use crate::acl::{self, Named};
use crate::capture::{CaptureOptions, Identity, Verdict};
use crate::entry::{Attributes, Entry, Extent, Kind, Time, Xattrs};
use crate::path::{TreePath, shown};
use crate::resolve::resolve;
use anyhow::{Context, bail};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Bound;
use std::sync::Arc;

/// What an entry of a tar is.
pub enum Shape {
    Folder,
    File(Content),
    Symlink(Vec<u8>),
    HardLink(TreePath),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Where the data of a file lies.
#[derive(Clone)]
pub struct Content {
    pub file: Arc<File>,
    /// Of its first byte, in `file`.
    pub at: u64,
    /// Of the file, holes among it.
    pub size: u64,
    pub extents: Option<Arc<[Extent]>>,
}

impl Content {
    pub fn new(file: &Arc<File>, at: u64, size: u64, extents: Option<Arc<[Extent]>>) -> Self {
        Self {
            file: Arc::clone(file),
            at,
            size,
            extents,
        }
    }
}

/// An entry of a tar.
pub struct Given {
    pub path: TreePath,
    pub shape: Shape,
    pub attributes: Attributes,
}

struct Inode {
    kind: Kind,
    attributes: Attributes,
    content: Option<Content>,
}

/// The tree so far.
#[derive(Default)]
pub struct Builder {
    names: BTreeMap<TreePath, usize>,
    inodes: Vec<Inode>,
    /// Which layer each name is of.
    layers: HashMap<TreePath, usize>,
    left_out: Vec<(String, String)>,
}

/// What a layer takes away from those below it (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Builder {
    /// Something that no tree can have.
    pub fn leave_out(&mut self, path: String, why: String) {
        self.left_out.push((path, why));
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether something is at a path.
    pub fn has(&self, path: &[u8]) -> bool {
        self.names.contains_key(path)
    }

    /// Adds an entry, in a layer or not.
    ///
    /// # Errors
    /// When its folder is none, or its hard link leads to nothing.
    pub fn add(&mut self, given: Given, layer: Layer) -> anyhow::Result<()> {
        let shown = given.path.to_string();
        if given.path.is_root() {
            if !matches!(given.shape, Shape::Folder) {
                bail!("the root of the tar is no folder");
            }
            self.put(given.path, folder(given.attributes), layer);
            return Ok(());
        }
        let parent = self
            .resolve(given.path.folder(), true)
            .with_context(|| format!("the folder of {shown}"))?;
        if let (Some(layer), Some(rest)) = (layer, given.path.name().strip_prefix(WHITEOUT)) {
            return self.whiteout(&parent, given.path.name(), rest, layer);
        }
        self.make_folders(&parent, given.attributes.mtime, layer)
            .with_context(|| format!("the folder of {shown}"))?;
        let path = parent.join(given.path.name())?;
        let inode = match given.shape {
            Shape::HardLink(target) => return self.link(path, &target, layer),
            Shape::Folder => folder(given.attributes),
            shape => inode(shape, given.attributes),
        };
        self.replace(&path, inode.kind == Kind::Folder)?;
        self.put(path, inode, layer);
        Ok(())
    }

    fn resolve(&self, path: &[u8], last: bool) -> anyhow::Result<TreePath> {
        let link = |path: &TreePath| match &self.inodes[*self.names.get(path)?].kind {
            Kind::Symlink(target) => Some(target.as_slice()),
            _ => None,
        };
        Ok(resolve(path, last, link)?)
    }

    fn put(&mut self, path: TreePath, inode: Inode, layer: Layer) {
        self.inodes.push(inode);
        if let Some(layer) = layer {
            self.layers.insert(path.clone(), layer);
        }
        self.names.insert(path, self.inodes.len() - 1);
    }

    /// Makes the folders on the way that no entry has made.
    fn make_folders(&mut self, path: &TreePath, mtime: Time, layer: Layer) -> anyhow::Result<()> {
        let mut at = TreePath::root();
        for name in path.as_bytes().split(|byte| *byte == b'/') {
            if !name.is_empty() {
                at = at.join(name)?;
            }
            match self.names.get(&at) {
                Some(number) if self.inodes[*number].kind == Kind::Folder => {}
                Some(_) => bail!("{at} is no folder, and something is in it"),
                None => {
                    let attributes = Attributes {
                        mode: 0o755,
                        mtime,
                        ..Attributes::default()
                    };
                    self.put(at.clone(), folder(attributes), layer);
                }
            }
        }
        Ok(())
    }

    /// What stands at a path gives way. A folder stays for a folder, with what is in it.
    fn replace(&mut self, path: &TreePath, by_folder: bool) -> anyhow::Result<()> {
        let is_folder = |number: &usize| self.inodes[*number].kind == Kind::Folder;
        if self.names.get(path).is_some_and(is_folder) && !by_folder {
            self.remove(path, None)?;
        }
        Ok(())
    }

    /// Removes a path and what is in it, but for what layer `kept` has.
    fn remove(&mut self, path: &TreePath, kept: Option<usize>) -> anyhow::Result<()> {
        let (stay, gone): (Vec<_>, Vec<_>) = self
            .within(path)
            .into_iter()
            .partition(|path| kept.is_some() && self.layers.get(path).copied() == kept);
        for path in gone {
            self.names.remove(&path);
            self.layers.remove(&path);
        }
        // What stays is in a folder, also where that was only of a layer below.
        for path in stay {
            let folder = TreePath::parse(path.folder())?;
            self.make_folders(&folder, Time::default(), kept)?;
        }
        Ok(())
    }

    fn within(&self, path: &TreePath) -> Vec<TreePath> {
        let from = self
            .names
            .range::<TreePath, _>((Bound::Included(path), Bound::Unbounded));
        from.map(|(found, _)| found)
            .take_while(|found| found.is_within(path.as_bytes()))
            .cloned()
            .collect()
    }

    fn link(&mut self, path: TreePath, target: &TreePath, layer: Layer) -> anyhow::Result<()> {
        // The target itself may be a symlink, which then has two names.
        let real = self.resolve(target.as_bytes(), false)?;
        let Some(number) = self.names.get(&real).copied() else {
            bail!("{path} is a hard link to {target}, which the tar does not have before it");
        };
        if self.inodes[number].kind == Kind::Folder {
            bail!("{path} is a hard link to {target}, which is a folder");
        }
        if real != path {
            self.replace(&path, false)?;
            if let Some(layer) = layer {
                self.layers.insert(path.clone(), layer);
            }
            self.names.insert(path, number);
        }
        Ok(())
    }

    fn whiteout(
        &mut self,
        folder: &TreePath,
        name: &[u8],
        hidden: &[u8],
        layer: usize,
    ) -> anyhow::Result<()> {
        if name == OPAQUE {
            for path in self.children(folder) {
                self.remove(&path, Some(layer))?;
            }
        } else if !name.starts_with(b".wh..wh.") {
            self.remove(&folder.join(hidden)?, Some(layer))?;
        }
        Ok(())
    }

    fn children(&self, folder: &TreePath) -> Vec<TreePath> {
        let mut within = self.within(folder);
        within.retain(|path| !path.is_root() && path.folder() == folder.as_bytes());
        within
    }

    /// The tree as the source of an image, without what `options` leave out.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn finish(mut self, options: &CaptureOptions) -> anyhow::Result<ImportedTree> {
        self.make_folders(&TreePath::root(), Time::default(), None)?;
        let identity = Identity::new()?;
        let mut tree = ImportedTree {
            left_out: self.left_out,
            ..ImportedTree::default()
        };
        let mut first: HashMap<usize, TreePath> = HashMap::new();
        let mut gone: Option<TreePath> = None;
        for (path, number) in self.names {
            if gone
                .as_ref()
                .is_some_and(|gone| path.is_within(gone.as_bytes()))
            {
                continue;
            }
            let verdict = if options.keep_identity {
                Verdict::Kept
            } else {
                identity.verdict(&path)
            };
            if verdict == Verdict::LeftOut || options.excludes.matches(&path) {
                if verdict == Verdict::LeftOut {
                    tree.identity.push(path.clone());
                }
                gone = Some(path);
                continue;
            }
            let inode = &self.inodes[number];
            let mut kind = inode.kind.clone();
            let mut content = inode.content.clone();
            if verdict == Verdict::Emptied && content.take().is_some() {
                kind = file(0, None);
                tree.identity.push(path.clone());
            } else if kind != Kind::Folder {
                match first.get(&number) {
                    Some(target) => {
                        kind = Kind::HardLink(target.clone());
                        content = None;
                    }
                    None => {
                        first.insert(number, path.clone());
                    }
                }
            }
            let entry = Entry {
                path,
                kind,
                attributes: inode.attributes.clone(),
            };
            tree.entries.push(Item { entry, content });
        }
        name_acls(&mut tree)?;
        Ok(tree)
    }
}

/// ACLs that name users and groups, as GNU tar writes them, get the numbers that the tree itself has for them; modes agree with
/// ACLs as the kernel has it.
fn name_acls(tree: &mut ImportedTree) -> anyhow::Result<()> {
    let users = tree.beginning("etc/passwd").unwrap_or_default();
    let groups = tree.beginning("etc/group").unwrap_or_default();
    let number = |named, name: &str| {
        let table = match named {
            Named::User => &users,
            Named::Group => &groups,
        };
        let table = String::from_utf8_lossy(table);
        let mut lines = table.lines().map(|line| line.split(':'));
        // passwd(5), group(5): name, password, number.
        let mut found = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        found.nth(1)?.parse().ok()
    };
    for item in &mut tree.entries {
        let pairs = item.entry.attributes.xattrs.pairs();
        if !pairs.iter().any(|(key, _)| is_named(key)) {
            continue;
        }
        let path = &item.entry.path;
        let mut numbered = Vec::new();
        for (key, value) in pairs {
            let kernel = acl::NAMES.iter().find(|(_, tar)| tar.as_bytes() == key);
            numbered.push(match kernel {
                None => (key.clone(), value.clone()),
                Some((kernel, _)) => {
                    let acl = acl::from_text(value, number).with_context(|| {
                        format!(
                            "the ACL of {path} is none, or names somebody whom its /etc/passwd and /etc/group do not know: {}",
                            shown(value)
                        )
                    })?;
                    (kernel.to_vec(), acl)
                }
            });
        }
        item.entry.attributes.xattrs = Arc::new(Xattrs::new(numbered));
    }
    for item in &mut tree.entries {
        let attributes = &mut item.entry.attributes;
        let access = attributes
            .xattrs
            .pairs()
            .iter()
            .find(|(key, _)| key == acl::NAMES[0].0);
        // libarchive writes the group's own permissions into the mode.
        if let Some(mask) = access.and_then(|(_, value)| acl::mask(value)) {
            attributes.mode = attributes.mode & !0o070 | mask << 3;
        }
    }
    Ok(())
}

/// Whether an attribute is an ACL that waits for its numbers.
fn is_named(key: &[u8]) -> bool {
    acl::NAMES.iter().any(|(_, tar)| tar.as_bytes() == key)
}

fn folder(attributes: Attributes) -> Inode {
    Inode {
        kind: Kind::Folder,
        attributes,
        content: None,
    }
}

fn file(size: u64, extents: Option<Arc<[Extent]>>) -> Kind {
    Kind::File {
        size,
        extents,
        hash: [0; 32],
    }
}

fn inode(shape: Shape, attributes: Attributes) -> Inode {
    let mut content = None;
    let kind = match shape {
        Shape::Folder | Shape::HardLink(_) => Kind::Folder,
        Shape::File(found) => {
            let kind = file(found.size, found.extents.clone());
            content = Some(found);
            kind
        }
        Shape::Symlink(target) => Kind::Symlink(target),
        Shape::Character(major, minor) => Kind::Character { major, minor },
        Shape::Block(major, minor) => Kind::Block { major, minor },
        Shape::Fifo => Kind::Fifo,
    };
    Inode {
        kind,
        attributes,
        content,
    }
}
