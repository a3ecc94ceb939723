//! `pitstop fleet show --files`: the folders of layers on the share, read, and laid over each other for a machine.

use crate::host::Root;
use anyhow::{Context, bail, ensure};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_fleet::overlay::{Folder, LAYERS, Laid, MOST_ENTRIES, Node, lay};
use pitstop_fleet::{Fleet, Layer, Machine};
use pitstop_protocol::host_name::printable;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Folders in folders, at most.
const DEEPEST: usize = 64;

/// `share/layers` of a root; a layer is read when it is first asked for.
pub struct Files {
    path: PathBuf,
    /// `None` where there is no such folder.
    layers: Option<Dir>,
    read: HashMap<String, Option<Folder>>,
}

impl Files {
    pub fn at(root: &Root) -> anyhow::Result<Self> {
        let path = root.path.join("share").join(LAYERS);
        let layers = match Dir::open_ambient_dir(&path, ambient_authority()) {
            Ok(dir) => Some(dir),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("opening {}", path.display()));
            }
        };
        Ok(Self {
            path,
            layers,
            read: HashMap::new(),
        })
    }

    /// What comes out for a machine, by path.
    pub fn of(
        &mut self,
        fleet: &Fleet,
        machine: &Machine,
    ) -> anyhow::Result<BTreeMap<String, Laid>> {
        let layers = fleet.file_layers(machine);
        for layer in &layers {
            self.read(layer)?;
        }
        let folders: Vec<&Folder> = layers
            .iter()
            .filter_map(|layer| self.read.get(&layer.folder())?.as_ref())
            .collect();
        lay(&folders).map_err(|problems| anyhow::anyhow!("{}", problems.join("\n")))
    }

    fn read(&mut self, layer: &Layer) -> anyhow::Result<()> {
        let name = layer.folder();
        let (Some(layers), false) = (&self.layers, self.read.contains_key(&name)) else {
            return Ok(());
        };
        let reading = || format!("reading {}", self.path.join(&name).display());
        let folder = match layers.open_dir(&name) {
            Ok(dir) => {
                let mut nodes = Vec::new();
                walk(&dir, "", 0, &mut nodes).with_context(reading)?;
                Some(Folder {
                    layer: layer.clone(),
                    nodes,
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // A link that leads out of the share is refused here.
            Err(error) => return Err(error).with_context(reading),
        };
        self.read.insert(name, folder);
        Ok(())
    }

    /// What is odd about the folders, each a sentence: those of no machine, and what cannot be laid over something else.
    pub fn check(&mut self, fleet: &Fleet) -> anyhow::Result<Vec<String>> {
        let Some(layers) = &self.layers else {
            return Ok(Vec::new());
        };
        let mut told = Vec::new();
        let mut there = HashSet::new();
        for folder in found(layers).with_context(|| format!("reading {}", self.path.display()))? {
            told.extend(fleet.stray_layer(&folder));
            there.insert(folder);
        }
        // Most machines have the same few folders.
        let mut seen = HashSet::new();
        for machine in &fleet.machines {
            let mut folders: Vec<String> = fleet
                .file_layers(machine)
                .iter()
                .map(Layer::folder)
                .collect();
            folders.retain(|folder| there.contains(folder));
            if !folders.is_empty()
                && seen.insert(folders)
                && let Err(error) = self.of(fleet, machine)
            {
                let lines = format!("{error:#}");
                told.extend(lines.lines().map(str::to_owned));
            }
        }
        told.sort();
        told.dedup();
        Ok(told)
    }
}

/// The folders of layers that are there: `base`, `group/lab3`, …, and what else lies where only those should.
fn found(layers: &Dir) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, is_folder) in names(layers)? {
        if name == "base" || !is_folder {
            found.push(name);
            continue;
        }
        let inside = names(&layers.open_dir(&name)?)?;
        if inside.is_empty() {
            continue;
        }
        found.extend(
            inside
                .into_iter()
                .map(|(inner, _)| format!("{name}/{inner}")),
        );
    }
    found.sort();
    Ok(found)
}

fn names(dir: &Dir) -> std::io::Result<Vec<(String, bool)>> {
    dir.entries()?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.file_type()?.is_dir()))
        })
        .collect()
}

fn walk(
    dir: &Dir,
    below: &str,
    depth: usize,
    nodes: &mut Vec<(String, Node)>,
) -> anyhow::Result<()> {
    ensure!(
        depth < DEEPEST,
        "{below}: more than {DEEPEST} folders in each other"
    );
    for entry in dir.entries().with_context(|| format!("reading /{below}"))? {
        let entry = entry.with_context(|| format!("reading /{below}"))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            bail!("/{below}: the name {} is not UTF-8", name.display());
        };
        let path = if below.is_empty() {
            name.to_owned()
        } else {
            format!("{below}/{name}")
        };
        ensure!(
            nodes.len() < MOST_ENTRIES,
            "there are more than {MOST_ENTRIES} files: is it a whole system?"
        );
        let looking = || format!("looking at /{path}");
        let kind = entry.file_type().with_context(looking)?;
        let node = if kind.is_dir() {
            Node::Folder
        } else if kind.is_file() {
            let size = entry.metadata().with_context(looking)?.len();
            Node::File { size }
        } else if kind.is_symlink() {
            let target = dir.read_link_contents(name).with_context(looking)?;
            let target = target.to_string_lossy().into_owned();
            Node::Link { target }
        } else {
            Node::Other
        };
        let folder = node == Node::Folder;
        nodes.push((path.clone(), node));
        if folder {
            let inner = dir.open_dir(name).with_context(looking)?;
            walk(&inner, &path, depth + 1, nodes)?;
        }
    }
    Ok(())
}

/// A line a file, with the layer that gave it and those that it hides.
pub fn text(machine: &Machine, laid: &BTreeMap<String, Laid>) -> String {
    let mut text = format!("{}\n", machine.name);
    if laid.is_empty() {
        text.push_str("  no files\n");
    }
    let shown: Vec<(String, &Laid)> = laid
        .iter()
        .map(|(path, laid)| {
            let path = printable(path);
            let path = match &laid.node {
                Node::Folder => format!("/{path}/"),
                Node::Link { target } => format!("/{path} -> {}", printable(target)),
                Node::File { .. } | Node::Other => format!("/{path}"),
            };
            (path, laid)
        })
        .collect();
    let width = shown.iter().map(|(path, _)| path.chars().count()).max();
    let width = width.unwrap_or_default();
    for (path, laid) in shown {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {path:width$}  {}", laid.layer.folder());
        if !laid.hides.is_empty() {
            let hides: Vec<String> = laid.hides.iter().rev().map(Layer::folder).collect();
            let _ = write!(text, ", over {}", hides.join(", "));
        }
        text.push('\n');
    }
    text
}

/// The same for programs.
pub fn value(laid: &BTreeMap<String, Laid>) -> Value {
    let files = laid.iter().map(|(path, laid)| {
        let hides: Vec<String> = laid.hides.iter().rev().map(Layer::folder).collect();
        let mut file = json!({
            "path": format!("/{path}"),
            "kind": laid.node.name(),
            "layer": laid.layer.folder(),
            "hides": hides,
        });
        match (&laid.node, file.as_object_mut()) {
            (Node::File { size }, Some(file)) => {
                file.insert("size".into(), (*size).into());
            }
            (Node::Link { target }, Some(file)) => {
                file.insert("target".into(), target.as_str().into());
            }
            _ => {}
        }
        file
    });
    Value::Array(files.collect())
}
