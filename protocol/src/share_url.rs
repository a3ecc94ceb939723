//! A share's address, as written in the host file and on the kernel command line.

mod s3;

pub use s3::S3Url;

use crate::redacted;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

/// The files that prove that a place is the share; the second is VirtualBox's.
pub const MARKERS: [&str; 2] = ["pitstop-share", "testbox-backup"];

/// A name that nobody gives a file: a server that has it has everything, the marker included.
pub const NEVER_THERE: &str = "pitstop-no-such-file";

/// Where a share is. `Display` and `Debug` never show credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum ShareUrl {
    /// `http://` or `https://`; its path ends in `/`.
    Http(Url),
    /// `nfs://host/export/path`
    Nfs(NfsUrl),
    /// `s3://bucket/prefix`
    S3(S3Url),
    /// `file:///path`, or a bare absolute path.
    Directory(PathBuf),
}

/// `nfs://host/export/path?vers=4.1&port=2049&mountport=20048&proto=tcp`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsUrl {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// Absolute.
    pub path: String,
    pub version: NfsVersion,
    /// The server's NFS port; the kernel's default (2049, or what rpcbind says) when absent.
    pub port: Option<u16>,
    /// Where mountd listens, for version 3; rpcbind is asked when absent.
    pub mount_port: Option<u16>,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NfsVersion {
    /// 4.2, then 4.1, 4.0 and 3: the first that the server speaks.
    #[default]
    Newest,
    V3,
    /// 4.2, then 4.1, then 4.0.
    V4,
    V40,
    V41,
    V42,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    /// Version 3 only, and only where the server still has it.
    Udp,
}

/// A share address that cannot be used, and why. The text never shows credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadShareUrl(String);

impl FromStr for ShareUrl {
    type Err = BadShareUrl;

    fn from_str(text: &str) -> Result<Self, BadShareUrl> {
        if text.starts_with('/') {
            return Ok(ShareUrl::Directory(PathBuf::from(text)));
        }
        let mut url = Url::parse(text).map_err(|error| {
            BadShareUrl(format!(
                "the share is not a URL ({error}): write http(s)://host/path, nfs://host/export/path or s3://bucket/prefix"
            ))
        })?;
        match url.scheme() {
            "http" | "https" => {
                if url.query().is_some() || url.fragment().is_some() {
                    let shown = redacted(&url);
                    return Err(BadShareUrl(format!(
                        "the share {shown} has a ? or # part: an HTTP share takes no options"
                    )));
                }
                if !url.path().ends_with('/') {
                    let folder = format!("{}/", url.path());
                    url.set_path(&folder);
                }
                Ok(ShareUrl::Http(url))
            }
            "nfs" => NfsUrl::from_url(&url).map(ShareUrl::Nfs),
            "s3" => S3Url::from_url(&url).map(ShareUrl::S3),
            "file" => url.to_file_path().map(ShareUrl::Directory).map_err(|()| {
                BadShareUrl(format!("the share {} is not file:///path", redacted(&url)))
            }),
            other => Err(BadShareUrl(format!(
                "a share cannot be reached over {other}: write http(s)://host/path, nfs://host/export/path or s3://bucket/prefix"
            ))),
        }
    }
}

impl NfsUrl {
    /// Checks a URL of the scheme `nfs`.
    pub fn from_url(url: &Url) -> Result<Self, BadShareUrl> {
        let bad = |why: String| BadShareUrl(format!("{}: {why}", redacted(url)));
        let host = url.host_str().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(bad(
                "no server is named: write nfs://host/export/path".into()
            ));
        }
        let path = percent_encoding::percent_decode_str(url.path())
            .decode_utf8()
            .map_err(|_| bad("the path is not UTF-8".into()))?
            .into_owned();
        let path = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            trimmed => trimmed.to_owned(),
        };
        if path.chars().any(char::is_control) {
            return Err(bad("the path has a control character".into()));
        }
        let mut nfs = NfsUrl {
            host,
            path,
            version: NfsVersion::default(),
            port: url.port(),
            mount_port: None,
            protocol: Protocol::default(),
        };
        for (key, value) in url.query_pairs() {
            nfs.option(&key, &value).map_err(bad)?;
        }
        if nfs.protocol == Protocol::Udp && nfs.version != NfsVersion::V3 {
            return Err(bad("proto=udp works with vers=3 only".into()));
        }
        if nfs.mount_port.is_some() && nfs.version != NfsVersion::V3 {
            return Err(bad("mountport means something with vers=3 only".into()));
        }
        Ok(nfs)
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        let port = || match value.parse() {
            Ok(0) | Err(_) => Err(format!("{key}={value} is not a port: write 1 to 65535")),
            Ok(port) => Ok(Some(port)),
        };
        match key {
            "vers" | "nfsvers" => {
                self.version = match value {
                    "3" => NfsVersion::V3,
                    "4.0" => NfsVersion::V40,
                    "4.1" => NfsVersion::V41,
                    "4" => NfsVersion::V4,
                    "4.2" => NfsVersion::V42,
                    _ => return Err(format!("vers={value}: there are 3, 4, 4.0, 4.1 and 4.2")),
                }
            }
            "port" => self.port = port()?,
            "mountport" => self.mount_port = port()?,
            "proto" => {
                self.protocol = match value {
                    "tcp" => Protocol::Tcp,
                    "udp" => Protocol::Udp,
                    _ => return Err(format!("proto={value}: there are tcp and udp")),
                }
            }
            _ => {
                return Err(format!(
                    "unknown option {key:?}: there are vers, port, mountport and proto"
                ));
            }
        }
        Ok(())
    }
}

