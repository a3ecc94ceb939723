//! Small files that others read while they are written.

use cap_std::fs::Dir;
use cap_tempfile::TempFile;
use std::io::{self, Write};

/// Puts `text` under `name`, in place of what is there, in one step: a reader finds the old file or the new one.
pub fn replace(folder: &Dir, name: &str, text: &str) -> io::Result<()> {
    let mut file = TempFile::new(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.replace(name)?;
    folder.open(".")?.sync_all()
}
