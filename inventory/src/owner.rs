//! Root's commands write among the files of the server's user, who has to be able to write them afterwards.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Gives `path` to whoever owns the folder that it is in.
pub fn as_its_folder(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let (folder, own) = (fs::metadata(parent)?, fs::metadata(path)?);
    if (folder.uid(), folder.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    match chown(path, Some(folder.uid()), Some(folder.gid())) {
        // Not root: then it is this user's own folder to write to, or a group's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}
