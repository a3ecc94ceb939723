//! Where images of trees are: files, URLs, and versions on the share of the server.

use super::new_image::{NewImage, form};
use super::versions::{self, Versions};
use crate::commands::place::encrypted::{EncryptFor, is_locked, unlocked};
use crate::commands::place::signed::{SignedBy, beside};
use crate::commands::place::{self, Destination, client, is_local, url};
use crate::host::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::encrypted::{SUFFIX, is_named_encrypted};
use pitstop_protocol::tree::{self, FOLDER, IMAGE, TreeName, version_of};
use pitstop_transport::share::trees;
use pitstop_transport::share::{DirectoryShare, HttpShare, RelayAt, Share, signed};
use pitstop_trees::{Meta, TreeImage};
use std::fs;
use std::path::PathBuf;

/// Where names are looked up.
#[derive(clap::Args)]
pub struct Where {
    #[command(flatten)]
    root: Root,
    /// Another share than that of the server here: a folder or an `http(s)://` URL
    #[arg(long, value_name = "URL")]
    share: Option<String>,
    /// Read an image that is encrypted by age with this key: a file of age-keygen's; may be repeated
    #[arg(long = "identity-file", value_name = "FILE")]
    identity_files: Vec<PathBuf>,
}

/// An image, as somebody writes it on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path or a URL.
    File(String),
    Named {
        name: String,
        version: Option<String>,
    },
}

/// Whether a name without a folder is that of a file.
fn is_file(name: &str) -> bool {
    name.strip_suffix(SUFFIX).unwrap_or(name).ends_with(IMAGE)
}

/// Whether an image is a file of this computer.
fn is_here(image: &str) -> bool {
    is_local(image) && !image.starts_with("s3://")
}

impl Place {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.contains('/') || is_file(text) || !is_local(text) {
            return Ok(Self::File(text.to_owned()));
        }
        match text.parse().map_err(anyhow::Error::msg)? {
            TreeName::Named { name, version } => Ok(Self::Named { name, version }),
            TreeName::Url(_) => Ok(Self::File(text.to_owned())),
        }
    }
}

impl Where {
    /// The share, and the folder that it is, if it is one here.
    fn share(&self) -> anyhow::Result<(Box<dyn Share>, Option<PathBuf>)> {
        let folder = match &self.share {
            Some(share) => match url(share)? {
                Some(url) => return Ok((Box::new(HttpShare::new(&url, &client()?)), None)),
                None => PathBuf::from(share),
            },
            None => self.root.path.join("share"),
        };
        let share = DirectoryShare::open(&folder).context(
            "opening the share: names of trees are on the share of the server here (--root, --share); a file has a / in \
             its name, or ends in .tar.gz",
        )?;
        Ok((Box::new(share), Some(folder)))
    }

    /// Opens an image for reading.
    pub fn open(&self, image: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        self.unlocked(self.as_it_lies(image)?)
    }

    /// Whether an image is encrypted.
    pub fn is_encrypted(&self, image: &str) -> anyhow::Result<bool> {
        is_locked(&*self.as_it_lies(image)?)
    }

    fn as_it_lies(&self, image: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        match Place::parse(image)? {
            Place::File(file) => place::source(&file),
            Place::Named { name, version } => {
                let (share, _) = self.share()?;
                let found = trees::find(&*share, &TreeName::Named { name, version })?;
                share.image(&found)
            }
        }
    }

    /// The version of a tree that is meant where none is named.
    pub fn current(&self, name: &str) -> anyhow::Result<Option<String>> {
        trees::current(&*self.share()?.0, name)
    }

    /// Whether encrypted images can be read.
    pub fn has_keys(&self) -> bool {
        !self.identity_files.is_empty()
    }

    /// Where the server of an image says who else has it; `None` where it does not.
    ///
    /// # Errors
    /// It does not answer.
    pub fn relay(&self, image: &str) -> anyhow::Result<Option<RelayAt>> {
        match Place::parse(image)? {
            Place::File(file) => place::relay_of(&file),
            Place::Named { name, version } => {
                let (share, _) = self.share()?;
                let found = trees::find(&*share, &TreeName::Named { name, version })?;
                share.relay(&found)
            }
        }
    }

    fn file(&self, file: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        self.unlocked(place::source(file)?)
    }

