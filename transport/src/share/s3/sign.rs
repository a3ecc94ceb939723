//! Requests to a store, signed: by whoever holds the keys. A presigned URL says what may be done with which object, and
//! for how long (AWS Signature Version 4, query parameters).

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use pitstop_protocol::share_url::S3Url;
use reqwest::Method;
use rusty_s3::{Bucket, Credentials, UrlStyle, signing};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};
use url::Url;

/// How long a request may be used: longer than any transfer takes. A store takes no more than seven days.
const VALID: Duration = Duration::from_secs(24 * 60 * 60);

/// What requests are signed for where nobody says.
const REGION: &str = "us-east-1";

/// What a store says that copies from.
const COPY_SOURCE: &str = "x-amz-copy-source";
const COPY_RANGE: &str = "x-amz-copy-source-range";

/// What is asked of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    Head,
    Get,
    Put,
    Delete,
    /// The object becomes what `from`, a key, is.
    Copy {
        from: &'a str,
    },
    /// Uploads of this key that have not ended.
    Uploads,
    /// An upload in parts begins.
    Begin,
    Part {
        upload: &'a str,
        number: u16,
    },
    /// A part is made of bytes `first..=last` of `from`.
    CopyPart {
        upload: &'a str,
        number: u16,
        from: &'a str,
        first: u64,
        last: u64,
    },
    /// The parts behind `after` that the store has.
    Parts {
        upload: &'a str,
        after: u16,
    },
    Complete {
        upload: &'a str,
    },
    Abort {
        upload: &'a str,
    },
}

/// A request that may be sent as it is, with these headers.
#[derive(Debug, Clone)]
pub struct Signed {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
}

/// Keys, and the bucket that they are for.
#[derive(Debug)]
pub struct Signer {
    bucket: Bucket,
    style: UrlStyle,
    keys: Credentials,
}

