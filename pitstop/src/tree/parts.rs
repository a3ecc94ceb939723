//! What is laid over a tree and run in it, from files here.

use anyhow::{Context, ensure};
use pitstop_deploy::hooks::{Hook, check};
use pitstop_deploy::overrides::{From, Overlay, Owners};
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

impl Parts {
    /// The layers, in their order.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn layers(&self) -> anyhow::Result<Vec<Overlay>> {
        self.overrides.iter().map(|layer| overlay(layer)).collect()
    }

    /// # Errors
    /// One cannot be read, or could not be run.
    pub fn hooks(&self) -> anyhow::Result<Vec<Hook>> {
        self.hooks.iter().map(|file| hook(file)).collect()
    }

    /// # Errors
    /// They cannot be read.
    pub fn secrets(&self) -> anyhow::Result<Option<Vec<u8>>> {
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
