//! Trees of others: tars with any compression, OCI layouts. Nothing is unpacked: a tree of entries is made in memory, and the
//! data of files is read where it lies. So no symlink, no `..` and no hard link of a hostile tar leads anywhere.

mod archive;
mod build;
mod oci;
mod packed;
mod source;

pub use archive::read as read_archive;
pub use build::Builder;

use crate::capture::{CaptureOptions, capture};
use crate::facts;
use crate::meta::{LeftOut, Meta};
use crate::pack;
use anyhow::{Context, bail};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::members::Meter;
use source::ImportedTree;
use std::io::Write;
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
            read_archive(tar, None, &mut builder)
                .with_context(|| format!("reading {}", archive.name()))?;
            archive.name().to_owned()
        }
    };
    let mut meta = options.meta.clone();
    let mut tree = builder.finish(options)?;
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
