//! What a machine and its server say to each other about a store that only the server has keys for: `POST /sign`, JSON both
//! ways. The machine says what it wants to ask of the store, and gets a request that may be sent as it is, for a while.

use crate::credentials::Credentials;
use crate::id::Id;
use crate::job::ReportTo;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;
use url::Url;

/// The only version there is.
pub const VERSION: u32 = 1;

/// No message either way is longer, in bytes.
pub const MOST_BYTES: usize = 32 << 10;

/// Where servers have it, below the folder that their reports are in.
const PLACE: &str = "sign";

/// The most that is believed of how long a request may be used.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is asked of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask<'a> {
    Head,
    Get,
    Put,
    Delete,
    /// The object becomes what `from` is.
    Copy {
        from: Cow<'a, str>,
        /// As of [`CopyPart`](Self::CopyPart).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<Cow<'a, str>>,
    },
    /// What is in the folder with this key, behind `after`; all below it, if `deep`.
    List {
        deep: bool,
        after: Option<Cow<'a, str>>,
    },
    /// Uploads of this key that have not ended.
    Uploads,
    /// An upload in parts begins.
    Begin,
    Part {
        upload: Cow<'a, str>,
        number: u16,
    },
    /// A part is made of bytes `first..=last` of `from`.
    CopyPart {
        upload: Cow<'a, str>,
        number: u16,
        from: Cow<'a, str>,
        first: u64,
        last: u64,
        /// The source's, in quotes: another object under its name is not copied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<Cow<'a, str>>,
    },
    /// The parts behind `after` that the store has.
    Parts {
        upload: Cow<'a, str>,
        after: u16,
    },
    Complete {
        upload: Cow<'a, str>,
    },
    Abort {
        upload: Cow<'a, str>,
    },
}

impl Ask<'_> {
    /// The object that another one is made of.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Copy { from, .. } | Self::CopyPart { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The same with each source's name changed.
    #[must_use]
    pub fn with_source(&self, change: impl FnOnce(&str) -> String) -> Self {
        let mut ask = self.clone();
        if let Self::Copy { from, .. } | Self::CopyPart { from, .. } = &mut ask {
            *from = Cow::Owned(change(from));
        }
        ask
    }
}

/// What a machine sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wanted<'a> {
    pub version: u32,
    /// The job, where the server has set it: its `report-token` goes along.
    pub job: Option<Id>,
    /// Else the host file that the job is from.
    pub host_file: Option<Cow<'a, str>>,
    /// The machine's own, which names its folder.
    pub address: IpAddr,
    /// `s3://…`, as the job has it.
    pub share: Cow<'a, str>,
    /// Below the share, as is the source of a copy.
    pub path: Cow<'a, str>,
    #[serde(flatten)]
    pub ask: Ask<'a>,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Granted {
    pub method: String,
    pub url: String,
    /// Names and values of headers that are a part of the signature.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// For how many seconds it is good.
    pub seconds: u64,
    /// The server's clock, which the store compares with its own: seconds since 1970.
    pub clock: i64,
}

/// A message that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("it has more than {MOST_BYTES} bytes")]
    Long,
    #[error("it asks for no signature: {0}")]
    Wrong(String),
    #[error("version {0}: this Pitstop reads version {VERSION}")]
    Version(u32),
}

impl<'a> Wanted<'a> {
    /// As it is sent.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadMessage> {
        serde_json::to_vec(self).map_err(|error| BadMessage::Wrong(error.to_string()))
    }

    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadMessage> {
        let wanted: Self = read(bytes)?;
        if wanted.version != VERSION {
            return Err(BadMessage::Version(wanted.version));
        }
        Ok(wanted)
    }
}

impl Granted {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        read(bytes)
    }

    /// For how long it is good, within reason.
    pub fn valid(&self) -> Duration {
        Duration::from_secs(self.seconds).min(LONGEST)
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadMessage> {
    if bytes.len() > MOST_BYTES {
        return Err(BadMessage::Long);
    }
    serde_json::from_slice(bytes).map_err(|error| BadMessage::Wrong(error.to_string()))
}

/// Who signs for a job, and by what the machine is known there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignAt {
    /// The server's URL for it.
    url: String,
    pub job: Option<Id>,
    pub host_file: Option<String>,
    pub credentials: Option<Credentials>,
}

