//! Filesystems with new UUIDs: what names the old ones in a tree names the new ones.
//!
//! An identifier and its successor are equally long, so a file is changed where it stands: also GRUB's environment block of 1024
//! bytes, and programs of the firmware that have a command line or a search in them.

mod replace;

use crate::chroot::{Call, Chroot};
use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::references;
use rustix::fs::OFlags;
use std::fs::File;
use std::time::Duration;

/// Where a filesystem may be mounted whose files boot loaders read.
const PLACES: [&str; 4] = ["", "boot/", "efi/", "boot/efi/"];
/// Further files of a tree, and every file of some folders.
const FILES: [&str; 2] = ["etc/systemd/system/tmp.mount", "etc/lilo.conf"];
const FOLDERS: [&str; 1] = ["etc/systemd/system"];
/// A boot configuration takes seconds, and minutes where many kernels are.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// One identifier and what it became, both as they are written in files: `6a7b…-…`, `ABCD-1234`. Equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub from: String,
    pub to: String,
}

/// Whether a program of the firmware (`EFI/*/*.efi`, by its path and its bytes) stands new identifiers: asked before the first
/// write.
///
/// # Errors
/// When it is signed and names an old one, as the command line of a unified kernel image does: changing it would break its
/// signature.
pub fn check_program(path: &str, program: &[u8], changed: &[Changed]) -> anyhow::Result<()> {
    let Some(named) = replace::first(program, changed) else {
        return Ok(());
    };
    if replace::is_signed(program) {
        bail!(
            "{path} is signed and names {named}: new identifiers would break its signature. Leave new-ids out, or make a tree whose command line goes by labels"
        );
    }
    Ok(())
}

/// The programs of the firmware in a tree, as paths in it, where `names` lists a folder.
pub fn programs(names: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for place in PLACES {
        for folder in names(&format!("{place}EFI")) {
            let folder = format!("{place}EFI/{folder}");
            let programs = names(&folder).into_iter();
            let programs = programs.filter(|name| name.to_ascii_lowercase().ends_with(".efi"));
            found.extend(programs.map(|name| format!("{folder}/{name}")));
        }
    }
    found
}

/// A text with the new identifiers.
pub fn renewed(mut text: Vec<u8>, changed: &[Changed]) -> Vec<u8> {
    replace::all(&mut text, changed);
    text
}

/// Writes the new identifiers wherever a tree names the old ones. Returns the files that were changed, as paths in the tree.
///
/// # Errors
/// When a file cannot be read or written, or an identifier and its successor are not equally long.
pub fn rewrite(
    root: &Root,
    changed: &[Changed],
    reporter: &dyn Reporter,
) -> anyhow::Result<Vec<String>> {
    for one in changed {
        if one.from.is_empty() || one.from.len() != one.to.len() {
            bail!(
                "{:?} cannot become {:?}: they are not equally long",
                one.from,
                one.to
            );
        }
    }
    let files = Files::of(root)?;
    let mut written = Vec::new();
    for path in texts(&files)? {
        let Some(before) = files.read(&path)? else {
            continue;
        };
        let mut after = before.clone();
        if replace::all(&mut after, changed) {
            files.write(&path, &after, 0o644)?;
            written.push(path);
        }
    }
    for path in programs(&|folder| files.list(folder).unwrap_or_default()) {
        let writing = || format!("writing new identifiers to {}", files.shown(&path));
        let opened = files
            .open(path.as_bytes(), OFlags::RDWR)
            .with_context(writing)?;
        if replace::in_file(&File::from(opened), changed).with_context(writing)? {
            written.push(path);
        }
    }
    for path in &written {
        reporter.info(format!("/{path} has the new identifiers"));
    }
    files.finish(reporter)?;
    Ok(written)
}

/// Every text that may name identifiers, each once.
fn texts(files: &Files) -> anyhow::Result<Vec<String>> {
    let mut paths: Vec<String> = FILES.map(str::to_owned).into();
    for folder in FOLDERS {
        paths.extend(
            files
                .list(folder)?
                .iter()
                .map(|name| format!("{folder}/{name}")),
        );
    }
    for place in PLACES {
        let names = |folder: &str| files.list(&format!("{place}{folder}")).unwrap_or_default();
        let found = references::candidates(&names).into_iter();
        paths.extend(found.map(|path| format!("{place}{path}")));
    }
    // Windows has them in another form.
    paths.retain(|path| !path.to_ascii_lowercase().ends_with("bcd"));
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// GRUB's configuration, and the programs that make it.
const GRUB: [(&str, &[&str]); 2] = [
    (
        "/boot/grub/grub.cfg",
        &["/usr/sbin/grub-mkconfig", "/usr/bin/grub-mkconfig"],
    ),
    (
        "/boot/grub2/grub.cfg",
        &["/usr/sbin/grub2-mkconfig", "/usr/bin/grub2-mkconfig"],
    ),
];

/// The programs that make GRUB's configuration, wherever a tree has them.
pub fn makers() -> impl Iterator<Item = &'static str> {
    GRUB.into_iter().flat_map(|(_, programs)| programs).copied()
}

/// Has the tree's own programs make its boot configuration anew, where it has such. (The initramfs:
/// [`crate::initramfs::ensure`].)
///
/// # Errors
/// When a program fails.
pub fn rebuild(chroot: &Chroot, reporter: &dyn Reporter) -> anyhow::Result<()> {
    for (configuration, programs) in GRUB {
        if !chroot.has(configuration) {
            continue;
        }
        let Some(program) = programs.iter().find(|program| chroot.has(program)) else {
            continue;
        };
        chroot
            .run(&Call::new(program, &["-o", configuration], LIMIT), reporter)
            .with_context(|| format!("making {configuration} anew"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
