//! Small files that others read while they are written.

use cap_std::fs::{Dir, File, MetadataExt};
use cap_tempfile::TempFile;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::fchown;

/// Puts `text` under `name`, in place of what is there, in one step: a reader finds the old file or the new one.
pub fn replace(folder: &Dir, name: &str, text: &str) -> io::Result<()> {
    let mut file = TempFile::new(folder)?;
    file.write_all(text.as_bytes())?;
    give_to_owner_of(folder, file.as_file())?;
    file.as_file().sync_all()?;
    file.replace(name)?;
    folder.open(".")?.sync_all()
}

/// Gives what root has just made in `folder` to the folder's owner: a server that runs as a user of its own reads it and
/// deletes it, whatever root's umask is.
pub fn give_to_owner_of(folder: &Dir, made: &File) -> io::Result<()> {
    let owner = folder.dir_metadata()?;
    let ours = made.metadata()?;
    if ours.uid() == 0 && owner.uid() != 0 {
        fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Opens the folder `name`, which is made if it is missing, for the owner of `parent`.
pub fn folder(parent: &Dir, name: &str) -> io::Result<Dir> {
    match parent.create_dir(name) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Err(_there) => {}
        Ok(()) => give_to_owner_of(parent, &parent.open(name)?)?,
    }
    parent.open_dir(name)
}

/// Removes a file. Returns whether it was there.
pub fn remove(folder: &Dir, name: &str) -> io::Result<bool> {
    match folder.remove_file(name) {
        Ok(()) => folder.open(".")?.sync_all().map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
