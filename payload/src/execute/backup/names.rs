//! The last step of a backup: new images take their names, and those before them become `.old`.
//!
//! For each: `X.toml` becomes `X.old.toml`, `X` becomes `X.old`, the new `X.toml` is written, and `X.new` becomes
//! `X`. With `versions`, what was `X.old` is kept under the time when it was made, and stays there whatever happens then.
//! If one of several fails, all that were renamed get their old names back: the images of a machine
//! are of one run, and the next `backup` finds the folder as this one found it.

use super::stage::new_path;
use crate::execute::Work;
use crate::execute::attempts::put;
use crate::plan::Capture;
use anyhow::{Context, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::ImageMeta;
use pitstop_protocol::image_version::{self, OLD};
use pitstop_protocol::job::BackupOptions;
use pitstop_transport::share::Share;
use std::io::Read as _;

/// No description is longer, in bytes.
const LONGEST: u64 = 4 << 20;

/// What has been renamed so far for one image.
struct Placing<'a> {
    capture: &'a Capture,
    /// Of `capture.replaces`, those that are `.old` by now.
    kept: Vec<&'a str>,
    /// The new description, and perhaps the new image, have their names.
    begun: bool,
}

/// Gives each staged image its name, or none of them.
pub(super) fn put_in_place(
    work: &Work<'_>,
    captures: &[Capture],
    staged: &[ImageMeta],
    options: &BackupOptions,
) -> anyhow::Result<()> {
    let mut placed: Vec<Placing<'_>> = Vec::new();
    for (capture, meta) in captures.iter().zip(staged) {
        let mut placing = Placing {
            capture,
            kept: Vec::new(),
            begun: false,
        };
        let outcome = place(work, &mut placing, meta, options);
        placed.push(placing);
        let Err(mut error) = outcome else {
            work.log
                .info(format!("{} is whole and in place", capture.file));
            continue;
        };
        for placing in placed.iter().rev() {
            if let Err(stuck) = take_back(work, placing) {
                // What kind of error it is stays to be seen.
                error = error.context(format!("{stuck:#}, after this"));
            }
        }
        return Err(error);
    }
    Ok(())
}

fn place<'a>(
    work: &Work<'_>,
    placing: &mut Placing<'a>,
    meta: &ImageMeta,
    options: &BackupOptions,
) -> anyhow::Result<()> {
    let share = work.share;
    let capture: &'a Capture = placing.capture;
    let path = work.image_path(&capture.file);
    for old in &capture.replaces {
        if options.versions {
            keep_version(work, old)?;
        }
        if keep_as_old(work, old)? {
            placing.kept.push(old);
        }
    }
    if !capture.redoes && share.stat(&path)?.is_some() {
        bail!(
            "{path} has appeared on {} during the backup: it is kept",
            share.name()
        );
    }
    placing.begun = true;
    let toml = meta.to_toml().context("describing the image in TOML")?;
    put(share, &format!("{path}.toml"), toml.as_bytes())?;
    let new = new_path(work, capture);
    share
        .rename(&new, &path)
        .with_context(|| format!("renaming {new} to {path} on {}", share.name()))
}

/// What is `.old` now gets a name that no later image takes from it.
fn keep_version(work: &Work<'_>, last: &str) -> anyhow::Result<()> {
    let share = work.share;
    let path = work.image_path(last);
    let old = format!("{path}{OLD}");
    // Without one to take its place it stays what it is.
    if share.stat(&path)?.is_none() || share.stat(&old)?.is_none() {
        return Ok(());
    }
    let toml = format!("{old}.toml");
    let described = share.stat(&toml)?.is_some();
    let made = if described { made(share, &toml)? } else { None };
    let mut at = made.unwrap_or_else(Timestamp::now);
    let mut kept = image_version::dated(&path, at);
    while share.stat(&kept)?.is_some() {
        at += SignedDuration::from_secs(1);
        kept = image_version::dated(&path, at);
    }
    if described {
        rename_kept(work, &toml, &format!("{kept}.toml"))?;
    }
    rename_kept(work, &old, &kept)?;
    work.log.info(format!("{old} is {kept} from now on"));
    Ok(())
}

/// When an image was made, as its description says; `None` where it does not say so.
fn made(share: &dyn Share, toml: &str) -> anyhow::Result<Option<Timestamp>> {
    let mut text = String::new();
    let file = share.open(toml)?;
    file.take(LONGEST)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {toml} on {}", share.name()))?;
    let meta = ImageMeta::from_toml(&text).ok();
    Ok(meta.and_then(|meta| meta.created.parse().ok()))
}

/// Whether there was an image to keep.
fn keep_as_old(work: &Work<'_>, old: &str) -> anyhow::Result<bool> {
    let share = work.share;
    let path = work.image_path(old);
    if share.stat(&path)?.is_none() {
        // Somebody took it away meanwhile: then `.old` is all that is left of the time before.
        return Ok(false);
    }
    let (toml, old_toml) = (format!("{path}.toml"), format!("{path}.old.toml"));
    let described = share.stat(&toml)?.is_some();
    if described {
        rename_kept(work, &toml, &old_toml)?;
    } else {
        // A description of an even older image would be taken for this one's.
        share.remove(&old_toml)?;
    }
    let Err(error) = rename_kept(work, &path, &format!("{path}.old")) else {
        return Ok(true);
    };
    if described && let Err(stuck) = name_again(work, &old_toml, &toml) {
        return Err(anyhow!("{error:#}; and {stuck:#}"));
    }
    Err(error)
}

fn rename_kept(work: &Work<'_>, from: &str, to: &str) -> anyhow::Result<()> {
    work.share
        .rename(from, to)
        .with_context(|| format!("keeping {from} as {to} on {}", work.share.name()))
}

fn name_again(work: &Work<'_>, from: &str, to: &str) -> anyhow::Result<()> {
    work.share
        .rename(from, to)
        .with_context(|| format!("{from} could not be named {to} again"))
}

/// The images before get their own names back; a new one that replaced none goes.
fn take_back(work: &Work<'_>, placing: &Placing<'_>) -> anyhow::Result<()> {
    let share = work.share;
    for old in &placing.kept {
        let path = work.image_path(old);
        name_again(work, &format!("{path}.old"), &path)?;
        let (toml, old_toml) = (format!("{path}.toml"), format!("{path}.old.toml"));
        if share.stat(&old_toml)?.is_some() {
            name_again(work, &old_toml, &toml)?;
        } else {
            // The new image's description would be taken for this one's.
            share.remove(&toml)?;
        }
    }
    let file = placing.capture.file.as_str();
    // What an earlier try of this job had put in place gave way to a newer one, and that is whole.
    if placing.begun && !placing.capture.redoes && !placing.kept.contains(&file) {
        let path = work.image_path(file);
        share.remove(&path)?;
        share.remove(&format!("{path}.toml"))?;
    }
    Ok(())
}
