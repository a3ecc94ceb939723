//! The subvolumes of a new Btrfs.

use super::volumes::Volume;
use crate::inside;
use anyhow::{Context, bail};
use pitstop_trees::btrfs;
use std::fs::File;
use std::path::Path;

/// Makes the subvolumes of `volumes` below `top`, where the filesystem's top is mounted, with folders on the way. With
/// `default`, the root's one becomes the one that is mounted where none is named.
///
/// # Errors
/// When a name cannot be one, or the kernel refuses.
pub fn make_subvolumes(top: &Path, volumes: &[&Volume], default: bool) -> anyhow::Result<()> {
    // One in another stands behind it.
    let mut sorted: Vec<&&Volume> = volumes.iter().collect();
    sorted.sort_by_key(|volume| &volume.subvolume);
    sorted.dedup_by_key(|volume| &volume.subvolume);
    for volume in sorted {
        let path = Path::new(&volume.subvolume);
        let making = || format!("making the subvolume {}", volume.subvolume);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !path.components().all(plain) {
            bail!("{:?} is no path of a subvolume", volume.subvolume);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{:?} is no path of a subvolume", volume.subvolume);
        };
        let above = parent.to_str().with_context(making)?;
        inside::make_folders(&File::open(top).with_context(making)?.into(), above)
            .with_context(making)?;
        let parent = top.join(parent);
        let folder = File::open(&parent).with_context(making)?;
        btrfs::create(&folder, name.as_encoded_bytes()).with_context(making)?;
        if default && volume.mount == "/" {
            let made = File::open(top.join(path)).with_context(making)?;
            btrfs::make_default(&made)
                .with_context(|| format!("making {} the default subvolume", volume.subvolume))?;
        }
    }
    Ok(())
}