impl SignAt {
    /// The server that the job is reported to, else the one that has its host file. `None` where neither is a web server
    /// with paths like Pitstop's.
    pub fn of_job(report: Option<&ReportTo>, from: Option<&Url>) -> Option<Self> {
        report
            .and_then(Self::of_report)
            .or_else(|| Self::of_file(from?))
    }

    fn of_report(to: &ReportTo) -> Option<Self> {
        let (url, rest) = beside(&to.url, "report", PLACE)?;
        let credentials = to
            .access
            .as_ref()
            .map(|access| access.credentials().clone());
        Some(Self {
            url: url.into(),
            job: Some(rest.parse().ok()?),
            host_file: None,
            credentials,
        })
    }

    fn of_file(from: &Url) -> Option<Self> {
        let (url, rest) = beside(from, "hosts", PLACE)?;
        Some(Self {
            url: url.into(),
            job: None,
            host_file: Some(rest),
            credentials: None,
        })
    }

    pub fn url(&self) -> Result<Url, url::ParseError> {
        Url::parse(&self.url)
    }
}

/// The URL of `place` on the server that has `url` below `folder`, beside that folder; and the part below it.
pub(crate) fn beside(url: &Url, folder: &str, place: &str) -> Option<(Url, String)> {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    let parts: Vec<&str> = url.path_segments()?.collect();
    let at = parts.iter().rposition(|part| *part == folder)?;
    let rest = parts[at + 1..].join("/");
    let rest = percent_encoding::percent_decode_str(&rest)
        .decode_utf8()
        .ok()?;
    let mut found = url.clone();
    found.set_path(&[&parts[..at], &[place]].concat().join("/"));
    found.set_query(None);
    found.set_fragment(None);
    (!rest.is_empty()).then(|| (found, rest.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_server_of_the_reports_signs_and_else_that_of_the_host_file() {
        let job = "20261128-212955-0f3a";
        let url = |text: &str| Url::parse(text).unwrap();
        let token = Credentials::Bearer { token: "t".into() };
        let to = ReportTo::new(
            url(&format!("http://s:8080/report/{job}")),
            Some(token.clone()),
        );
        let file = url("http://other/lab/hosts/rack%201/0A00020F.toml?x");
        let at = SignAt::of_job(Some(&to), Some(&file)).unwrap();
        assert_eq!(at.url, "http://s:8080/sign");
        assert_eq!(at.job.as_ref().map(Id::as_str), Some(job));
        assert_eq!(at.credentials, Some(token));
        let elsewhere = ReportTo::new(url("http://logs/in"), None);
        let at = SignAt::of_job(Some(&elsewhere), Some(&file)).unwrap();
        assert_eq!(at.url, "http://other/lab/sign");
        assert_eq!(at.host_file.as_deref(), Some("rack 1/0A00020F.toml"));
        for none in [
            "tftp://s/hosts/x.toml",
            "http://s/pxe/x.toml",
            "http://s/hosts/",
        ] {
            assert_eq!(SignAt::of_job(None, Some(&url(none))), None, "{none}");
        }
    }

    #[test]
    fn what_is_asked_is_read_as_it_was_written() {
        let asked = Wanted {
            version: VERSION,
            job: None,
            host_file: Some("x.toml".into()),
            address: IpAddr::from([10, 0, 2, 15]),
            share: "s3://lab/room".into(),
            path: "10.0.2.15/a \"b\".gz".into(),
            ask: Ask::CopyPart {
                upload: "u".into(),
                number: 3,
                from: "a/b".into(),
                first: 1,
                last: 2,
                tag: Some("\"t-2\"".into()),
            },
        };
        let bytes = asked.to_bytes().unwrap();
        assert_eq!(Wanted::parse(&bytes).unwrap(), asked);
        let other = String::from_utf8(bytes)
            .unwrap()
            .replace("\"version\":1", "\"version\":2");
        assert_eq!(Wanted::parse(other.as_bytes()), Err(BadMessage::Version(2)));
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "\\{(\"(ask|path|version|job)\":(1|\"[a-z]{0,6}\"|null),?){0,5}\\}") {
            let _ = Wanted::parse(&bytes);
            let _ = Granted::parse(text.as_bytes());
            let _ = Wanted::parse(text.as_bytes());
        }

        #[test]
        fn any_address_has_a_server_or_none(text in "https?://[a-z./%0-9]{0,40}") {
            if let Ok(url) = Url::parse(&text) {
                let _ = SignAt::of_job(None, Some(&url));
            }
        }
    }
}
