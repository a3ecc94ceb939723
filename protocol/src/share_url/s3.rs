//! `s3://bucket/prefix?endpoint=URL&region=R&path-style=true`: a folder of an S3-compatible store.

use super::BadShareUrl;
use crate::redacted;
use percent_encoding::percent_decode_str;
use std::fmt;
use url::Url;

/// Where a folder of a store is. Keys are no part of it: they stay with who has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    pub bucket: String,
    /// The path in the bucket, without a slash at either end; empty for the whole bucket.
    pub prefix: String,
    /// The server; Amazon's of the region when absent.
    pub endpoint: Option<Url>,
    /// What requests are signed for; the environment's, or `us-east-1`, when absent.
    pub region: Option<String>,
    /// `endpoint/bucket/key` rather than `bucket.endpoint/key`. When absent: wherever an endpoint is given.
    pub path_style: Option<bool>,
}

impl S3Url {
    /// Checks a URL of the scheme `s3`.
    pub fn from_url(url: &Url) -> Result<Self, BadShareUrl> {
        let bad = |why: &str| BadShareUrl(format!("{}: {why}", shown(url)));
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "keys do not belong into the address: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a \
                 credentials file",
            ));
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if bucket.is_empty() || url.port().is_some() {
            return Err(bad(
                "a bucket comes first, and the server in ?endpoint=: write s3://bucket/prefix?endpoint=http://host:port",
            ));
        }
        let prefix = percent_decode_str(url.path())
            .decode_utf8()
            .map_err(|_| bad("the path is not UTF-8"))?
            .trim_matches('/')
            .to_owned();
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !prefix.is_empty() && prefix.split('/').any(odd) || prefix.chars().any(char::is_control)
        {
            return Err(bad(
                "the path has an empty part, a dot part or a control character",
            ));
        }
        let mut s3 = Self {
            bucket,
            prefix,
            endpoint: None,
            region: None,
            path_style: None,
        };
        for (key, value) in url.query_pairs() {
            s3.option(&key, &value).map_err(|why| bad(&why))?;
        }
        Ok(s3)
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "endpoint" => {
                let endpoint = Url::parse(value).ok().filter(|url| {
                    let has_keys = !url.username().is_empty() || url.password().is_some();
                    matches!(url.scheme(), "http" | "https")
                        && url.has_host()
                        && url.query().is_none()
                        && !has_keys
                });
                let why = "endpoint is not the URL of a server: write endpoint=https://host:port";
                self.endpoint = Some(endpoint.ok_or(why)?);
            }
            "region" if !value.is_empty() => self.region = Some(value.to_owned()),
            "path-style" => {
                self.path_style = match value {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => return Err(format!("path-style={value}: there are true and false")),
                }
            }
            _ => {
                return Err(format!(
                    "unknown option {key:?}: there are endpoint, region and path-style"
                ));
            }
        }
        Ok(())
    }

    /// The key of `path`, which is relative to the prefix.
    pub fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.prefix)
        }
    }
}

/// For messages: without keys, but with the options, which are no secret.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    redacted(&shown)
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.key("");
        write!(f, "s3://{}/{}", self.bucket, path.trim_end_matches('/'))?;
        let options = [
            self.endpoint
                .as_ref()
                .map(|url| format!("endpoint={}", url.as_str().trim_end_matches('/'))),
            self.region
                .as_ref()
                .map(|region| format!("region={region}")),
            self.path_style.map(|style| format!("path-style={style}")),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        if !options.is_empty() {
            write!(f, "?{}", options.join("&"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<S3Url, String> {
        S3Url::from_url(&Url::parse(text).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn options_are_checked() {
        let s3 =
            parse("s3://lab/a%20b/c/?endpoint=http://10.0.0.1:9000&region=eu-1&path-style=true")
                .unwrap();
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("lab", "a b/c"));
        assert_eq!(s3.endpoint.as_ref().unwrap().port(), Some(9000));
        assert_eq!(
            (s3.region.as_deref(), s3.path_style),
            (Some("eu-1"), Some(true))
        );
        assert_eq!(s3.key("x/y"), "a b/c/x/y");
        assert_eq!(parse("s3://lab").unwrap().key("x"), "x");
        for (text, why) in [
            ("s3://key:secret@lab/x", "keys do not belong"),
            ("s3:///x", "a bucket comes first"),
            ("s3://lab:9000/x", "a bucket comes first"),
            ("s3://lab/a//b", "an empty part"),
            ("s3://lab/a/%2e%2e%2fb", "dot part"),
            ("s3://lab/x?endpoint=ftp://h", "endpoint is not"),
            ("s3://lab/x?endpoint=http://k:s@h", "endpoint is not"),
            ("s3://lab/x?path-style=yes", "true and false"),
            ("s3://lab/x?key=y", "unknown option"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(
            bucket in "[a-z][a-z0-9-]{2,12}",
            prefix in "([a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2})?",
            path_style in prop::option::of(any::<bool>()),
            region in prop::option::of("[a-z]{2}-[0-9]"),
        ) {
            let s3 = S3Url { bucket, prefix, endpoint: Some(Url::parse("https://h:1/").unwrap()), region, path_style };
            prop_assert_eq!(parse(&s3.to_string()).unwrap(), s3);
        }

        #[test]
        fn anything_is_a_store_or_an_error(text in "s3://[^ ]{0,60}") {
            if let Ok(url) = Url::parse(&text) {
                let _ = S3Url::from_url(&url);
            }
        }
    }
}
