//! What is laid over a tree and run in it, from files here.

use anyhow::{Context, ensure};
use pitstop_deploy::hooks::{Hook, check};
use pitstop_deploy::overrides::{self, From, Overlay, Owners};
use serde::Serialize;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Far more than hooks have to know, in bytes.
const MOST_SECRETS: u64 = 1 << 20;

#[derive(clap::Args)]
pub struct Parts {
    /// Files to lay over the tree: a folder (they become root's) or a tar (owners by number); may be repeated, later ones win
    #[arg(long, value_name = "DIR|TAR")]
    overrides: Vec<PathBuf>,
    /// A script to run in the new system; may be repeated
    #[arg(long = "hook", value_name = "FILE")]
    hooks: Vec<PathBuf>,
    /// What the hooks find by `PITSTOP_SECRETS`, and no log has
    #[arg(long, value_name = "FILE", requires = "hooks")]
    secrets: Option<PathBuf>,
}

/// All of it, read.
pub struct Given {
    /// In their order.
    pub layers: Vec<Overlay>,
    pub hooks: Vec<Hook>,
    pub secrets: Option<Vec<u8>>,
    /// How many files and links each layer has; `None` of one that can be read only once.
    files: Vec<Option<usize>>,
}

/// As a program reads it.
#[derive(Serialize)]
pub struct Json<'a> {
    overrides: Vec<&'a str>,
    hooks: Vec<&'a str>,
    secrets: bool,
}

impl Given {
    /// What a plan says of it, a line each.
    pub fn text(&self) -> String {
        let layers = self.layers.iter().zip(&self.files);
        let layers = layers.map(|(layer, files)| {
            let files = files.map(|count| match count {
                1 => " (1 file)".to_owned(),
                count => format!(" ({count} files)"),
            });
            format!("over it: {}{}\n", layer.name, files.unwrap_or_default())
        });
        let hooks = self.hooks.iter().map(|hook| {
            let secrets = match self.secrets {
                Some(_) => ", with secrets",
                None => "",
            };
            format!("then runs {}{secrets}\n", hook.name)
        });
        layers.chain(hooks).collect()
    }

    pub fn json(&self) -> Json<'_> {
        Json {
            overrides: self.layers.iter().map(|it| it.name.as_str()).collect(),
            hooks: self.hooks.iter().map(|it| it.name.as_str()).collect(),
            secrets: self.secrets.is_some(),
        }
    }
}

impl Parts {
    /// Reads all of it: what is missing, cannot be read or could not be run is told before anything is changed.
    ///
    /// # Errors
    /// Names what it is.
    pub fn read(&self) -> anyhow::Result<Given> {
        let all = self.overrides.iter();
        let hooks = self.hooks.iter().map(|file| hook(file));
        Ok(Given {
            files: all.clone().map(|it| count(it)).collect::<Result<_, _>>()?,
            layers: all.map(|it| overlay(it)).collect::<Result<_, _>>()?,
            hooks: hooks.collect::<Result<_, _>>()?,
            secrets: self.secrets()?,
        })
    }

    fn secrets(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.secrets else {
            return Ok(None);
        };
        let reading = || format!("reading the secrets {}", file.display());
        let mut bytes = Vec::new();
        let opened = File::open(file).with_context(reading)?;
        opened
            .take(MOST_SECRETS + 1)
            .read_to_end(&mut bytes)
            .with_context(reading)?;
        ensure!(
            bytes.len() as u64 <= MOST_SECRETS,
            "{} has more than {MOST_SECRETS} bytes: it is no file of secrets",
            file.display()
        );
        Ok(Some(bytes))
    }
}

fn hook(file: &Path) -> anyhow::Result<Hook> {
    let script = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    let hook = Hook {
        name: name.to_string_lossy().into_owned(),
        script,
    };
    check(&hook)?;
    Ok(hook)
}

fn count(layer: &Path) -> anyhow::Result<Option<usize>> {
    let found = fs::metadata(layer).with_context(|| format!("opening {}", layer.display()))?;
    // What comes through a pipe is gone when it is read.
    if !found.is_dir() && !found.is_file() {
        return Ok(None);
    }
    // Where there is room: /tmp may be memory.
    overrides::check(&mut overlay(layer)?, Path::new("/var/tmp")).map(Some)
}

fn overlay(layer: &Path) -> anyhow::Result<Overlay> {
    let name = layer.display().to_string();
    let found = fs::metadata(layer).with_context(|| format!("opening {name}"))?;
    Ok(if found.is_dir() {
        Overlay {
            name,
            from: From::Folder(layer.to_owned()),
            owners: Owners::Root,
        }
    } else {
        let tar = File::open(layer).with_context(|| format!("opening {name}"))?;
        Overlay {
            name,
            from: From::Tar(Box::new(tar)),
            owners: Owners::Kept,
        }
    })
}
