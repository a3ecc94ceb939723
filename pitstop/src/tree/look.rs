//! Reading images of trees: unpacked, checked, described, compared, listed.

use super::shared::Shared;
use super::store::Where;
use super::text::{describe, difference, long};
use super::{Out, print};
use crate::commands::place::reporter;
use crate::commands::place::signed::SignedBy;
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::units;
use pitstop_trees::{Difference, TreeImage};
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How every command names the image that it reads.
#[derive(clap::Args)]
pub struct ImageArg {
    /// A NAME or NAME@VERSION on the share, a path or an `http(s)://` URL
    image: String,
    #[command(flatten)]
    place: Where,
}

impl ImageArg {
    pub fn with<R>(&self, act: impl FnOnce(&TreeImage) -> anyhow::Result<R>) -> anyhow::Result<R> {
        let source = self.place.open(&self.image)?;
        act(&TreeImage::open(&*source)?)
    }
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree extract web /mnt
  pitstop tree extract web.tar.gz new-folder
  pitstop tree extract web /mnt --share http://server:8080/share --distribute swarm

As root. The folder is made, or is empty.")]
pub struct Extract {
    #[command(flatten)]
    image: ImageArg,
    /// Where to
    folder: PathBuf,
    /// Cores to use; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    shared: Shared,
}

pub fn extract(args: &Extract) -> anyhow::Result<()> {
    let ImageArg {
        image: named,
        place,
    } = &args.image;
    let reporter = reporter();
    args.image.with(|image| {
        let node = args.shared.join(named, place, image, &reporter)?;
        let feed = node.as_ref().map(|node| node as &dyn Feed);
        pitstop_trees::extract_fed(image, &args.folder, args.threads, feed, &reporter)
    })
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pitstop tree verify web\n  pitstop tree verify web --signed-by lab.pub"
)]
pub struct Verify {
    #[command(flatten)]
    image: ImageArg,
    #[command(flatten)]
    signed: SignedBy,
    /// Cores to use; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

pub fn verify(args: &Verify) -> anyhow::Result<()> {
    let reporter = reporter();
    let ImageArg { image, place } = &args.image;
    let image = place.open_signed(image, &args.signed, &reporter)?;
    pitstop_trees::verify(&image, args.threads, &reporter)?;
    reporter.info(format!(
        "{} is right: {} entries, {} of files",
        image.name(),
        image.index.placed().len(),
        units::bytes(image.index.data_bytes())
    ));
    Ok(())
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pitstop tree inspect web --json")]
pub struct Inspect {
    #[command(flatten)]
    image: ImageArg,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn inspect(args: &Inspect) -> anyhow::Result<()> {
    args.image.with(|image| {
        if !args.json {
            return print(&describe(image));
        }
        let value = json!({
            "image-size": image.size(),
            "tar-size": image.index.raw_size(),
            "members": image.index.members().len(),
            "meta": image.meta_beside(),
        });
        let text = serde_json::to_string_pretty(&value).context("writing JSON")?;
        print(&(text + "\n"))
    })
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree diff web@2026-11-01T080000Z web
  pitstop tree diff old.tar.gz new.tar.gz --json

A line each: + is new, - is gone, M is changed, with what about it.")]
pub struct Diff {
    /// The first image
    old: String,
    /// The second one
    new: String,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub fn diff(args: &Diff) -> anyhow::Result<()> {
    let (old, new) = (args.place.open(&args.old)?, args.place.open(&args.new)?);
    let (old, new) = (TreeImage::open(&*old)?, TreeImage::open(&*new)?);
    let found = pitstop_trees::diff(&old.index, &new.index);
    if args.json {
        let entries: Vec<_> = found.iter().map(difference_json).collect();
        let text = serde_json::to_string_pretty(&entries).context("writing JSON")?;
        return print(&(text + "\n"));
    }
    print(&found.iter().map(difference).collect::<String>())
}

fn difference_json(difference: &Difference) -> serde_json::Value {
    let path = difference.path().to_string();
    match difference {
        Difference::Added(_) => json!({ "path": path, "change": "added" }),
        Difference::Removed(_) => json!({ "path": path, "change": "removed" }),
        Difference::Changed(_, _, what) => {
            json!({ "path": path, "change": "changed", "what": what })
        }
    }
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  pitstop tree cat web /etc/fstab\n\nOnly what holds the file is read."
)]
pub struct Cat {
    #[command(flatten)]
    image: ImageArg,
    /// The file; symlinks are followed as they would be in that system
    #[arg(value_name = "PATH")]
    file: OsString,
}

pub fn cat(args: &Cat) -> anyhow::Result<()> {
    args.image.with(|image| {
        let mut out = BufWriter::new(Out(std::io::stdout().lock()));
        pitstop_trees::cat(image, args.file.as_bytes(), &mut out)
    })
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree list
  pitstop tree list web
  pitstop tree list web.tar.gz --long")]
pub struct List {
    /// A NAME or NAME@VERSION on the share, a path or a URL; left out, the share is listed
    image: Option<String>,
    /// Also mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// For programs: of the share
    #[arg(long, conflicts_with = "image")]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub fn list(args: &List) -> anyhow::Result<()> {
    let Some(image) = &args.image else {
        return list_share(args);
    };
    let source = args.place.open(image)?;
    let image = TreeImage::open(&*source)?;
    let mut out = BufWriter::new(Out(std::io::stdout().lock()));
    for entry in image.index.entries() {
        let line = if args.long {
            long(entry)
        } else {
            entry.path.to_string()
        };
        writeln!(out, "{line}").context("writing to standard output")?;
    }
    out.flush().context("writing to standard output")
}

fn list_share(args: &List) -> anyhow::Result<()> {
    let trees = args.place.trees()?;
    if args.json {
        let trees: Vec<_> = trees
            .iter()
            .map(|tree| {
                let versions: Vec<&str> = tree.all.iter().map(|it| it.name.as_str()).collect();
                json!({ "name": tree.name, "current": tree.current, "versions": versions })
            })
            .collect();
        let text = serde_json::to_string_pretty(&trees).context("writing JSON")?;
        return print(&(text + "\n"));
    }
    let mut text = String::new();
    for tree in &trees {
        for version in tree.all.iter().map(|it| &it.name) {
            let size = std::fs::metadata(tree.path(version)).map_or(0, |found| found.len());
            let mark = if tree.current.as_ref() == Some(version) {
                "  current"
            } else {
                ""
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}@{version}  {}{mark}",
                tree.name,
                units::bytes(size)
            );
        }
    }
    print(&text)
}
