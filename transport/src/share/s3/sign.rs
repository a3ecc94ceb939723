//! Requests to a store, signed: by whoever holds the keys. A presigned URL says what may be done with which object, and
//! for how long (AWS Signature Version 4, query parameters).

use super::Keys;
use anyhow::Context as _;
use jiff::Timestamp;
use pitstop_protocol::share_url::S3Url;
pub use pitstop_protocol::store::Ask;
use reqwest::Method;
use rusty_s3::{Bucket, UrlStyle, signing};
use std::time::{Duration, Instant};
use url::Url;

/// How long a request may be used that is sent at once: longer than any wait before it is.
const VALID: Duration = Duration::from_secs(60 * 60);

/// What a store says that copies from.
pub(super) const COPY_SOURCE: &str = "x-amz-copy-source";
pub(super) const COPY_MATCH: &str = "x-amz-copy-source-if-match";
pub(super) const COPY_RANGE: &str = "x-amz-copy-source-range";

/// A request that may be sent as it is, with these headers.
#[derive(Debug, Clone)]
pub struct Signed {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    /// Until when it is good.
    pub until: Instant,
}

/// Keys, and the bucket that they are for.
#[derive(Debug)]
pub struct Signer {
    store: Place,
    keys: Keys,
}

impl Signer {
    /// For the store at `url`, with these keys.
    ///
    /// # Errors
    /// When the address makes no bucket's URL.
    pub fn new(url: &S3Url, keys: &Keys) -> anyhow::Result<Self> {
        Ok(Self {
            store: Place::of(url, keys.region(url))?,
            keys: keys.clone(),
        })
    }

    /// `ask` of the object `key`, to be sent at once.
    pub fn sign(&self, ask: &Ask<'_>, key: &str) -> Signed {
        self.sign_for(ask, key, VALID)
    }

    /// The same, good for `valid` from now on. A store takes no more than seven days.
    pub fn sign_for(&self, ask: &Ask<'_>, key: &str, valid: Duration) -> Signed {
        let until = Instant::now() + valid;
        let Question {
            method,
            object,
            query,
            headers,
        } = self.store.question(ask, key);
        let signed_method = match method {
            Method::GET => rusty_s3::Method::Get,
            Method::HEAD => rusty_s3::Method::Head,
            Method::PUT => rusty_s3::Method::Put,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Post,
        };
        let keys = &self.keys.credentials;
        let url = signing::sign(
            &Timestamp::now(),
            signed_method,
            object,
            keys.key(),
            keys.secret(),
            keys.token(),
            self.store.bucket.region(),
            valid.as_secs(),
            query.iter().map(|(name, value)| (*name, value.as_str())),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        Signed {
            method,
            url,
            headers,
            until,
        }
    }
}

/// A bucket, and how it is named in addresses.
#[derive(Debug)]
pub(super) struct Place {
    bucket: Bucket,
    style: UrlStyle,
}

/// A request before it is signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub method: Method,
    /// Without the query.
    pub object: Url,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
}

impl Place {
    /// Of the store at `url`, in this region.
    pub fn of(url: &S3Url, region: &str) -> anyhow::Result<Self> {
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
        Ok(Self { bucket, style })
    }

    /// How `ask` is asked of the object `key`.
    pub fn question(&self, ask: &Ask<'_>, key: &str) -> Question {
        let (method, query) = question(ask, key);
        let mut headers = Vec::new();
        if let Some(from) = ask.source() {
            let source = self.bucket.object_url(from);
            let path = match self.style {
                UrlStyle::Path => source.path().to_owned(),
                UrlStyle::VirtualHost => format!("/{}{}", self.bucket.name(), source.path()),
            };
            headers.push((COPY_SOURCE, path));
        }
        // In the order of their names, as the signature has them.
        if let Ask::Copy { tag: Some(tag), .. } | Ask::CopyPart { tag: Some(tag), .. } = ask {
            headers.push((COPY_MATCH, tag.to_string()));
        }
        if let Ask::CopyPart { first, last, .. } = ask {
            headers.push((COPY_RANGE, format!("bytes={first}-{last}")));
        }
        let object = if matches!(ask, Ask::Uploads | Ask::List { .. }) {
            self.bucket.base_url().clone()
        } else {
            self.bucket.object_url(key)
        };
        Question {
            method,
            object,
            query,
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
        Ask::List { deep, after } => {
            let after = after
                .iter()
                .map(|after| ("continuation-token", after.to_string()));
            let delimiter = (!deep).then(|| ("delimiter", "/".to_owned()));
            let listed = [("list-type", "2".to_owned()), ("prefix", key.to_owned())];
            let question = after.chain(delimiter).chain(listed);
            (Method::GET, question.collect())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(url: &str) -> Signer {
        let url = S3Url::from_url(&Url::parse(url).unwrap()).unwrap();
        Signer::new(&url, &Keys::new("AKID", "s3cret")).unwrap()
    }

    #[test]
    fn a_copy_names_bucket_and_key_in_either_style() {
        let from = Ask::Copy {
            from: "p/a b.gz".into(),
            tag: None,
        };
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
}
