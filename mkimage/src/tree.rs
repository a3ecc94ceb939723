//! The initramfs as a tree of entries, and its newc archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::input;
use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder,
    File(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A character device, major and minor.
    Device(u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    node: Node,
    /// Permission bits alone.
    mode: u32,
}

/// Paths without a leading slash, sorted, each with its folders before it.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder and those above it. One that is there stays as it is.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let path = clean(path)?;
        self.parents(&path)?;
        match self.entries.get(&path) {
            Some(Entry {
                node: Node::Folder, ..
            }) => Ok(()),
            Some(_) => bail!("/{path} is already in the image, and not a folder"),
            None => {
                self.entries.insert(
                    path,
                    Entry {
                        node: Node::Folder,
                        mode,
                    },
                );
                Ok(())
            }
        }
    }

    /// Adds a file, link or device. The same one twice is fine; another one at the same path is an error.
    pub fn add(&mut self, path: &str, mode: u32, node: Node) -> Result<()> {
        let path = clean(path)?;
        self.parents(&path)?;
        let entry = Entry { node, mode };
        match self.entries.get(&path) {
            Some(there) if *there == entry => Ok(()),
            Some(_) => bail!("/{path} is already in the image with other content"),
            None => {
                self.entries.insert(path, entry);
                Ok(())
            }
        }
    }

    /// Reads `source` into a file at `path`.
    pub fn add_file(&mut self, path: &str, mode: u32, source: &Path) -> Result<()> {
        self.add(path, mode, Node::File(input::read(source)?))
    }

    /// Every path with its content; empty for what is not a file.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(path, entry)| match &entry.node {
            Node::File(data) => (path.as_str(), data.as_slice()),
            _ => (path.as_str(), [].as_slice()),
        })
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent, 0o755)?;
        }
        Ok(())
    }

    /// The newc archive: sorted, owned by root, dated `mtime` (Unix seconds), inodes numbered from 1.
    pub fn archive(&self, mtime: u32) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (inode, (path, entry)) in (1u32..).zip(&self.entries) {
            let (kind, data, links): (_, &[u8], u32) = match &entry.node {
                Node::Folder => (ModeFileType::Directory, &[], 2),
                Node::File(data) => (ModeFileType::Regular, data, 1),
                Node::Link(target) => (ModeFileType::Symlink, target.as_bytes(), 1),
                Node::Device(..) => (ModeFileType::Char, &[], 1),
            };
            let mut builder = Builder::new(path)
                .ino(inode)
                .nlink(links)
                .uid(0)
                .gid(0)
                .mtime(mtime)
                .mode(entry.mode)
                .set_mode_file_type(kind);
            if let Node::Device(major, minor) = entry.node {
                builder = builder.rdev_major(major).rdev_minor(minor);
            }
            let length = u32::try_from(data.len())
                .with_context(|| format!("/{path} is larger than 4 GiB: newc cannot hold it"))?;
            let mut writer = builder.write(&mut out, length);
            writer.write_all(data)?;
            writer.finish()?;
        }
        cpio::newc::trailer(&mut out)?;
        Ok(out)
    }
}

/// A path inside the image: relative, no empty, `.` or `..` parts.
fn clean(path: &str) -> Result<String> {
    let path = path.trim_start_matches('/');
    if path.is_empty()
        || path.contains('\0')
        || path.split('/').any(|p| matches!(p, "" | "." | ".."))
    {
        bail!("{path:?} is no path in an image: write it from the root, without . or ..");
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut tree = Tree::new();
        tree.add("/etc/pitstop/params", 0o644, Node::File(b"quiet".to_vec()))
            .unwrap();
        tree.add("bin/sh", 0o777, Node::Link("busybox".into()))
            .unwrap();
        let paths: Vec<&str> = tree.contents().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            ["bin", "bin/sh", "etc", "etc/pitstop", "etc/pitstop/params"]
        );
    }

    #[test]
    fn one_path_holds_one_thing() {
        let mut tree = Tree::new();
        tree.add("init", 0o755, Node::File(vec![1])).unwrap();
        tree.add("init", 0o755, Node::File(vec![1])).unwrap();
        let error = tree.add("init", 0o755, Node::File(vec![2])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/init is already in the image with other content"
        );
        let error = tree
            .add("init/below", 0o644, Node::File(vec![]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "/init is already in the image, and not a folder"
        );
        for path in ["", "/", "../etc", "a//b", "a/./b"] {
            let error = tree.add(path, 0o644, Node::File(vec![])).unwrap_err();
            assert!(
                error.to_string().contains("is no path in an image"),
                "{path}"
            );
        }
    }
}