impl NfsVersion {
    /// What to try, in this order, as the kernel's mount option `vers` spells it.
    pub fn candidates(self) -> &'static [&'static str] {
        match self {
            NfsVersion::Newest => &["4.2", "4.1", "4.0", "3"],
            NfsVersion::V3 => &["3"],
            NfsVersion::V4 => &["4.2", "4.1", "4.0"],
            NfsVersion::V40 => &["4.0"],
            NfsVersion::V41 => &["4.1"],
            NfsVersion::V42 => &["4.2"],
        }
    }

    /// As the URL spells it; `None` for [`NfsVersion::Newest`].
    pub fn option(self) -> Option<&'static str> {
        match self {
            NfsVersion::Newest => None,
            NfsVersion::V3 => Some("3"),
            NfsVersion::V4 => Some("4"),
            NfsVersion::V40 => Some("4.0"),
            NfsVersion::V41 => Some("4.1"),
            NfsVersion::V42 => Some("4.2"),
        }
    }
}

impl fmt::Display for NfsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "nfs://[{}]{}", self.host, self.path)?;
        } else {
            write!(f, "nfs://{}{}", self.host, self.path)?;
        }
        let options = [
            self.version.option().map(|v| format!("vers={v}")),
            self.port.map(|p| format!("port={p}")),
            self.mount_port.map(|p| format!("mountport={p}")),
            (self.protocol == Protocol::Udp).then(|| "proto=udp".to_owned()),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        if !options.is_empty() {
            write!(f, "?{}", options.join("&"))?;
        }
        Ok(())
    }
}

impl fmt::Display for ShareUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareUrl::Http(url) => f.write_str(redacted(url).trim_end_matches('/')),
            ShareUrl::Nfs(nfs) => write!(f, "{nfs}"),
            ShareUrl::S3(s3) => write!(f, "{s3}"),
            ShareUrl::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for ShareUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> ShareUrl {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_are_kept_but_never_shown() {
        let url = parse("http://admin:s3cret@10.0.2.2:8080/share");
        assert_eq!(url.to_string(), "http://10.0.2.2:8080/share");
        assert_eq!(format!("{url:?}"), "ShareUrl(http://10.0.2.2:8080/share)");
        let ShareUrl::Http(inner) = url else {
            panic!("not HTTP")
        };
        assert_eq!(inner.password(), Some("s3cret"));
        assert_eq!(inner.path(), "/share/");
    }

    #[test]
    fn nfs_options_are_checked() {
        let ShareUrl::Nfs(nfs) =
            parse("nfs://10.0.2.2/export/a%20b/?vers=3&port=12049&mountport=12050")
        else {
            panic!("not NFS")
        };
        assert_eq!(
            (nfs.host.as_str(), nfs.path.as_str()),
            ("10.0.2.2", "/export/a b")
        );
        assert_eq!((nfs.port, nfs.mount_port), (Some(12049), Some(12050)));
        assert_eq!(
            parse("nfs://[fd00::1]:2050/x").to_string(),
            "nfs://[fd00::1]/x?port=2050"
        );
        for (text, why) in [
            ("nfs:///export", "no server"),
            ("nfs://srv/x?vers=5", "there are 3, 4,"),
            ("nfs://srv/x?port=0", "not a port"),
            ("nfs://srv/x?proto=rdma", "tcp and udp"),
            ("nfs://srv/x?proto=udp&vers=4.1", "vers=3 only"),
            ("nfs://srv/x?hard", "unknown option"),
            ("smb://srv/x", "over smb"),
            ("share", "not a URL"),
            ("http://srv/x?y", "takes no options"),
        ] {
            let error = text.parse::<ShareUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn anything_typed_is_a_share_or_an_error(text in ".{0,60}", nfs in "nfs://[^ ]{0,40}") {
            for text in [text, nfs] {
                if let Ok(url) = text.parse::<ShareUrl>() {
                    prop_assert!(!url.to_string().is_empty());
                }
            }
        }
    }
}
