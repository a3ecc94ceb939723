//! Trees on a share: which version is meant, and how one is added. A version is never replaced, and only a whole one becomes
//! the current one.

use super::Share;
use anyhow::{Context as _, bail};
use pitstop_protocol::tree::{self, TreeName};
use std::io::{Read as _, Write};

/// Far more than the name of a version.
const MOST_BYTES: u64 = 1000;

/// The image of `name` on the share. One that is a URL is not on it.
///
/// # Errors
/// There is no such tree, or no such version.
pub fn find(share: &dyn Share, name: &TreeName) -> anyhow::Result<String> {
    let TreeName::Named { name, version } = name else {
        bail!("{name} is not on {}", share.name());
    };
    let version = match version {
        Some(version) => version.clone(),
        None => current(share, name)?.with_context(|| {
            format!(
                "there is no tree {name} on {}: `pitstop tree list` shows those that are there",
                share.name()
            )
        })?,
    };
    image_of(share, name, &version)?
        .with_context(|| format!("{name} has no version {version} on {}", share.name()))
}

/// The image of a version, plain or encrypted; `None` where there is none.
fn image_of(share: &dyn Share, name: &str, version: &str) -> anyhow::Result<Option<String>> {
    for form in [Form::Plain, Form::Encrypted] {
        let image = form.image(name, version);
        if share.stat(&image)?.is_some() {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// What the image of a version is, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// By age.
    Encrypted,
}

impl Form {
    /// Where a version of this kind is, on the share.
    pub fn image(self, name: &str, version: &str) -> String {
        match self {
            Self::Plain => tree::image(name, version),
            Self::Encrypted => tree::encrypted_image(name, version),
        }
    }
}

/// The version of `name` that is meant where none is named; `None` of a tree that has none.
///
/// # Errors
/// It cannot be read, or is no version's name.
pub fn current(share: &dyn Share, name: &str) -> anyhow::Result<Option<String>> {
    let path = tree::current(name);
    if share.stat(&path)?.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    share
        .open(&path)?
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {path} on {}", share.name()))?;
    let version = text.trim();
    tree::check_name(version)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{path} does not hold a version"))?;
    Ok(Some(version.to_owned()))
}

/// The time, as a name: `2026-11-29T014500Z`. Of two in one second the later one is told by a number.
///
/// # Errors
/// The share cannot be asked.
pub fn free_version(share: &dyn Share, name: &str) -> anyhow::Result<String> {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H%M%SZ")
        .to_string();
    let mut version = now.clone();
    let mut number = 1;
    while image_of(share, name, &version)?.is_some() {
        number += 1;
        version = format!("{now}-{number}");
    }
    Ok(version)
}

/// Whether the version can be added: one that is there is never replaced.
///
/// # Errors
/// It is there already.
pub fn check_free(share: &dyn Share, name: &str, version: &str) -> anyhow::Result<()> {
    if image_of(share, name, version)?.is_some() {
        bail!("{name} has a version {version} already, and versions are never replaced");
    }
    Ok(())
}

/// [Adds](add_beside) a version, and makes it the current one.
///
/// # Errors
/// That of `fill`; the share does not take it; the version is there already.
pub fn add(
    share: &dyn Share,
    name: &str,
    version: &str,
    form: Form,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    add_beside(share, name, version, form, fill)?;
    make_current(share, name, version)
}

/// Has `fill` write the image of a new version. Only when it is whole it gets its name, then its description, which `fill`
/// returns. The current version stays the current one.
///
/// # Errors
/// That of `fill`; the share does not take it; the version is there already.
pub fn add_beside(
    share: &dyn Share,
    name: &str,
    version: &str,
    form: Form,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let image = form.image(name, version);
    check_free(share, name, version)?;
    let mut pending = share
        .create(&image)
        .with_context(|| format!("beginning {image} on {}", share.name()))?;
    let about = fill(&mut pending)?;
    // Somebody may have been faster with a version of this name, in the other form, too.
    check_free(share, name, version)?;
    pending
        .finish_new()
        .with_context(|| format!("ending {image} on {}", share.name()))?;
    put(share, &tree::about(name, version), &about)
}

/// Makes a version that is there the current one.
///
/// # Errors
/// The share does not take it.
pub fn make_current(share: &dyn Share, name: &str, version: &str) -> anyhow::Result<()> {
    put(share, &tree::current(name), &format!("{version}\n"))
}

fn put(share: &dyn Share, path: &str, text: &str) -> anyhow::Result<()> {
    let mut pending = share.create(path)?;
    pending
        .write_all(text.as_bytes())
        .with_context(|| format!("writing {path} on {}", share.name()))?;
    pending.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::DirectoryShare;
    use std::fs;

    fn named(text: &str) -> TreeName {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_is_found_whole_and_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let error = find(&share, &named("web")).unwrap_err().to_string();
        assert!(error.starts_with("there is no tree web on"), "{error}");
        let write = |text: &'static str| {
            move |out: &mut (dyn Write + Send)| {
                out.write_all(text.as_bytes())?;
                Ok(format!("# {text}\n"))
            }
        };
        add(&share, "web", "1", Form::Plain, write("one")).unwrap();
        add(&share, "web", "2", Form::Plain, write("two")).unwrap();
        assert_eq!(find(&share, &named("web")).unwrap(), "trees/web/2.tar.gz");
        assert_eq!(find(&share, &named("web@1")).unwrap(), "trees/web/1.tar.gz");
        let error = find(&share, &named("web@3")).unwrap_err().to_string();
        assert!(error.starts_with("web has no version 3"), "{error}");
        let error = add(&share, "web", "1", Form::Encrypted, write("other")).unwrap_err();
        assert!(error.to_string().contains("never replaced"), "{error}");
        // Cut off, it is nothing.
        let cut = add(&share, "web", "4", Form::Plain, |out| {
            out.write_all(b"half")?;
            bail!("the disk went away")
        });
        assert!(cut.is_err());
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("trees/web/1.tar.gz"), "one");
        assert_eq!(read("trees/web/2.toml"), "# two\n");
        assert_eq!(read("trees/web/current"), "2\n");
        assert_eq!(
            fs::read_dir(root.path().join("trees/web")).unwrap().count(),
            5
        );
        add(&share, "web", "5", Form::Encrypted, write("five")).unwrap();
        let found = find(&share, &named("web")).unwrap();
        assert_eq!(found, "trees/web/5.tar.gz.age");
        assert!(check_free(&share, "web", "5").is_err());
        fs::write(root.path().join("trees/web/current"), "../../etc\n").unwrap();
        assert!(find(&share, &named("web")).is_err());
    }
}
