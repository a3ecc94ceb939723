//! What a filesystem's programs and the kernel would refuse, asked before the first write. The disk does not have the
//! image yet: they are asked of a file with the few blocks that they look at first.

use super::Growing;
use super::growers::Grower;
use crate::event::Silent;
use crate::extents::Extents;
use crate::source::ReadAt;
use crate::tools;
use crate::used::{Growable, growable};
use anyhow::{Context, bail};
use nix::sys::utsname::uname;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is copied at once.
const PIECE: u64 = 1 << 20;

impl Grower {
    /// Whether its programs will let the filesystem on `volume` grow, as far as that can be known: damage deep within
    /// is only found by the full check that the disk gets.
    pub(super) fn ask(&self, volume: &dyn ReadAt, growing: &Growing) -> anyhow::Result<()> {
        let Growable { head, kernel } = growable(volume, growing.filesystem, growing.to)
            .map_err(|why| anyhow::anyhow!("it cannot: {why}; restore without grow"))?;
        if let Some(needed) = kernel {
            check_kernel(needed)?;
        }
        match self.question() {
            Some((program, arguments)) if head.total() > 0 => {
                let twin = twin(volume, &head).context("making a file to ask its programs of")?;
                ask(program, arguments, twin.path())
            }
            _ => Ok(()),
        }
    }
}

fn ask(program: &str, arguments: &[&str], of: &Path) -> anyhow::Result<()> {
    let mut all: Vec<_> = arguments.iter().map(std::ffi::OsStr::new).collect();
    all.push(of.as_os_str());
    tools::run(program, &all, 0, &Silent)
        .context("asked beforehand, its program refuses it; restore without grow")
}

/// A file of the size of `volume` with nothing but `head` of it.
fn twin(volume: &dyn ReadAt, head: &Extents) -> io::Result<tempfile::NamedTempFile> {
    let twin = tempfile::NamedTempFile::new()?;
    let end = head.iter().map(|range| range.end).max().unwrap_or(0);
    // A filesystem that has no room for so long a name of nothing gets what there is.
    if twin.as_file().set_len(volume.size()).is_err() {
        twin.as_file().set_len(end)?;
    }
    for range in head.iter() {
        copy(volume, range.start, range.end, twin.as_file())?;
    }
    Ok(twin)
}

fn copy(volume: &dyn ReadAt, start: u64, end: u64, to: &File) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let length = usize::try_from(PIECE.min(end - at)).map_err(io::Error::other)?;
        let bytes = volume.bytes_at(at, length)?;
        to.write_all_at(&bytes, at)?;
        at += length as u64;
    }
    Ok(())
}

/// Whether this kernel mounts what needs one of that version.
fn check_kernel(needed: (u32, u32)) -> anyhow::Result<()> {
    let running = uname().context("asking for the kernel's version")?;
    let running = running.release().to_string_lossy();
    match version(&running) {
        Some(version) if version < needed => bail!(
            "it has features of Linux {}.{}, and grows only while it is mounted, which this kernel, {running}, cannot; \
             restore without grow",
            needed.0,
            needed.1
        ),
        _ => Ok(()),
    }
}

/// `6.1.0-18-amd64`
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_number() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.10-rc1"), Some((6, 10)));
        assert_eq!(version("next"), None);
        check_kernel((2, 6)).unwrap();
        let error = check_kernel((99, 1)).unwrap_err().to_string();
        assert!(
            error.starts_with("it has features of Linux 99.1,"),
            "{error}"
        );
    }
}
