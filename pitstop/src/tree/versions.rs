//! Versions of trees on a share that is a folder: in which order they were made, and their files.

use anyhow::Context;
use jiff::Timestamp;
use pitstop_imaging::image::encrypted::SUFFIX;
use pitstop_protocol::tree::{self, ABOUT, IMAGE};
use pitstop_transport::share::{Share, trees};
use pitstop_trees::Meta;
use std::fs;
use std::path::{Path, PathBuf};

/// How a file ends that is no version yet.
const PART: &str = ".part";

/// All trees in the folder of trees, each with its versions.
pub fn of(share: &dyn Share, folder: &Path) -> anyhow::Result<Vec<Versions>> {
    let mut trees = Vec::new();
    for name in names_in(folder)? {
        let Ok(names) = names_in(&folder.join(&name)) else {
            continue;
        };
        let versions = names.iter().filter_map(|file| tree::version_of_file(file));
        let mut versions: Vec<&str> = versions.collect();
        versions.sort_unstable();
        versions.dedup();
        let about = |version: &str| folder.join(&name).join(format!("{version}{ABOUT}"));
        let all = by_age(versions.into_iter().map(|version| Version {
            created: created(&about(version)),
            name: version.to_owned(),
        }));
        let parts = names.iter().filter(|file| file.ends_with(PART));
        let parts = parts.map(|file| folder.join(&name).join(file)).collect();
        trees.push(Versions {
            parts,
            current: trees::current(share, &name)?,
            all,
            folder: folder.join(&name),
            name,
        });
    }
    Ok(trees)
}

/// One image of a tree.
pub struct Version {
    pub name: String,
    /// When it was made, or why that is not known.
    pub created: anyhow::Result<Timestamp>,
}

/// A name says nothing of an age: 10 is newer than 9, and people choose names.
fn by_age(versions: impl Iterator<Item = Version>) -> Vec<Version> {
    let mut all: Vec<Version> = versions.collect();
    all.sort_by(|a, b| {
        let age = |version: &Version| version.created.as_ref().ok().copied();
        (age(a), &a.name).cmp(&(age(b), &b.name))
    });
    all
}

/// When a version was made, as what lies beside it says.
fn created(about: &Path) -> anyhow::Result<Timestamp> {
    let shown = about.display();
    let text = fs::read_to_string(about).with_context(|| format!("reading {shown}"))?;
    let meta = Meta::from_toml(&text).with_context(|| shown.to_string())?;
    let created = &meta.created;
    let time = created.parse();
    time.with_context(|| format!("{shown}: created = {created:?} is no time"))
}

/// A tree on the share.
pub struct Versions {
    pub name: String,
    pub current: Option<String>,
    /// The oldest first; those of which nobody knows how old they are come before them.
    pub all: Vec<Version>,
    /// Files that become versions when they are whole, or were to.
    pub parts: Vec<PathBuf>,
    folder: PathBuf,
}

impl Versions {
    /// The image of a version, as it lies there: plain or encrypted.
    pub fn path(&self, version: &str) -> PathBuf {
        let plain = self.folder.join(format!("{version}{IMAGE}"));
        let encrypted = self.folder.join(format!("{version}{IMAGE}{SUFFIX}"));
        if !plain.exists() && encrypted.exists() {
            encrypted
        } else {
            plain
        }
    }

    /// What describes it.
    pub fn about(&self, version: &str) -> PathBuf {
        self.folder.join(format!("{version}{ABOUT}"))
    }
}

fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
