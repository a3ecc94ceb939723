//! Jobs that a machine would take, and that would fail there or lose an image.

use super::image::Images;
use super::{Conflict, One, Wish};
use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_protocol::job::{Action, DiskSelector, Job};
use std::collections::HashMap;
use std::path::Path;

/// Refuses to back two machines up into one folder: the later one would fail, or take the place of the other's image.
pub fn check_folders(wish: &Wish, prepared: &[One]) -> anyhow::Result<()> {
    let backups = prepared
        .iter()
        .filter(|one| matches!(one.job.action, Action::Backup(_) | Action::BackupAgain(_)));
    let mut taken = HashMap::new();
    for one in backups {
        let Some(folder) = wish.folder_known(&one.target, &one.job) else {
            continue;
        };
        let share = one.job.share.as_ref().map(ToString::to_string);
        if let Some(other) = taken.insert((share, folder.clone()), &one.target) {
            bail!(
                "{other} and {} would both be backed up into {folder}: give each a folder of its own with \
                 --image '{{hostname}}', or name the one machine",
                one.target
            );
        }
    }
    Ok(())
}

/// Whether the image is there for a `restore`, and is not there for a `backup`.
pub fn check_images(root: &Path, job: &Job, folder: &str) -> anyhow::Result<()> {
    if !matches!(job.action, Action::Backup(_) | Action::Restore(_)) {
        return Ok(());
    }
    let path = root.join("share");
    if !path.exists() {
        bail!(
            "there is no {}, where images are: `pitstop serve` with this root makes it; or name another share with --share",
            path.display()
        );
    }
    let images = Dir::open_ambient_dir(&path, ambient_authority())
        .and_then(|share| Images::find(&share, folder))
        .with_context(|| format!("looking for images in {}/{folder}", path.display()))?;
    let mut names = Vec::new();
    for disk in &job.disks {
        match disk {
            DiskSelector::Name(name) => names.push(name.clone()),
            // Which name such a disk will have is known on the machine alone.
            DiskSelector::Serial(_) | DiskSelector::Wwn(_) => return Ok(()),
        }
    }
    let there = images.in_the_way(&names);
    match job.action {
        Action::Backup(_) if !there.is_empty() => Err(Conflict(format!(
            "there is already {} in {}/{folder}: backup would refuse to replace it; backup-again keeps it as .old",
            there.join(", "),
            path.display()
        ))
        .into()),
        Action::Restore(_) => match images.lacks(&names) {
            Some(disk) => Err(Conflict(format!(
                "there is no image of {disk} in {}/{folder}",
                path.display()
            ))
            .into()),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
