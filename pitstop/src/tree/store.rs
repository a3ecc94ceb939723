//! Where images of trees are: files, URLs, and versions on the share of the server.

use crate::commands::place::{self, Destination, client, is_local, url};
use crate::host::Root;
use anyhow::{Context, bail};
use pitstop_imaging::image::ImageSource;
use pitstop_transport::share::{DirectoryShare, HttpShare, Share};
use pitstop_trees::Meta;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

/// The folder of trees on a share.
const TREES: &str = "trees";
const CURRENT: &str = "current";
const IMAGE: &str = ".tar.gz";

/// Where names are looked up.
#[derive(clap::Args)]
pub struct Where {
    #[command(flatten)]
    root: Root,
    /// Another share than that of the server here: a folder or an `http(s)://` URL
    #[arg(long, value_name = "URL")]
    share: Option<String>,
}

/// An image, as somebody writes it on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path or a URL.
    File(String),
    Named {
        name: String,
        version: Option<String>,
    },
}

impl Place {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.contains('/') || text.ends_with(IMAGE) || !is_local(text) {
            return Ok(Self::File(text.to_owned()));
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        check_name(name)?;
        version.map(check_name).transpose()?;
        Ok(Self::Named {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

/// Names and versions are parts of paths and URLs on the share.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !name.chars().all(fits) || name.len() > 100 {
        bail!(
            "{name:?} is no name of a tree: letters, digits and . _ - + (a file has a / in its name, or ends in {IMAGE})"
        );
    }
    Ok(())
}

impl Where {
    /// The share, and the folder that it is, if it is one here.
    fn share(&self) -> anyhow::Result<(Box<dyn Share>, Option<PathBuf>)> {
        let folder = match &self.share {
            Some(share) => match url(share)? {
                Some(url) => return Ok((Box::new(HttpShare::new(&url, &client()?)), None)),
                None => PathBuf::from(share),
            },
            None => self.root.path.join("share"),
        };
        let share = DirectoryShare::open(&folder).context(
            "opening the share: names of trees are on the share of the server here (--root, --share); a file has a / in \
             its name, or ends in .tar.gz",
        )?;
        Ok((Box::new(share), Some(folder)))
    }

    /// Opens an image for reading.
    pub fn open(&self, image: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        match Place::parse(image)? {
            Place::File(file) => place::source(&file),
            Place::Named { name, version } => {
                let (share, _) = self.share()?;
                let version = match version {
                    Some(version) => version,
                    None => current(&*share, &name)?.with_context(|| {
                        format!(
                            "there is no tree {name} on {}: `pitstop tree list` shows those that are there",
                            share.name()
                        )
                    })?,
                };
                share.image(&format!("{TREES}/{name}/{version}{IMAGE}"))
            }
        }
    }

    /// Where a new image goes.
    pub fn new_image(&self, image: &str, force: bool) -> anyhow::Result<NewImage> {
        Ok(match Place::parse(image)? {
            Place::File(file) => NewImage::File {
                destination: Destination::new(&file, force)?,
                path: is_local(&file).then(|| PathBuf::from(&file)),
            },
            Place::Named { name, version } => {
                if force {
                    bail!("a version on the share is never replaced: --force is for files");
                }
                let (share, folder) = self.share()?;
                let version = match version {
                    Some(version) => version,
                    None => free_version(&*share, &name)?,
                };
                let path = format!("{TREES}/{name}/{version}{IMAGE}");
                if share.stat(&path)?.is_some() {
                    bail!(
                        "{name} has a version {version} already, and versions are never replaced"
                    );
                }
                NewImage::Version {
                    share,
                    folder,
                    name,
                    version,
                }
            }
        })
    }

