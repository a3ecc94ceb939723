//! What can be told of a tree's initramfs before its disk is written: by what is in the image.

use super::kernels::{ENVIRONMENTS, Kernel, MODULES};
use super::rebuild::{self, Tool};
use super::{Looked, Need, look_by, refuse};
use crate::files::Files;
use crate::root::Root;
use crate::wishes::Initrd;
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::initramfs::{Visit, walk};
use pitstop_trees::TreeImage;
use pitstop_trees::entry::Kind;
use std::io;
use std::thread;

/// Where kernels, and what starts them, may be.
const BOOT: [&str; 2] = ["boot", "efi"];
/// What tells which modules a kernel has.
const INDEX: [&str; 4] = [
    "modules.dep",
    "modules.builtin",
    "modules.alias",
    "modules.builtin.modinfo",
];
const PKGBASE: &str = "pkgbase";

/// Sees to it that [`ensure`](super::ensure) has what it takes, as far as that can be told: a program of the tree that runs here,
/// where the initramfs has to be made anew, and a kernel that has the drivers.
///
/// # Errors
/// With the driver's name, when it is missing and cannot be added.
pub fn check(
    image: &TreeImage,
    needs: &[Need],
    wish: Initrd,
    changed: bool,
    runs_here: bool,
) -> anyhow::Result<()> {
    if needs.is_empty() && !changed && wish != Initrd::Rebuild {
        return Ok(());
    }
    let folder =
        tempfile::tempdir().context("making a folder for what a tree says of its kernel")?;
    let root = Root::new(folder.path().to_owned());
    let files = Files::of(&root)?;
    let Some(looked) = look_ahead(image, &files, needs)? else {
        return Ok(());
    };
    if wish == Initrd::Keep {
        return refuse(&looked, "initrd = \"auto\" makes it anew");
    }
    let kernel = &looked.kernel;
    if !looked.nowhere.is_empty() {
        bail!(
            "kernel {kernel} of the tree would not find this disk: it has no driver {}",
            looked.nowhere.join(", ")
        );
    }
    let has_one = looked.initramfs.is_some();
    let unknown = looked
        .unknown
        .as_ref()
        .filter(|_| has_one && !needs.is_empty());
    let must = wish == Initrd::Rebuild || (changed && has_one);
    if !must && looked.missing.is_empty() && unknown.is_none() {
        return Ok(());
    }
    let arch = &image.meta.architecture;
    if Tool::in_tree(&files).is_none() {
        refuse(&looked, "the tree has no program that makes one")?;
        if must {
            bail!(
                "the initramfs of kernel {kernel} cannot be made anew: the tree has none of {}",
                rebuild::names()
            );
        }
    } else if !runs_here {
        refuse(&looked, &format!("programs for {arch} do not run here"))?;
        bail!(
            "the initramfs of kernel {kernel} has to be made anew by the tree's own programs, and those for {arch} do not run \
             here: initrd = \"keep\" leaves it as it is"
        );
    }
    Ok(())
}

/// What [`look`](super::look) will find. The initramfs is looked into as it comes out of the image, and held nowhere: a small
/// machine, whose folders are in its memory, has no room for one beside all else.
pub(super) fn look_ahead(
    image: &TreeImage,
    files: &Files,
    needs: &[Need],
) -> anyhow::Result<Option<Looked>> {
    sketch(image, files)?;
    if let Some(kernel) = Kernel::of(files)? {
        for name in INDEX {
            fill(image, files, &format!("{}/{name}", kernel.modules))?;
        }
    }
    look_by(files, needs, &|path, visit| {
        // Without a need nobody asks what is in it.
        if needs.is_empty() {
            return Ok(Ok(()));
        }
        through(image, path, visit).with_context(|| format!("reading /{path} in {}", image.name()))
    })
}

/// Goes through an initramfs of the tree. It is read to its end whatever becomes of that: only then is it proven.
fn through(image: &TreeImage, path: &str, visit: Visit) -> anyhow::Result<anyhow::Result<()>> {
    let (mut reader, mut writer) = io::pipe()?;
    thread::scope(|scope| {
        let fed = scope.spawn(move || pitstop_trees::cat(image, path.as_bytes(), &mut writer));
        let walked = walk(&mut reader, visit);
        io::copy(&mut reader, &mut io::sink())?;
        fed.join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that reads it has died")))?;
        Ok(walked)
    })
}

/// The names that tell of kernels and of programs, without what is in the files; the few that are read to choose among kernels
/// are whole.
fn sketch(image: &TreeImage, files: &Files) -> anyhow::Result<()> {
    for placed in image.index.placed() {
        let entry = &placed.entry;
        let Ok(path) = std::str::from_utf8(entry.path.as_bytes()) else {
            continue;
        };
        let drawing = || format!("looking at {} in {}", entry.path, image.name());
        match &entry.kind {
            // By which others are found.
            Kind::Symlink(target) if path.matches('/').count() <= 1 || is_within(path, &BOOT) => {
                let Ok(target) = std::str::from_utf8(target) else {
                    continue;
                };
                place(files, path).with_context(drawing)?;
                files.link(path, target).with_context(drawing)?;
            }
            Kind::File { .. } | Kind::HardLink(_) if is_told_by(path) => {
                place(files, path).with_context(drawing)?;
                files.write(path, b"", 0o644).with_context(drawing)?;
            }
            _ => {}
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_read = ENVIRONMENTS.contains(&path) || name == PKGBASE;
        if is_read && is_told_by(path) {
            fill(image, files, path)?;
        }
    }
    Ok(())
}

fn is_within(path: &str, folders: &[&str]) -> bool {
    let mut folders = folders.iter();
    folders.any(|folder| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.starts_with('/'))
    })
}

fn is_told_by(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    is_within(path, &BOOT)
        || (is_within(path, &MODULES) && (INDEX.contains(&name) || name == PKGBASE))
        || rebuild::is_tool(path)
}

fn place(files: &Files, path: &str) -> anyhow::Result<()> {
    match path.rsplit_once('/') {
        Some((folder, _)) => files.make_folders(folder),
        None => Ok(()),
    }
}

/// Puts there what is in a file of the tree, if that has it.
fn fill(image: &TreeImage, files: &Files, path: &str) -> anyhow::Result<()> {
    if !files.exists(path) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    pitstop_trees::cat(image, path.as_bytes(), &mut bytes)?;
    files.write(path, &bytes, 0o644)
}
