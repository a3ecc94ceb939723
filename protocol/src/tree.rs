//! Trees on a share: what they are called there, and how a job or a command line names one.
//!
//! `trees/web/2026-11-29T014500Z.tar.gz` is a version of the tree `web`, its description is `….toml` beside it, and
//! `trees/web/current` names the version that is meant where none is. An encrypted one ends in `.tar.gz.age`.

use pitstop_imaging::image::encrypted::SUFFIX;
use std::fmt;
use std::str::FromStr;
use url::Url;

/// The folder of trees on a share.
pub const FOLDER: &str = "trees";
/// The file in a tree's folder that names its current version.
pub const CURRENT: &str = "current";
/// How an image of a tree ends.
pub const IMAGE: &str = ".tar.gz";
/// How the description beside an image ends.
pub const ABOUT: &str = ".toml";
/// How a folder of files by layer ends where an HTTP share gives it as one file.
pub const LAYER: &str = ".tar";
/// The folder of layers on a share.
pub const LAYERS: &str = "layers";
/// The folder of hooks on a share.
pub const HOOKS: &str = "hooks";
/// The folder of what hooks are to know and nobody else, encrypted by age.
pub const SECRETS: &str = "secrets";

/// Longer names are no names.
const LONGEST: usize = 100;

/// A tree as a job names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeName {
    /// On the share.
    Named {
        name: String,
        /// The current one where none is given.
        version: Option<String>,
    },
    /// A file on a web server.
    Url(Url),
}

impl TreeName {
    /// What a signed job calls it in its digests: as it is written, and of a URL the file's name.
    pub fn in_digests(&self) -> String {
        match self {
            Self::Named { .. } => self.to_string(),
            Self::Url(url) => {
                let name = url.path_segments().and_then(|mut parts| parts.next_back());
                name.unwrap_or_default().to_owned()
            }
        }
    }

    /// Its image on a share, or the folder of its versions where none is named; `None` of what is on no share.
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Named {
                name,
                version: Some(version),
            } => Some(image(name, version)),
            Self::Named {
                name,
                version: None,
            } => Some(format!("{FOLDER}/{name}")),
            Self::Url(_) => None,
        }
    }
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named {
                name,
                version: None,
            } => f.write_str(name),
            Self::Named {
                name,
                version: Some(version),
            } => write!(f, "{name}@{version}"),
            Self::Url(url) => f.write_str(&crate::redacted(url)),
        }
    }
}

impl FromStr for TreeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let url = Url::parse(text).ok();
            let web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
            return url.filter(web).map(Self::Url).ok_or_else(|| {
                format!("{text:?} is not a URL like http://server:8080/files/web{IMAGE}")
            });
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        check_name(name)?;
        version.map(check_name).transpose()?;
        Ok(Self::Named {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

/// Names and versions are parts of paths and URLs on the share.
///
/// # Errors
/// A sentence that says what a name is like.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.chars().all(fits) && name.len() <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a tree: letters, digits and . _ - + (a file has a / in its name, or ends in {IMAGE})"
    ))
}

/// The image of a version, on the share.
pub fn image(name: &str, version: &str) -> String {
    format!("{FOLDER}/{name}/{version}{IMAGE}")
}

/// The same where the image is encrypted.
pub fn encrypted_image(name: &str, version: &str) -> String {
    format!("{}{SUFFIX}", image(name, version))
}

/// The version that an image on the share is of, encrypted or not; `None` of what is no such image.
pub fn version_of(image: &str) -> Option<&str> {
    let (_, file) = image.strip_prefix(FOLDER)?.rsplit_once('/')?;
    version_of_file(file)
}

/// The same of a file in a tree's folder.
pub fn version_of_file(file: &str) -> Option<&str> {
    file.strip_suffix(SUFFIX)
        .unwrap_or(file)
        .strip_suffix(IMAGE)
}

/// What lies beside it.
pub fn about(name: &str, version: &str) -> String {
    format!("{FOLDER}/{name}/{version}{ABOUT}")
}

/// Which version is meant where none is named.
pub fn current(name: &str) -> String {
    format!("{FOLDER}/{name}/{CURRENT}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_versions_and_urls_read_back() {
        for text in [
            "web",
            "web@2026-11-29T014500Z",
            "http://server:8080/x/web.tar.gz",
        ] {
            let name: TreeName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
        }
        for wrong in [
            "",
            ".web",
            "web@",
            "we b",
            "-x",
            "web@..",
            "a/b",
            "../x",
            "ftp://x/y",
        ] {
            assert!(wrong.parse::<TreeName>().is_err(), "{wrong}");
        }
        let url: TreeName = "https://u:p@server/x/web.tar.gz".parse().unwrap();
        assert!(!url.to_string().contains("p@"));
        assert_eq!(url.in_digests(), "web.tar.gz");
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder_of_trees(text in "\\PC{0,20}") {
            if let Ok(TreeName::Named { name, version }) = text.parse() {
                let path = image(&name, version.as_deref().unwrap_or("v"));
                prop_assert!(crate::job::check_folder(&path).is_ok(), "{}", path);
                prop_assert_eq!(path.matches('/').count(), 2);
                let version = version.as_deref().unwrap_or("v");
                prop_assert_eq!(version_of(&path), Some(version));
                let encrypted = encrypted_image(&name, version);
                prop_assert_eq!(version_of(&encrypted), Some(version));
            }
        }
    }
}
