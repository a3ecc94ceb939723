//! Whether what is to be mounted has a folder in the tree, found before the disk is written.

use super::volumes::{Volume, Volumes};
use anyhow::{Context, bail};
use pitstop_trees::entry::Kind;
use pitstop_trees::index::Index;
use pitstop_trees::path::TreePath;

/// # Errors
/// Names the mount point that is no folder of the tree, or none of any system; and two filesystems that could not be told apart.
pub fn check(index: &Index, volumes: &Volumes) -> anyhow::Result<()> {
    for volume in &volumes.all {
        let mount = &volume.mount;
        let mut at = TreePath::root();
        for name in mount.split('/').filter(|name| !name.is_empty()) {
            at = at
                .join(name.as_bytes())
                .with_context(|| format!("{mount:?} is no place for a filesystem"))?;
            // What is not there is made.
            let Some(number) = index.find(at.as_bytes()) else {
                continue;
            };
            match &index.placed()[number].entry.kind {
                Kind::Folder => {}
                Kind::Symlink(target) => bail!(
                    "{mount} is to be a filesystem, and {at} is a symlink in the tree, to {}: mount it where that leads",
                    String::from_utf8_lossy(target)
                ),
                kind => bail!(
                    "{mount} is to be a filesystem, and {at} is no folder in the tree: it is a {}",
                    kind.word()
                ),
            }
        }
        let uuid = &volumes.entry(volume).uuid;
        let same = |other: &&Volume| {
            other.index != volume.index && volumes.entry(other).uuid.eq_ignore_ascii_case(uuid)
        };
        if let Some(other) = volumes.all.iter().find(same) {
            bail!(
                "{mount} and {} of the layout have the same uuid, {uuid}: the system would take one for the other",
                other.mount
            );
        }
    }
    Ok(())
}
