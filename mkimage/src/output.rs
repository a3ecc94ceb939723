//! Files that are whole or not there at all.

use anyhow::{Context, Result};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes beside `output` and renames: a reader sees the old file or the new one. Returns its size in bytes.
pub fn write_whole(output: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<u64> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
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
