//! `fleet.toml` on the disk: read in one go, replaced in one step, changed by one command at a time.

use crate::commands::place::{is_stream, led_to};
use crate::host::Root;
use anyhow::{Context, bail};
use pitstop_fleet::{BadFleet, Fleet};
use pitstop_server::fleet::{NAME, read};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the file is.
pub struct FleetFile {
    root: PathBuf,
    path: PathBuf,
}

impl FleetFile {
    pub fn at(root: &Root) -> Self {
        Self {
            root: root.path.clone(),
            path: root.path.join(NAME),
        }
    }

    /// As messages name it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub fn read(&self) -> anyhow::Result<Fleet> {
        Ok(self.parse(&self.bytes()?)?)
    }

    /// `None` where there is no file.
    pub fn read_if_there(&self) -> anyhow::Result<Option<Fleet>> {
        match self.bytes_if_there()? {
            Some(bytes) => Ok(Some(self.parse(&bytes)?)),
            None => Ok(None),
        }
    }

    pub fn parse(&self, bytes: &[u8]) -> Result<Fleet, BadFleet> {
        Fleet::parse(bytes, &self.name())
    }

    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        match self.bytes_if_there()? {
            Some(bytes) => Ok(bytes),
            None => bail!(
                "there is no {}: begin one with pitstop fleet add or import, or is the root another? (--root, PITSTOP_ROOT)",
                self.path.display()
            ),
        }
    }

    fn bytes_if_there(&self) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.path).with_context(|| format!("reading {}", self.path.display()))
    }

    /// Changes the text, if what comes out checks. Two commands at once take turns. What `change` returns beside the text is returned.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&str) -> anyhow::Result<(String, T)>,
    ) -> anyhow::Result<T> {
        let root = File::open(&self.root).with_context(|| {
            format!(
                "opening {}: is it what pitstop serve serves? (--root, PITSTOP_ROOT)",
                self.root.display()
            )
        })?;
        // Held until the file is in place.
        root.lock()
            .with_context(|| format!("locking {}", self.root.display()))?;
        let bytes = self.bytes_if_there()?;
        let text = match &bytes {
            Some(bytes) => {
                // What is wrong already is told as such, not as a fault of the change.
                self.parse(bytes)?;
                std::str::from_utf8(bytes)
                    .with_context(|| format!("reading {}", self.path.display()))?
            }
            None => pitstop_fleet::edit::NEW_FILE,
        };
        let (changed, result) = change(text)?;
        self.parse(changed.as_bytes()).with_context(|| {
            format!("{} stays as it is: it would be wrong", self.path.display())
        })?;
        if changed != text {
            replace(&self.path, changed.as_bytes())?;
        }
        Ok(result)
    }
}

/// Puts `bytes` in place of the file at `path`, or of what it is a symlink to, in one step. Mode and owner stay. A pipe or
/// `/dev/stdout` is written to.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if is_stream(path) {
        return std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()));
    }
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        bail!(
            "{} is not a plain file: nothing is written there",
            path.display()
        );
    }
    put(path, bytes, path)
}

/// Puts `bytes`, which are those of the file at `path`, into a copy of it, with its mode and owner: who may not read the
/// one may not read the other.
pub fn keep(path: &Path, bytes: &[u8], copy: &Path) -> anyhow::Result<()> {
    put(copy, bytes, path)
}

/// Puts `bytes` in place of the file at `path`, with mode and owner of the file `like`.
fn put(path: &Path, bytes: &[u8], like: &Path) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    let target = led_to(path)?;
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".pitstop-")
        .tempfile_in(folder)
        .with_context(writing)?;
    new.write_all(bytes).with_context(writing)?;
    dress(new.as_file(), like).with_context(writing)?;
    new.as_file().sync_all().with_context(writing)?;
    new.persist(&target)
        .map_err(|error| error.error)
        .with_context(writing)?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(writing)
}

/// Gives a new file the mode and owner of another one, or where that is not those of a configuration that all may read.
fn dress(new: &File, like: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let Ok(metadata) = std::fs::metadata(like) else {
        return new.set_permissions(std::fs::Permissions::from_mode(0o644));
    };
    let own = new.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(new, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    new.set_permissions(metadata.permissions())
}