    fn unlocked(&self, image: Box<dyn ImageSource>) -> anyhow::Result<Box<dyn ImageSource>> {
        unlocked(image, &self.identity_files, "--identity-file")
    }

    /// Opens an image that is to be signed by `by`, if that says so.
    ///
    /// # Errors
    /// What is signed is another image, or one under another name; nobody has signed it, or somebody else.
    pub fn open_signed(
        &self,
        image: &str,
        by: &SignedBy,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<TreeImage<'static>> {
        let Some(keys) = by.keys()? else {
            return TreeImage::of(self.open(image)?);
        };
        let (source, share, about, named) = match Place::parse(image)? {
            Place::File(file) => {
                let (share, about) = beside(&file)?;
                (self.file(&file)?, share, about, None)
            }
            Place::Named { name, version } => {
                let (share, _) = self.share()?;
                let tree = TreeName::Named {
                    name: name.clone(),
                    version,
                };
                let found = trees::find(&*share, &tree)?;
                let version = version_of(&found).unwrap_or_default().to_owned();
                let about = tree::about(&name, &version);
                (
                    self.unlocked(share.image(&found)?)?,
                    share,
                    about,
                    Some((name, version)),
                )
            }
        };
        let image = TreeImage::of(source)?;
        let text = signed::text(&*share, &about, &keys, reporter)?;
        let meta = Meta::from_toml(&text).with_context(|| about.clone())?;
        let named = named.as_ref().map(|(name, version)| (&**name, &**version));
        image.check_is_of(&meta, named).with_context(|| about)?;
        Ok(image)
    }

    /// Where a new image goes.
    pub fn new_image(
        &self,
        image: &str,
        force: bool,
        encrypt: &EncryptFor,
    ) -> anyhow::Result<NewImage> {
        Ok(match Place::parse(image)? {
            Place::File(file) => NewImage::File {
                recipients: encrypt.recipients(image)?,
                destination: Destination::new(&file, force)?,
                path: is_here(&file).then(|| PathBuf::from(&file)),
            },
            Place::Named { name, version } => {
                if force {
                    bail!("a version on the share is never replaced: --force is for files");
                }
                let (share, folder) = self.share()?;
                let version = match version {
                    Some(version) => version,
                    None => trees::free_version(&*share, &name)?,
                };
                trees::check_free(&*share, &name, &version)?;
                if encrypt.is_asked() && is_named_encrypted(image) {
                    bail!(
                        "{image} ends in {SUFFIX}: the file of an encrypted version gets that ending by itself, so name the \
                         version without it"
                    );
                }
                let called = form(encrypt.is_asked()).image(&name, &version);
                NewImage::Version {
                    recipients: encrypt.recipients(&called)?,
                    share,
                    folder,
                    name,
                    version,
                    made_of: None,
                }
            }
        })
    }

    /// Whether there can be a [`new_image`](Self::new_image) of this name: asked before somebody works for it.
    ///
    /// # Errors
    /// Why there cannot. Of a pipe only the keys are looked at: whoever reads it would take a second opening for its end.
    pub fn check_new(&self, image: &str, force: bool, encrypt: &EncryptFor) -> anyhow::Result<()> {
        let is_file = matches!(Place::parse(image)?, Place::File(_));
        let is_special = |it: fs::Metadata| !it.is_file() && !it.is_dir();
        if is_file && fs::metadata(image).is_ok_and(is_special) {
            return encrypt.recipients(image).map(drop);
        }
        self.new_image(image, force, encrypt).map(drop)
    }

    /// Names of trees on the share, each with its versions, the oldest first.
    pub fn trees(&self) -> anyhow::Result<Vec<Versions>> {
        let (share, folder) = self.share()?;
        let Some(folder) = folder else {
            bail!(
                "{} is a server, which does not list its files: ask on the server itself",
                share.name()
            );
        };
        versions::of(&*share, &folder.join(FOLDER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_are_told_apart() {
        let file = |text: &str| matches!(Place::parse(text).unwrap(), Place::File(_));
        assert!(file("web.tar.gz.age"));
        assert!(file("./web") && file("web.tar.gz") && file("http://server/web") && file("/a/b"));
        assert_eq!(
            Place::parse("web@1.2").unwrap(),
            Place::Named {
                name: "web".into(),
                version: Some("1.2".into())
            }
        );
        for wrong in ["", ".web", "web@", "we b", "-x", "web@.."] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
