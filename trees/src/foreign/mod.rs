//! Trees of others: tars with any compression, OCI layouts. Nothing is unpacked: a tree of entries is made in memory, and the
//! data of files is read where it lies. So no symlink, no `..` and no hard link of a hostile tar leads anywhere.

mod archive;
mod attributes;
mod build;
mod oci;
mod packed;
mod source;

pub use archive::{End, read as read_archive};
pub use build::Builder;
pub use packed::copy as spool;
pub use source::Item;

use crate::capture::{CaptureOptions, Excludes, capture};
use crate::entry::Kind;
use crate::facts;
use crate::index::EXTENTS_MOST;
use crate::meta::{LeftOut, Meta};
use crate::pack::{self, Packing};
use anyhow::{Context, bail};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::members::Meter;
use pitstop_imaging::image::{ImageSource, Level};
use source::ImportedTree;
use std::io::{self, Read, Write};
use std::path::Path;

/// Where a tree comes from.
pub enum From<'a> {
    /// A tar in a file or on a server, packed or not.
    Archive(&'a dyn ImageSource),
    /// An OCI layout, or any folder.
    Folder(&'a Path),
}

/// Writes an image of somebody else's tree to `out`. Returns what is stored beside it.
///
/// # Errors
/// When it cannot be read, is damaged, leads out of itself, or the image cannot be written.
pub fn import(
    from: &From,
    options: &CaptureOptions,
    out: &mut (dyn Write + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<Meta> {
    let mut builder = Builder::default();
    let name = match from {
        From::Folder(folder) if oci::is_layout(folder) => {
            oci::read(folder, &mut builder, reporter)?;
            folder.display().to_string()
        }
        From::Folder(folder) => {
            if !rustix::process::geteuid().is_root() {
                bail!(
                    "importing the folder {} needs root: it has files that only root can read",
                    folder.display()
                );
            }
            return capture(folder, options, out, reporter);
        }
        From::Archive(archive) => {
            let tar = packed::unpack(*archive)?;
            let end = read_archive(tar, None, &mut builder)
                .with_context(|| format!("reading {}", archive.name()))?;
            refuse_others(&builder, archive.name())?;
            let name = archive.name();
            match end {
                End::Whole => {}
                End::Open => reporter.warn(format!(
                    "{name} ends without the zeros that a tar ends with: if its writer was cut off, files are missing"
                )),
                End::Followed => reporter.warn(format!(
                    "{name} goes on behind the end of its tar, and that is not read: of several tars make one first (tar -A)"
                )),
            }
            archive.name().to_owned()
        }
    };
    let mut meta = options.meta.clone();
    let mut tree = builder.finish(options)?;
    check_maps(&tree)?;
    meta.excludes = options.excludes.patterns().to_vec();
    meta.identity = tree.identity.iter().map(ToString::to_string).collect();
    meta.left_out = std::mem::take(&mut tree.left_out)
        .into_iter()
        .map(|(path, why)| LeftOut { path, why })
        .collect();
    for left in &meta.left_out {
        reporter.warn(format!("{} is left out: {}", left.path, left.why));
    }
    facts::of_paths(&mut meta, tree.entries.iter().map(|item| &item.entry.path));
    of_files(&mut meta, &tree);
    let total = tree
        .entries
        .iter()
        .map(|item| item.entry.kind.stored())
        .sum();
    let meter = Meter::new(Act::Capture, &name, Some(total), reporter);
    pack::pack(&tree, options.packing, meta, out, &meter)
}

/// An image has less room for maps of holes than a tar.
fn check_maps(tree: &ImportedTree) -> anyhow::Result<()> {
    for Item { entry, .. } in &tree.entries {
        if let Kind::File {
            extents: Some(extents),
            ..
        } = &entry.kind
            && extents.len() > EXTENTS_MOST
        {
            bail!(
                "{} has {} stretches of data between its holes, and an image has room for {EXTENTS_MOST}: unpack the tar, and \
                 import the folder",
                entry.path,
                extents.len()
            );
        }
    }
    Ok(())
}

/// Refuses a tar that holds nothing, or the image of a container and not its files: `docker save`, `podman save`, skopeo's
/// archives.
fn refuse_others(builder: &Builder, name: &str) -> anyhow::Result<()> {
    if builder.is_empty() {
        bail!("there is nothing in {name}");
    }
    let has = |path: &str| builder.has(path.as_bytes());
    if has("oci-layout") && has("index.json") {
        bail!(
            "{name} is an OCI layout in a tar: unpack it into a folder (tar -C FOLDER -xf {name}), and import that"
        );
    }
    let is_system = ["etc", "usr", "bin", "var"].iter().any(|path| has(path));
    if has("manifest.json") && !is_system {
        bail!(
            "{name} is an image as `docker save` packs it, in layers: import what `docker export` makes of a container, or an OCI \
             layout (skopeo copy docker-archive:{name} oci:FOLDER)"
        );
    }
    Ok(())
}

/// The entries of a plain tar, in the order of a tree, with their data. What comes through `from` is kept in a file without a
/// name in the folder `work` meanwhile.
///
/// # Errors
/// When it cannot be read, is no tar, is cut short, or leads out of itself.
pub fn read_tar(from: &mut dyn Read, work: &Path) -> anyhow::Result<Vec<Item>> {
    let making = || format!("making a file in {}", work.display());
    let mut tar = tempfile::tempfile_in(work).with_context(making)?;
    io::copy(from, &mut tar).context("reading the tar")?;
    packed::check_plain(&tar)?;
    let mut builder = Builder::default();
    match read_archive(tar, None, &mut builder)? {
        End::Whole => {}
        // Nobody sees what of it is missing.
        End::Open => bail!("it ends without the zeros that a tar ends with: it may be cut short"),
        End::Followed => {
            bail!("it goes on behind the end of its tar: of several tars make one (tar -A)")
        }
    }
    let options = CaptureOptions {
        packing: Packing {
            level: Level::default(),
            threads: 1,
        },
        excludes: Excludes::new(&[])?,
        keep_identity: true,
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta::default(),
    };
    let tree = builder.finish(&options)?;
    if let Some((path, why)) = tree.left_out.first() {
        bail!("{path}: {why}");
    }
    Ok(tree.entries)
}

fn of_files(meta: &mut Meta, tree: &ImportedTree) {
    let text = |path: &&str| String::from_utf8(tree.beginning(path)?).ok();
    meta.os = facts::OS_RELEASE
        .iter()
        .find_map(text)
        .and_then(|text| facts::os_release(&text));
    let program = facts::PROGRAMS.iter().find_map(|path| tree.beginning(path));
    let machine = program.as_deref().and_then(facts::architecture);
    meta.architecture = machine.unwrap_or_default().into();
}
