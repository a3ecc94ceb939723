//! GRUB for BIOS, made anew by the tree's own `grub-mkimage`: its `core.img` searches its filesystem by UUID, and so finds it whatever
//! its partition's number is. It needs no device, as `grub-install` would.

use super::grub::Images;
use super::judge::{BIOS_GRUB, Grub, MODULES, Maker};
use crate::chroot::{Call, Chroot, FILES, Given};
use crate::inside;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use rustix::fs::OFlags;
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);
/// What `core.img` does first.
const FIRST: &str = "load.cfg";
const SUFFIXES: [&str; 3] = [".mod", ".lst", ".img"];

/// Copies GRUB's modules into its folder, and makes its images.
///
/// # Errors
/// When a file is missing, or the program fails.
pub fn grub(
    chroot: &Chroot,
    root: &Root,
    grub: &Grub,
    maker: &Maker,
    reporter: &dyn Reporter,
) -> anyhow::Result<Images> {
    let folder = format!("{}/{BIOS_GRUB}", grub.folder);
    copy_modules(root, &folder)
        .with_context(|| format!("copying the modules of GRUB to {folder}"))?;
    let core = format!("{folder}/core.img");
    let mut arguments: Vec<OsString> = ["-O", BIOS_GRUB, "-d", MODULES, "-c"]
        .map(OsString::from)
        .into();
    arguments.push(format!("{FILES}/{FIRST}").into());
    arguments.extend([
        "-p".into(),
        grub.within.clone().into(),
        "-o".into(),
        core.clone().into(),
    ]);
    arguments.extend(maker.modules.iter().map(OsString::from));
    let first = format!(
        "search.fs_uuid {} root\nset prefix=($root)'{}'\n",
        grub.uuid, grub.within
    );
    let call = Call {
        program: maker.program.into(),
        arguments,
        environment: Vec::new(),
        files: vec![Given {
            name: FIRST.into(),
            mode: 0o644,
            bytes: first.into_bytes(),
        }],
        secrets: Vec::new(),
        limit: LIMIT,
        label: "grub-mkimage".into(),
    };
    chroot.run(&call, reporter).context("making GRUB anew")?;
    let read = |path: &str| inside::read(root, path.trim_start_matches('/'));
    Images::new(read(&format!("{MODULES}/boot.img"))?, read(&core)?)
}

/// Makes an empty configuration where there is none, to be filled by the tree's own programs. Whether it did.
///
/// # Errors
/// When it cannot be written.
pub fn configuration(root: &Root, grub: &Grub) -> anyhow::Result<bool> {
    let folder = grub.folder.trim_start_matches('/');
    let path = format!("{folder}/grub.cfg");
    if inside::open(root, &path, OFlags::PATH).is_ok() {
        return Ok(false);
    }
    inside::make_folders(&inside::top(root)?, folder)
        .with_context(|| format!("making {}", grub.folder))?;
    inside::write(root, &path, b"")?;
    Ok(true)
}

fn copy_modules(root: &Root, folder: &str) -> anyhow::Result<()> {
    let folder = folder.trim_start_matches('/');
    inside::make_folders(&inside::top(root)?, folder)?;
    let from = MODULES.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = inside::open(root, from, flags)?;
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))? {
        let Ok(name) = entry?.file_name().into_string() else {
            bail!("a module in {MODULES} has a name that is no text");
        };
        if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            let bytes = inside::read(root, &format!("{from}/{name}"))?;
            inside::write(root, &format!("{folder}/{name}"), &bytes)?;
        }
    }
    Ok(())
}
