//! An image of a tree that is to be written: a file, or a version on the share.

use crate::commands::place::Destination;
use anyhow::bail;
use pitstop_age::{Recipients, encrypting};
use pitstop_imaging::event::Reporter;
use pitstop_protocol::tree;
use pitstop_transport::share::Share;
use pitstop_transport::share::trees::{self, Form};
use pitstop_trees::Meta;
use std::io::Write;
use std::path::PathBuf;

/// An image that is to be written.
pub enum NewImage {
    File {
        destination: Destination,
        /// Who can read it, where that is not everybody.
        recipients: Option<Recipients>,
        path: Option<PathBuf>,
    },
    Version {
        recipients: Option<Recipients>,
        share: Box<dyn Share>,
        folder: Option<PathBuf>,
        name: String,
        version: String,
        /// The current version that it was made of, where it is to follow that one and no other.
        made_of: Option<String>,
    },
}

impl NewImage {
    /// The metadata that the image begins with.
    pub fn meta(&self) -> Meta {
        match self {
            Self::File { .. } => Meta::default(),
            Self::Version { name, version, .. } => Meta {
                name: name.clone(),
                version: version.clone(),
                ..Meta::default()
            },
        }
    }

    /// Where it is on this computer, if it is.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Version {
                recipients,
                folder,
                name,
                version,
                ..
            } => {
                let image = form(recipients.is_some()).image(name, version);
                folder.as_ref().map(|folder| folder.join(image))
            }
        }
    }

    /// Has a version become the current one only where `version`, of which it is made, is that still.
    pub fn follow(&mut self, version: Option<String>) {
        if let Self::Version { made_of, .. } = self {
            *made_of = version;
        }
    }

    /// Says what it is called, and how it is signed. Beside a pipe and in a store lies nothing that could be.
    pub fn announce(&self, reporter: &dyn Reporter) {
        let about = match self {
            Self::File { path: None, .. }
            | Self::File {
                destination: Destination::Stream(_),
                ..
            } => return,
            Self::File {
                path: Some(path), ..
            } => format!("{}.toml", path.display()),
            Self::Version {
                share,
                folder,
                name,
                version,
                ..
            } => {
                reporter.info(format!("{name}@{version} is the current version"));
                let about = tree::about(name, version);
                match folder {
                    Some(folder) => folder.join(about).display().to_string(),
                    None => format!("{about} on {}", share.name()),
                }
            }
        };
        reporter.info(format!("to sign it: minisign -S -s KEY.sec -m {about}"));
    }

    /// Has `fill` write the image. Only when it is whole it gets its name, then its `.toml`, and then a version becomes the
    /// current one.
    pub fn write(
        &self,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<Meta>,
    ) -> anyhow::Result<()> {
        match self {
            Self::File {
                destination,
                recipients,
                ..
            } => destination.write_described(|out| {
                Ok(Some(packed(out, recipients.as_ref(), fill)?.to_toml()?))
            }),
            Self::Version {
                recipients,
                share,
                name,
                version,
                made_of,
                ..
            } => {
                let form = form(recipients.is_some());
                trees::add_beside(&**share, name, version, form, |out| {
                    packed(out, recipients.as_ref(), fill)?.to_toml()
                })?;
                if let Some(old) = made_of {
                    check_follows(&**share, name, version, old)?;
                }
                trees::make_current(&**share, name, version)
            }
        }
    }
}

/// Whether the current version is `old` still, of which `version` was made: what somebody else has changed meanwhile is not in it.
fn check_follows(share: &dyn Share, name: &str, version: &str, old: &str) -> anyhow::Result<()> {
    match trees::current(share, name)? {
        Some(current) if current != old => bail!(
            "{name}@{version} is made of {name}@{old}, and {name}@{current} became the current version meanwhile: it stays that, for \
             {name}@{version} has nothing of what changed in it (pitstop tree diff {name}@{old} {name}@{current}). Do your changes \
             again in the current one; or write {version} into {}, if the other's are not wanted",
            tree::current(name)
        ),
        _ => Ok(()),
    }
}

/// What the image of a version is.
pub fn form(is_encrypted: bool) -> Form {
    if is_encrypted {
        Form::Encrypted
    } else {
        Form::Plain
    }
}

/// Has `fill` write the image, encrypted where not everybody is to read it.
fn packed(
    out: &mut (dyn Write + Send),
    recipients: Option<&Recipients>,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<Meta>,
) -> anyhow::Result<Meta> {
    match recipients {
        Some(recipients) => encrypting(out, recipients, fill),
        None => fill(out),
    }
}
