//! Taking images away: under a name that nobody looks for first, so that what has changed meanwhile can be put back.

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use pitstop_api::Image;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What lies beside an image and goes with it: what describes it, and the signature of that.
pub(super) const BESIDE: [&str; 2] = [".toml", ".toml.minisig"];
/// What the name of a file that was taken away ends with; it begins with a dot.
const ASIDE: &str = ".pruned";

/// Removes an image that is as it was when it was judged, and what describes it. Where that fails all have their names again.
pub fn remove(root: &Path, image: &Image) -> anyhow::Result<()> {
    let path = root.join("share").join(&image.path);
    let mut taken = Vec::new();
    let begun =
        take(&path, image, &mut taken).and_then(|()| taken.iter().take(1).try_for_each(gone));
    if let Err(mut error) = begun {
        for one in &taken {
            if let Err(stuck) = one.back() {
                error = anyhow!("{error:#}; and {stuck:#}");
            }
        }
        return Err(error);
    }
    // The image is gone.
    taken.iter().skip(1).try_for_each(gone)
}

fn gone(taken: &Taken) -> anyhow::Result<()> {
    fs::remove_file(&taken.at).with_context(|| {
        let (at, from) = (taken.at.display(), taken.from.display());
        format!("removing {at}, which was {from} and is not wanted any more")
    })
}

fn take(path: &Path, image: &Image, taken: &mut Vec<Taken>) -> anyhow::Result<()> {
    let first = Taken::away(path)?;
    let at = first.at.clone();
    taken.push(first);
    let now = fs::metadata(&at).with_context(|| format!("looking at {}", path.display()))?;
    let modified = now
        .modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    let same = now.len() == image.file_size
        && modified.map(Timestamp::as_second) == image.modified.map(Timestamp::as_second);
    if !same {
        bail!(
            "{} has changed just now: run the command again",
            path.display()
        );
    }
    for end in BESIDE {
        match Taken::away(&with_end(path, end)) {
            Ok(beside) => taken.push(beside),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file under a name that nobody looks for: under its own another one may come at any time, when a backup ends.
#[derive(Debug)]
struct Taken {
    from: PathBuf,
    at: PathBuf,
}

impl Taken {
    fn away(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let at = path.with_file_name(format!(".{name}{ASIDE}"));
        if at.symlink_metadata().is_ok() {
            bail!(left(&at, path));
        }
        fs::rename(path, &at).with_context(|| format!("removing {}", path.display()))?;
        Ok(Self {
            from: path.to_owned(),
            at,
        })
    }

    /// Where another one has come under its name, it stays beside that.
    fn back(&self) -> anyhow::Result<()> {
        rename_new(&self.at, &self.from).with_context(|| {
            let (at, from) = (self.at.display(), self.from.display());
            format!("{at} is not to be removed, and was {from}: giving it its name back")
        })
    }
}

/// Gives a file a name that no other one has. Not every filesystem knows renames that look (NFS), or second names (FAT).
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        outcome => Ok(outcome?),
    }
}

/// What a run that was cut short has left in these folders of the share, as sentences.
pub fn left_aside(root: &Path, folders: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        // What cannot be listed has been told already.
        let Ok(entries) = fs::read_dir(root.join("share").join(folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let own = name.strip_prefix('.').and_then(|n| n.strip_suffix(ASIDE));
            if let Some(own) = own {
                let at = entry.path();
                found.push(left(&at, &at.with_file_name(own)));
            }
        }
    }
    found.sort();
    found
}

fn left(at: &Path, from: &Path) -> String {
    let (at, from) = (at.display(), from.display());
    format!(
        "{at} was left by a run that was cut short: it was {from}. Remove it, or give it its name back if it is wanted"
    )
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn is_missing(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const PATH: &str = "golden/sda.raw.gz.old";

    /// A share with an image and what is beside it, and where they are.
    fn share(beside: &[&str]) -> (TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("share").join(PATH);
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        fs::write(&old, "image").unwrap();
        for end in beside {
            fs::write(with_end(&old, end), "toml").unwrap();
        }
        (root, old)
    }

    /// The image as it is now.
    fn judged(old: &Path) -> Image {
        let found = fs::metadata(old).unwrap();
        let modified = Timestamp::try_from(found.modified().unwrap()).unwrap();
        Image {
            path: PATH.into(),
            file_size: found.len(),
            modified: Timestamp::from_second(modified.as_second()).ok(),
            ..Image::default()
        }
    }

    fn files_beside(old: &Path) -> usize {
        fs::read_dir(old.parent().unwrap()).unwrap().count()
    }

    #[test]
    fn another_image_that_has_taken_the_name_stays_with_what_describes_it() {
        let (root, old) = share(&BESIDE);
        let image = judged(&old);
        fs::write(&old, "another").unwrap();
        let error = remove(root.path(), &image).unwrap_err().to_string();
        assert!(error.contains("has changed just now"), "{error}");
        assert_eq!(fs::read(&old).unwrap(), b"another");
        assert_eq!(files_beside(&old), 3);
        remove(root.path(), &judged(&old)).unwrap();
        assert_eq!(files_beside(&old), 0);
    }

    #[test]
    fn what_cannot_be_removed_as_a_whole_has_its_name_again() {
        let (root, old) = share(&[".toml"]);
        let image = judged(&old);
        // As a run leaves it that was cut short.
        let left = old.with_file_name(".sda.raw.gz.old.toml.pruned");
        fs::write(&left, "an earlier one").unwrap();
        let error = remove(root.path(), &image).unwrap_err().to_string();
        assert!(error.contains("was left by a run"), "{error}");
        assert_eq!(fs::read(&old).unwrap(), b"image");
        assert_eq!(fs::read(with_end(&old, ".toml")).unwrap(), b"toml");
        assert_eq!(fs::read(&left).unwrap(), b"an earlier one");
        let told = left_aside(root.path(), &BTreeSet::from(["golden".into()]));
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(".sda.raw.gz.old.toml.pruned"), "{told:?}");
        fs::remove_file(left).unwrap();
        remove(root.path(), &image).unwrap();
        assert_eq!(files_beside(&old), 0);
    }

    #[test]
    fn a_name_is_given_back_where_there_are_no_second_names() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        // A folder has none on any filesystem, as a file on FAT.
        fs::create_dir(&path).unwrap();
        let taken = Taken::away(&path).unwrap();
        assert!(!path.exists());
        taken.back().unwrap();
        assert!(path.is_dir());
        // Another one that has come meanwhile is not replaced.
        let taken = Taken::away(&path).unwrap();
        fs::write(&path, "another").unwrap();
        let error = taken.back().unwrap_err().to_string();
        assert!(error.contains(".x.pruned is not to be removed"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"another");
        assert!(taken.at.is_dir());
    }
}
