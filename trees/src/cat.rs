//! One file out of an image: only the members that have it are read.

use crate::entry::Kind;
use crate::extract::pieces;
use crate::image::TreeImage;
use crate::pack::PART;
use crate::path::TreePath;
use crate::resolve::resolve;
use anyhow::{Context, bail};
use pitstop_imaging::image::members::Inflater;
use std::io::Write;

/// Where `path` is in a tree, its symlinks followed. Something may be there or not.
///
/// # Errors
/// When they lead in circles, or to what is no path.
pub fn follow(image: &TreeImage, path: &[u8]) -> anyhow::Result<TreePath> {
    let index = &image.index;
    let link = |path: &TreePath| {
        let at = index.find(path.as_bytes())?;
        match &index.placed()[at].entry.kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        }
    };
    Ok(resolve(path, true, link)?)
}

/// Writes what is in the file at `path`, symlinks of the tree followed.
///
/// # Errors
/// When there is no such file, or it cannot be read or written.
pub fn cat(image: &TreeImage, path: &[u8], out: &mut dyn Write) -> anyhow::Result<()> {
    let index = &image.index;
    let shown = crate::path::shown(path);
    let find = |path: &TreePath| index.find(path.as_bytes());
    let found = follow(image, path).with_context(|| format!("{shown} in {}", image.name()))?;
    let Some(mut number) = find(&found) else {
        let leads = if found.to_string().trim_start_matches('/') == shown.trim_start_matches('/') {
            String::new()
        } else {
            format!("{shown} leads to {found}, and ")
        };
        bail!(
            "{leads}there is no {found} in {}: `pitstop tree list` shows what there is",
            image.name()
        );
    };
    if let Kind::HardLink(target) = &index.placed()[number].entry.kind
        && let Some(first) = find(target)
    {
        number = first;
    }
    let entry = &index.placed()[number].entry;
    let Kind::File { size, extents, .. } = &entry.kind else {
        bail!(
            "{shown} in {} is no file: it is a {}",
            image.name(),
            entry.kind.word()
        );
    };
    let mut inflater = Inflater::new()?;
    let data = index.data_range(number);
    let mut at = data.start;
    let mut written = 0;
    while at < data.end {
        let end = (at + PART).min(data.end);
        let bytes = image.read(at..end, &mut inflater)?;
        match extents {
            None => write(out, &bytes)?,
            Some(extents) => {
                for (part, place) in pieces(extents, at - data.start, bytes.len()) {
                    zeros(out, place - written)?;
                    written = place + part.len() as u64;
                    write(out, &bytes[part])?;
                }
            }
        }
        at = end;
    }
    if extents.is_some() {
        zeros(out, size - written)?;
    }
    out.flush().context("writing the file")
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> anyhow::Result<()> {
    out.write_all(bytes).context("writing the file")
}

fn zeros(out: &mut dyn Write, mut count: u64) -> anyhow::Result<()> {
    let block = [0; 4096];
    while count > 0 {
        let now = usize::try_from(count)
            .unwrap_or(block.len())
            .min(block.len());
        write(out, &block[..now])?;
        count -= now as u64;
    }
    Ok(())
}
