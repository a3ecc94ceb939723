//! Files that nobody but their owner reads, replaced in one step.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that changed so lately may change again without a new time: clocks of filesystems are coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// Makes `folder`, which its owner alone can enter: the owner of the folder that it is in.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let above = folder.parent().unwrap_or_else(|| Path::new("."));
    if let Some((user, group)) = owner_to_be(above, &fs::metadata(folder)?)? {
        chown(folder, Some(user), Some(group))?;
    }
    Ok(())
}

/// Whom to give to what was `made` in `folder`: a server that runs as a user of its own reads what root has made.
fn owner_to_be(folder: &Path, made: &Metadata) -> io::Result<Option<(u32, u32)>> {
    let owner = fs::metadata(folder)?;
    Ok((made.uid() == 0 && owner.uid() != 0).then(|| (owner.uid(), owner.gid())))
}

/// Opens a file that its owner alone can read; made if missing.
pub fn open_private(folder: &Path, name: &str, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.create(true).mode(0o600).open(folder.join(name))?;
    if let Some((user, group)) = owner_to_be(folder, &file.metadata()?)? {
        fchown(&file, Some(user), Some(group))?;
    }
    Ok(file)
}

/// Puts `text` under `name`: a reader finds the old file or the new one. Only one at a time may do so with one name.
pub fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = format!(".{name}.new");
    let path = folder.join(&beside);
    // Of somebody who was stopped in the middle: not taken over, whatever its owner and mode are.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(
        folder,
        &beside,
        OpenOptions::new().write(true).create_new(true),
    )?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&path, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// What changes with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, u64, (i64, i64));

impl Stamp {
    pub fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.size(), (file.ctime(), file.ctime_nsec()))
    }

    /// Whether what is written next is sure to have another stamp.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.unwrap_or_default().as_secs();
        u64::try_from(self.2.0).is_ok_and(|changed| seconds.abs_diff(changed) > SETTLED.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_its_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("people");
        make_private_folder(&folder).unwrap();
        make_private_folder(&folder).unwrap();
        fs::write(folder.join(".users.toml.new"), "half").unwrap();
        for text in ["one", "two"] {
            replace(&folder, "users.toml", text).unwrap();
            assert_eq!(fs::read_to_string(folder.join("users.toml")).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("users.toml")), 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