impl Signer {
    /// For the store at `url`, with the keys of the environment: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or
    /// a profile (`AWS_PROFILE`) of the credentials file (`AWS_SHARED_CREDENTIALS_FILE`, `~/.aws/credentials`).
    ///
    /// # Errors
    /// When there are no keys, or the address makes no bucket's URL.
    pub fn from_environment(url: &S3Url) -> anyhow::Result<Self> {
        let keys = match Credentials::from_env() {
            Some(keys) => keys,
            None => from_file(url)?,
        };
        let told = |name| env::var(name).ok().filter(|region| !region.is_empty());
        let region = url.region.clone();
        let region = region
            .or_else(|| told("AWS_REGION"))
            .or_else(|| told("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| REGION.into());
        Self::new(url, &region, keys)
    }

    /// For the store at `url`, with these keys.
    ///
    /// # Errors
    /// When the address makes no bucket's URL.
    pub fn with_keys(url: &S3Url, key: &str, secret: &str) -> anyhow::Result<Self> {
        let region = url.region.as_deref().unwrap_or(REGION);
        Self::new(url, region, Credentials::new(key, secret))
    }

    fn new(url: &S3Url, region: &str, keys: Credentials) -> anyhow::Result<Self> {
        let endpoint = match &url.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Url::parse(&format!("https://s3.{region}.amazonaws.com"))
                .with_context(|| format!("the region {region:?}"))?,
        };
        let style = if url.path_style.unwrap_or(url.endpoint.is_some()) {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        let bucket = Bucket::new(endpoint, style, url.bucket.clone(), region.to_owned())
            .with_context(|| format!("the store {url}"))?;
        Ok(Self {
            bucket,
            style,
            keys,
        })
    }

    /// `ask` of the object `key`.
    pub fn sign(&self, ask: &Ask<'_>, key: &str) -> Signed {
        let (method, query) = question(ask, key);
        let mut headers = Vec::new();
        if let Ask::Copy { from } | Ask::CopyPart { from, .. } = ask {
            let source = self.bucket.object_url(from);
            let path = match self.style {
                UrlStyle::Path => source.path().to_owned(),
                UrlStyle::VirtualHost => format!("/{}{}", self.bucket.name(), source.path()),
            };
            headers.push((COPY_SOURCE, path));
        }
        if let Ask::CopyPart { first, last, .. } = ask {
            headers.push((COPY_RANGE, format!("bytes={first}-{last}")));
        }
        let object = if matches!(ask, Ask::Uploads) {
            self.bucket.base_url().clone()
        } else {
            self.bucket.object_url(key)
        };
        let signed_method = match method {
            Method::GET => rusty_s3::Method::Get,
            Method::HEAD => rusty_s3::Method::Head,
            Method::PUT => rusty_s3::Method::Put,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Post,
        };
        let url = signing::sign(
            &Timestamp::now(),
            signed_method,
            object,
            self.keys.key(),
            self.keys.secret(),
            self.keys.token(),
            self.bucket.region(),
            VALID.as_secs(),
            query.iter().map(|(name, value)| (*name, value.as_str())),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        Signed {
            method,
            url,
            headers,
        }
    }
}

/// The method, and the query's parts in the order of their names, as the signature has them.
fn question(ask: &Ask<'_>, key: &str) -> (Method, Vec<(&'static str, String)>) {
    let id = |upload: &str| ("uploadId", upload.to_owned());
    match ask {
        Ask::Head => (Method::HEAD, vec![]),
        Ask::Get => (Method::GET, vec![]),
        Ask::Put | Ask::Copy { .. } => (Method::PUT, vec![]),
        Ask::Delete => (Method::DELETE, vec![]),
        Ask::Uploads => (
            Method::GET,
            vec![("prefix", key.to_owned()), ("uploads", String::new())],
        ),
        Ask::Begin => (Method::POST, vec![("uploads", String::new())]),
        Ask::Part { upload, number } | Ask::CopyPart { upload, number, .. } => (
            Method::PUT,
            vec![("partNumber", number.to_string()), id(upload)],
        ),
        Ask::Parts { upload, after } => (
            Method::GET,
            vec![("part-number-marker", after.to_string()), id(upload)],
        ),
        Ask::Complete { upload } => (Method::POST, vec![id(upload)]),
        Ask::Abort { upload } => (Method::DELETE, vec![id(upload)]),
    }
}

/// The keys of a profile of the credentials file.
fn from_file(url: &S3Url) -> anyhow::Result<Credentials> {
    let file = env::var_os("AWS_SHARED_CREDENTIALS_FILE").map_or_else(
        || env::home_dir().map(|home| home.join(".aws/credentials")),
        |file| Some(PathBuf::from(file)),
    );
    let none = || {
        format!(
            "there are no keys for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into \
             ~/.aws/credentials"
        )
    };
    let file = file.with_context(none)?;
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(none()),
        text => text.with_context(|| format!("reading {}", file.display()))?,
    };
    let profile = env::var("AWS_PROFILE").unwrap_or_else(|_| "default".into());
    keys_of(&text, &profile, &file)
}

/// The keys of `profile` in the text of a credentials file: `[profile]`, then `name = value` a line.
fn keys_of(text: &str, profile: &str, file: &Path) -> anyhow::Result<Credentials> {
    let mut is_in = false;
    let (mut key, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            is_in = name.trim_end_matches(']').trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in) {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (key, secret, token) {
        (Some(key), Some(secret), Some(token)) => {
            Ok(Credentials::new_with_token(key, secret, token))
        }
        (Some(key), Some(secret), None) => Ok(Credentials::new(key, secret)),
        _ => bail!(
            "{}: the profile {profile:?} has no aws_access_key_id and aws_secret_access_key",
            file.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(url: &str) -> Signer {
        let url = S3Url::from_url(&Url::parse(url).unwrap()).unwrap();
        Signer::new(&url, "eu-1", Credentials::new("AKID", "s3cret")).unwrap()
    }

    #[test]
    fn a_copy_names_bucket_and_key_in_either_style() {
        let from = Ask::Copy { from: "p/a b.gz" };
        for url in [
            "s3://lab/p?endpoint=http://h:9000",
            "s3://lab/p?endpoint=http://h:9000&path-style=false",
            "s3://lab/p",
        ] {
            let signed = signer(url).sign(&from, "p/c.gz");
            assert_eq!(
                signed.headers,
                [(COPY_SOURCE, "/lab/p/a%20b.gz".to_owned())],
                "{url}"
            );
            assert_eq!(signed.method, Method::PUT);
            let query = signed.url.query().unwrap();
            assert!(
                query.contains("SignedHeaders=host%3Bx-amz-copy-source"),
                "{query}"
            );
            assert!(!query.contains("s3cret"), "{query}");
        }
    }

    #[test]
    fn keys_are_those_of_the_profile() {
        let text = "[other]\naws_access_key_id = X\n# mine\n[lab]\naws_access_key_id=A\naws_secret_access_key = b=c\n";
        let file = Path::new("credentials");
        let keys = keys_of(text, "lab", file).unwrap();
        assert_eq!((keys.key(), keys.secret()), ("A", "b=c"));
        let error = keys_of(text, "other", file).unwrap_err().to_string();
        assert!(
            error.contains("credentials: the profile \"other\" has no"),
            "{error}"
        );
    }
}
