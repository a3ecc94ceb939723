//! A configuration that goes when the job is done.

use crate::redacted;
use std::fmt;
use std::str::FromStr;
use url::Url;

/// The URL of a configuration to delete, of a scheme that has a meaning: `http`, `https`, `nfs`,
/// `file`, or `tftp`, which is known here only so that the check can say what to give instead.
#[derive(Clone, PartialEq, Eq)]
pub struct DeleteTarget(Url);

impl DeleteTarget {
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for DeleteTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}: give a whole URL"))?;
        match url.scheme() {
            "http" | "https" | "nfs" | "file" | "tftp" => {}
            other => {
                return Err(format!(
                    "nothing can be deleted over {other}: give an http(s):// or nfs:// URL"
                ));
            }
        }
        if url.path().ends_with('/') || url.path().is_empty() {
            return Err(format!("{} names a folder, not a file", redacted(&url)));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for DeleteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for DeleteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeleteTarget({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_at_known_places_are_targets() {
        let target: DeleteTarget = "http://user:secret@srv/hosts/0A00020F.toml"
            .parse()
            .unwrap();
        assert_eq!(target.to_string(), "http://srv/hosts/0A00020F.toml");
        assert!(!format!("{target:?}").contains("secret"));
        for (text, why) in [
            ("hosts/x.toml", "whole URL"),
            ("ftp://srv/x.toml", "over ftp"),
            ("http://srv/hosts/", "names a folder"),
        ] {
            let error = text.parse::<DeleteTarget>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
