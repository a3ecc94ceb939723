//! Files that are whole or not there at all.

use anyhow::{Context, Result, bail};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Tells on standard output what was made: it is whole, whether anybody reads that or not.
pub fn tell(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The folder that a file is in.
pub fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes beside `output` and renames: a reader sees the old file or the new one. Returns its size in bytes.
pub fn write_whole(output: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<u64> {
    let folder = folder(output);
    // A file would take the place of a stick's name, and the stick would stay as it is.
    if output.exists() && !output.is_file() {
        bail!(
            "{} is not a plain file: write one elsewhere, and copy it there (dd if=FILE of={} bs=1M conv=fsync)",
            output.display(),
            output.display()
        );
    }
    if folder
        .canonicalize()
        .is_ok_and(|real| real.starts_with("/dev"))
        && !output.exists()
    {
        bail!(
            "there is no {}: a file there would be in memory",
            output.display()
        );
    }
    let act = || format!("writing {}", output.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(act)?;
    write(file.as_file_mut()).with_context(act)?;
    file.as_file_mut().flush().with_context(act)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .with_context(act)?;
    file.as_file().sync_all().with_context(act)?;
    let size = file.as_file().metadata().with_context(act)?.len();
    file.persist(output).with_context(act)?;
    Ok(size)
}
