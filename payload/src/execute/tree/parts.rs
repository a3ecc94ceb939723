//! What is laid over a tree and run in it, from the share.

use super::Work;
use anyhow::{Context, bail};
use pitstop_deploy::hooks::{self, Hook};
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_protocol::digest::Digest;
use pitstop_protocol::tree::LAYER;
use std::io::{self, Read, Seek};

/// Far more than a script has.
const MOST_BYTES: u64 = 4 << 20;

/// Whether the layers are there, before anything is written.
///
/// # Errors
/// Names the one that is not.
pub(super) fn check_layers(work: &Work<'_>, folders: &[String]) -> anyhow::Result<()> {
    for folder in folders {
        let packed = format!("{folder}{LAYER}");
        if work.share.folder(folder)?.is_none() && work.share.stat(&packed)?.is_none() {
            bail!(
                "there is no folder {folder} on {}, nor a file {packed}",
                work.share.name()
            );
        }
    }
    Ok(())
}

/// The layers, in their order. Those of a server are here whole before anything of them is laid over a tree.
///
/// # Errors
/// One is not there, or does not come whole.
pub(super) fn layers(work: &Work<'_>, folders: &[String]) -> anyhow::Result<Vec<Overlay>> {
    folders.iter().map(|folder| layer(work, folder)).collect()
}

fn layer(work: &Work<'_>, folder: &str) -> anyhow::Result<Overlay> {
    let from = match work.share.folder(folder)? {
        Some(path) => From::Folder(path),
        None => From::Tar(Box::new(fetched(work, &format!("{folder}{LAYER}"))?)),
    };
    Ok(Overlay {
        name: folder.to_owned(),
        from,
        owners: Owners::Root,
    })
}

fn fetched(work: &Work<'_>, path: &str) -> anyhow::Result<std::fs::File> {
    let fetching = || format!("fetching {path} from {}", work.share.name());
    let mut tar = work.share.open(path).with_context(fetching)?;
    let mut file = tempfile::tempfile().with_context(fetching)?;
    io::copy(&mut tar, &mut file).with_context(fetching)?;
    file.rewind().with_context(fetching)?;
    Ok(file)
}

/// The scripts, each of them what the job was made for.
///
/// # Errors
/// One is not there, is another, or could not be run.
pub(super) fn scripts(work: &Work<'_>, files: &[String]) -> anyhow::Result<Vec<Hook>> {
    files.iter().map(|file| script(work, file)).collect()
}

fn script(work: &Work<'_>, file: &str) -> anyhow::Result<Hook> {
    let reading = || format!("reading the hook {file} on {}", work.share.name());
    let mut bytes = Vec::new();
    let length = work
        .share
        .open(file)
        .with_context(reading)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    if length as u64 == MOST_BYTES {
        bail!("{}: it is no script", reading());
    }
    let checked = work.job.terms.check_digest(file, Some(Digest::of(&bytes)));
    checked.map_err(anyhow::Error::msg).with_context(reading)?;
    let name = file.rsplit('/').next().unwrap_or(file).to_owned();
    let hook = Hook {
        name,
        script: bytes,
    };
    hooks::check(&hook)?;
    Ok(hook)
}
