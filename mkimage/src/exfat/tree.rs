//! What goes onto the volume: the files of a folder and some more, in the order of their names.

use super::entries::{Described, Time, set, set_size};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// UTF-16 units of the longest name (7.7.3).
const LONGEST: usize = 255;

/// What no name may hold, beside control characters (7.7.3).
const FORBIDDEN: &str = "\"*/:<>?\\|";

/// A part of a file that is copied at a time.
const PART: usize = 1 << 20;

/// A file or a folder, and where it lies once that is known.
#[derive(Debug)]
pub struct Node {
    name: Vec<u16>,
    content: Content,
    first: u64,
    /// Bytes; of a folder whole clusters.
    size: u64,
}

#[derive(Debug)]
enum Content {
    File(PathBuf),
    Text(Vec<u8>),
    Folder(Folder),
}

/// Files and folders by their names in capitals.
#[derive(Debug, Default)]
pub struct Folder {
    nodes: BTreeMap<Vec<u16>, Node>,
}

/// What places and writes have to know.
pub struct Volume<'a> {
    pub capitals: &'a [u16],
    pub time: Time,
}

impl Folder {
    /// What is in a folder of this machine.
    ///
    /// # Errors
    /// It cannot be read, or has what exFAT cannot hold.
    pub fn read(path: &Path, capitals: &[u16]) -> Result<Self> {
        let mut folder = Self::default();
        let doing = || format!("reading {}", path.display());
        for entry in fs::read_dir(path).with_context(doing)? {
            let path = entry.with_context(doing)?.path();
            let kind = fs::symlink_metadata(&path)
                .with_context(|| format!("looking at {}", path.display()))?;
            let content = if kind.is_dir() {
                Content::Folder(Self::read(&path, capitals)?)
            } else if kind.is_file() {
                Content::File(path.clone())
            } else {
                bail!(
                    "{} is neither a file nor a folder: a stick cannot hold it",
                    path.display()
                );
            };
            let size = if kind.is_file() { kind.len() } else { 0 };
            folder
                .add(&path, content, size, capitals)
                .with_context(|| path.display().to_string())?;
        }
        Ok(folder)
    }

    fn add(&mut self, path: &Path, content: Content, size: u64, capitals: &[u16]) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.context("its name is no UTF-8")?;
        let units: Vec<u16> = name.encode_utf16().collect();
        ensure!(units.len() <= LONGEST, "its name is too long for exFAT");
        ensure!(
            !name
                .chars()
                .any(|c| c.is_control() || FORBIDDEN.contains(c)),
            "exFAT takes no name with one of {FORBIDDEN}: give it another"
        );
        let capital = |unit: &u16| capitals.get(usize::from(*unit)).copied().unwrap_or(*unit);
        let node = Node {
            content,
            first: 0,
            size,
            name: units.clone(),
        };
        let before = self.nodes.insert(units.iter().map(capital).collect(), node);
        ensure!(
            before.is_none(),
            "another file has the same name but for small and capital letters, which exFAT takes for one"
        );
        Ok(())
    }

    fn get(&self, name: &str, capitals: &[u16]) -> Option<&Node> {
        let units = name.encode_utf16();
        let key: Vec<u16> = units.map(|unit| capitals[usize::from(unit)]).collect();
        self.nodes.get(&key)
    }

    /// A file that there shall be, unless there is one.
    pub fn file(&mut self, name: &str, text: &[u8], capitals: &[u16]) -> Result<()> {
        if self.get(name, capitals).is_some() {
            return Ok(());
        }
        let content = Content::Text(text.to_vec());
        self.add(Path::new(name), content, text.len() as u64, capitals)
    }

    /// A folder that there shall be, unless there is one.
    pub fn folder(&mut self, name: &str, capitals: &[u16]) -> Result<()> {
        if self.get(name, capitals).is_some() {
            return Ok(());
        }
        self.add(
            Path::new(name),
            Content::Folder(Self::default()),
            0,
            capitals,
        )
    }

    /// Bytes of its entries.
    pub fn entries(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| set_size(&node.name) as u64)
            .sum()
    }

    /// Gives everything below it clusters in a row, from `next` on.
    pub fn place(&mut self, next: &mut u64, cluster: u64) {
        for node in self.nodes.values_mut() {
            if let Content::Folder(folder) = &mut node.content {
                // An empty one has a cluster too.
                node.size = folder.entries().max(1).next_multiple_of(cluster);
            }
            node.first = if node.size == 0 { 0 } else { *next };
            *next += node.size.div_ceil(cluster);
            if let Content::Folder(folder) = &mut node.content {
                folder.place(next, cluster);
            }
        }
    }

    /// Its entries, as they are stored.
    pub fn bytes(&self, volume: &Volume) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for node in self.nodes.values() {
            let described = Described {
                name: &node.name,
                is_folder: matches!(node.content, Content::Folder(_)),
                time: volume.time,
                first: u32::try_from(node.first).context("too many clusters")?,
                size: node.size,
            };
            bytes.extend(set(&described, volume.capitals));
        }
        Ok(bytes)
    }

    /// Writes everything below it; `at` tells where a cluster begins.
    pub fn write(&self, to: &File, volume: &Volume, at: &dyn Fn(u64) -> u64) -> Result<()> {
        for node in self.nodes.values() {
            match &node.content {
                Content::Text(text) => to.write_all_at(text, at(node.first))?,
                Content::File(path) => copy(path, node.size, to, at(node.first))?,
                Content::Folder(folder) => {
                    to.write_all_at(&folder.bytes(volume)?, at(node.first))?;
                    folder.write(to, volume, at)?;
                }
            }
        }
        Ok(())
    }
}

/// Copies a file, which must be as long as it was; stretches of zeros stay holes.
fn copy(path: &Path, size: u64, to: &File, mut at: u64) -> Result<()> {
    let doing = || format!("copying {}", path.display());
    let mut file = File::open(path).with_context(doing)?;
    let mut buffer = vec![0; PART];
    let mut left = size;
    loop {
        let count = file.read(&mut buffer).with_context(doing)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        left = left
            .checked_sub(count as u64)
            .with_context(|| format!("{} grew while it was copied", path.display()))?;
        if part.iter().any(|byte| *byte != 0) {
            to.write_all_at(part, at).with_context(doing)?;
        }
        at += count as u64;
    }
    ensure!(
        left == 0,
        "{} became shorter while it was copied",
        path.display()
    );
    Ok(())
}