    /// Names of trees on the share, each with its versions, the oldest first.
    pub fn trees(&self) -> anyhow::Result<Vec<Versions>> {
        let (share, folder) = self.share()?;
        let Some(folder) = folder else {
            bail!(
                "{} is a server, which does not list its files: ask on the server itself",
                share.name()
            );
        };
        let folder = folder.join(TREES);
        let mut trees = Vec::new();
        for name in names_in(&folder)? {
            let Ok(names) = names_in(&folder.join(&name)) else {
                continue;
            };
            let versions = names.iter().filter_map(|file| file.strip_suffix(IMAGE));
            trees.push(Versions {
                current: current(&*share, &name)?,
                all: versions.map(str::to_owned).collect(),
                folder: folder.join(&name),
                name,
            });
        }
        Ok(trees)
    }
}

/// A tree on the share.
pub struct Versions {
    pub name: String,
    pub current: Option<String>,
    pub all: Vec<String>,
    folder: PathBuf,
}

impl Versions {
    /// The image of a version.
    pub fn path(&self, version: &str) -> PathBuf {
        self.folder.join(format!("{version}{IMAGE}"))
    }
}

fn names_in(folder: &std::path::Path) -> anyhow::Result<Vec<String>> {
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

fn current(share: &dyn Share, name: &str) -> anyhow::Result<Option<String>> {
    let path = format!("{TREES}/{name}/{CURRENT}");
    if share.stat(&path)?.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    share
        .open(&path)?
        .take(1000)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {path}"))?;
    let version = text.trim();
    check_name(version).with_context(|| format!("{path} does not hold a version"))?;
    Ok(Some(version.to_owned()))
}

/// The time, as a name: `2026-11-29T014500Z`. Of two in one second the later one is told by a number.
fn free_version(share: &dyn Share, name: &str) -> anyhow::Result<String> {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H%M%SZ")
        .to_string();
    let mut version = now.clone();
    let mut number = 1;
    while share
        .stat(&format!("{TREES}/{name}/{version}{IMAGE}"))?
        .is_some()
    {
        number += 1;
        version = format!("{now}-{number}");
    }
    Ok(version)
}

/// An image that is to be written.
pub enum NewImage {
    File {
        destination: Destination,
        path: Option<PathBuf>,
    },
    Version {
        share: Box<dyn Share>,
        folder: Option<PathBuf>,
        name: String,
        version: String,
    },
}

impl NewImage {
    /// The metadata that the image begins with.
    pub fn meta(&self) -> Meta {
        match self {
            Self::File { .. } => Meta::default(),
            Self::Version { name, version, .. } => Meta {
                name: name.clone(),
                version: version.clone(),
                ..Meta::default()
            },
        }
    }

    /// Where it is on this computer, if it is.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Version {
                folder,
                name,
                version,
                ..
            } => {
                let file = format!("{version}{IMAGE}");
                folder
                    .as_ref()
                    .map(|folder| folder.join(TREES).join(name).join(file))
            }
        }
    }

    /// For messages: `web@2026-11-29T014500Z`, or nothing where the caller knows the name.
    pub fn version(&self) -> Option<String> {
        match self {
            Self::File { .. } => None,
            Self::Version { name, version, .. } => Some(format!("{name}@{version}")),
        }
    }

    /// Has `fill` write the image. Only when it is whole it gets its name, then its `.toml`, and then a version becomes the
    /// current one.
    pub fn write(
        &self,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<Meta>,
    ) -> anyhow::Result<()> {
        match self {
            Self::File { destination, .. } => {
                destination.write_described(|out| Ok(Some(fill(out)?.to_toml()?)))
            }
            Self::Version {
                share,
                name,
                version,
                ..
            } => {
                let base = format!("{TREES}/{name}/{version}");
                let image = format!("{base}{IMAGE}");
                let mut pending = share.create(&image)?;
                let meta = fill(&mut pending)?;
                // Somebody may have been faster with a version of this name.
                if share.stat(&image)?.is_some() {
                    bail!(
                        "{name} got a version {version} meanwhile, and versions are never replaced"
                    );
                }
                pending.finish()?;
                put(&**share, &format!("{base}.toml"), &meta.to_toml()?)?;
                put(
                    &**share,
                    &format!("{TREES}/{name}/{CURRENT}"),
                    &format!("{version}\n"),
                )
            }
        }
    }
}

fn put(share: &dyn Share, path: &str, text: &str) -> anyhow::Result<()> {
    let mut pending = share.create(path)?;
    pending
        .write_all(text.as_bytes())
        .with_context(|| format!("writing {path}"))?;
    pending.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_are_told_apart() {
        let file = |text: &str| matches!(Place::parse(text).unwrap(), Place::File(_));
        assert!(file("./web") && file("web.tar.gz") && file("http://server/web") && file("/a/b"));
        assert_eq!(
            Place::parse("web@1.2").unwrap(),
            Place::Named {
                name: "web".into(),
                version: Some("1.2".into())
            }
        );
        for wrong in ["", ".web", "web@", "we b", "-x", "web@.."] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
