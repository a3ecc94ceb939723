//! Small files that others read while they are written.

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, MetadataExt, Permissions, PermissionsExt};
use cap_tempfile::TempFile;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::fchown;
use std::path::Path;

/// Puts `text` under `name`, in place of what is there, in one step: a reader finds the old file or the new one.
pub fn replace(folder: &Dir, name: &str, text: &str) -> io::Result<()> {
    put(folder, TempFile::new(folder)?, name, text)
}

/// The same for what nobody but the owner may read.
pub fn replace_private(folder: &Dir, name: &str, text: &str) -> io::Result<()> {
    let file = TempFile::new(folder)?;
    // Before anything is in it.
    let private = Permissions::from_mode(0o600);
    file.as_file().set_permissions(private)?;
    put(folder, file, name, text)
}

fn put(folder: &Dir, mut file: TempFile<'_>, name: &str, text: &str) -> io::Result<()> {
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

/// Opens a folder below `root`, and makes what is missing of it, each part for the owner of the one above.
pub fn make_folder(root: &Path, below: &[&str]) -> io::Result<Dir> {
    let mut folder = Dir::open_ambient_dir(root, ambient_authority())?;
    let mut path = root.to_owned();
    for name in below {
        match folder.create_dir(name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.and_then(|()| give_to_owner_of(&folder, &folder.open(name)?))?,
        }
        path.push(name);
        // By its whole path: the admin may have made it a symlink to elsewhere.
        folder = Dir::open_ambient_dir(&path, ambient_authority())?;
    }
    Ok(folder)
}

/// Removes a file. Returns whether it was there.
pub fn remove(folder: &Dir, name: &str) -> io::Result<bool> {
    match folder.remove_file(name) {
        Ok(()) => folder.open(".")?.sync_all().map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
