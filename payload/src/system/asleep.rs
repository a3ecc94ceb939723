//! Systems that sleep: what they know of their filesystems is in swap space, and they go on with it when they wake.

use super::{Volume, open, read};
use anyhow::bail;
use pitstop_imaging::image::FileSource;
use pitstop_imaging::used::{self, Swap};
use pitstop_trees::fstab::Fields;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Refuses to write to the filesystems of a system that sleeps: it goes on with what it knows of them, and destroys them.
///
/// # Errors
/// Names the swap space that holds its memory.
pub fn check_awake(here: &[Volume]) -> anyhow::Result<()> {
    let sleeps = here
        .iter()
        .find(|volume| volume.swap == Some(Swap::Hibernated));
    sleeps.map_or(Ok(()), |volume| refuse(&volume.name))
}

/// The same of swap space that is a file of the system below `root`, whose filesystems are mounted.
///
/// # Errors
/// Names the file that holds its memory.
pub fn check_files_awake(root: &Path) -> anyhow::Result<()> {
    let Some(folder) = open(root) else {
        return Ok(());
    };
    let fstab = read(&folder, "etc/fstab").unwrap_or_default();
    for line in fstab.lines().filter_map(Fields::parse) {
        let path = line.spec.trim_start_matches('/');
        let is_file = line.spec.starts_with('/') && !path.starts_with("dev/");
        if line.filesystem != "swap" || !is_file {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // One that is not there is not swapped to.
        let Ok(file) = openat2(&folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) else {
            continue;
        };
        let opened = FileSource::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())));
        if opened.is_ok_and(|source| used::swap(&source) == Some(Swap::Hibernated)) {
            return refuse(&line.spec);
        }
    }
    Ok(())
}

fn refuse(name: &str) -> anyhow::Result<()> {
    bail!("{name} holds the memory of a system that hibernates: start it and shut it down first")
}
