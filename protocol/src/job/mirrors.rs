//! Mirrors: other servers that hold the images of the share, near the machine. They get no credentials and are not believed.

use super::hostfile::HostFile;
use std::fmt;
use url::Url;

/// Each is asked in turn, so that a long list is a mistake.
const MOST: usize = 16;

/// A server that may hold images of the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror(Url);

impl Mirror {
    /// Reads `http://mirror:8080/` or `http://web/images`.
    ///
    /// # Errors
    /// A sentence about what it should be; it shows no credentials.
    pub fn read(text: &str) -> Result<Self, String> {
        let Ok(mut url) = Url::parse(text.trim()) else {
            return Err("it is not a URL: write one like http://mirror:8080".into());
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "a mirror gets no credentials: write its URL without a name and a password".into(),
            );
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{url}: a mirror is reached over http or https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "{url}: a mirror is a folder, which has no ? or # in its URL"
            ));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }

    /// The URL of what is at `path` below it, whatever characters that has.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        // A URL of http has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The mirrors of a job, in the order of the file.
///
/// # Errors
/// What is wrong with one of them, or that there are too many.
pub fn mirrors(file: &HostFile) -> Result<Vec<Mirror>, String> {
    let written = file.mirrors.as_deref().unwrap_or_default();
    if written.len() > MOST {
        return Err(format!(
            "there are {}, and each is asked in turn: {MOST} at most",
            written.len()
        ));
    }
    written.iter().map(|text| Mirror::read(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mirror_is_a_folder_on_the_web_without_credentials() {
        let mirror = Mirror::read("http://mirror:8080").unwrap();
        assert_eq!(mirror.to_string(), "http://mirror:8080");
        let at = |text: &str| Mirror::read(text).unwrap().at("a b/sda.raw.gz").to_string();
        assert_eq!(at("http://mirror"), "http://mirror/a%20b/sda.raw.gz");
        assert_eq!(
            at("https://web/images/"),
            "https://web/images/a%20b/sda.raw.gz"
        );
        for (text, why) in [
            ("mirror", "it is not a URL"),
            ("ftp://mirror/", "reached over http or https"),
            ("s3://bucket", "reached over http or https"),
            ("http://mirror/?x=1", "no ? or #"),
            ("http://root:s3cret@mirror/", "gets no credentials"),
            ("ftp://root:s3cret@mirror/", "gets no credentials"),
        ] {
            let error = Mirror::read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn more_than_anybody_means_are_refused() {
        let of = |count: usize| {
            mirrors(&HostFile {
                mirrors: Some(vec!["http://mirror".into(); count]),
                ..HostFile::default()
            })
        };
        assert_eq!(of(MOST).map(|all| all.len()), Ok(MOST));
        assert_eq!(
            of(17),
            Err("there are 17, and each is asked in turn: 16 at most".into())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_taken_leads_to_its_own_server(text in "(http|https|ftp)://[a-z@:/?#%.]{0,12}", path in "[ -~]{1,12}") {
            if let Ok(mirror) = Mirror::read(&text) {
                prop_assert_eq!(mirror.at(&path).origin(), mirror.0.origin());
                prop_assert!(mirror.0.username().is_empty());
            }
        }
    }
}
