//! What a machine and its server say to each other about an encrypted image: `POST /unlock`, JSON both ways. The machine shows how
//! the image begins, and gets the key of that one file. Whom it is encrypted for, and their secret keys, stay with the server.

use crate::credentials::Credentials;
use crate::id::Id;
use crate::job::{ReportTo, Transfer};
use crate::redacted;
use crate::store::beside;
use pitstop_age::{FILE_KEY, FileKey, MOST};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use url::Url;

/// The only version there is.
pub const VERSION: u32 = 1;

/// No message either way is longer, in bytes: a header, whose ends of lines are two in JSON, and some more.
pub const MOST_BYTES: usize = 2 * MOST;

/// No image has a longer name, in bytes: servers note it.
const LONGEST_NAME: usize = 8 << 10;

/// Where servers have it, beside the folder that their reports are in.
pub const PLACE: &str = "unlock";

/// What a machine sends, beside the `report-token` of its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Locked<'a> {
    pub version: u32,
    pub job: Id,
    /// The machine's own, which names its folder.
    pub address: IpAddr,
    /// Below the job's share; or the URL, where the job names one.
    pub image: Cow<'a, str>,
    /// How the file begins: age's header, which is ASCII.
    pub head: Cow<'a, str>,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlocked {
    /// In hex.
    #[serde(serialize_with = "to_hex", deserialize_with = "of_hex")]
    pub key: FileKey,
}

/// A message that makes no sense. Nothing of an answer is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("it has more than {MOST_BYTES} bytes")]
    Long,
    #[error("it asks for no key: {0}")]
    Wrong(String),
    #[error("it is no key")]
    NoKey,
    #[error("version {0}: this Pitstop reads version {VERSION}")]
    Version(u32),
}

impl<'a> Locked<'a> {
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
        if bytes.len() > MOST_BYTES {
            return Err(BadMessage::Long);
        }
        let locked: Self =
            serde_json::from_slice(bytes).map_err(|error| BadMessage::Wrong(error.to_string()))?;
        if locked.version != VERSION {
            return Err(BadMessage::Version(locked.version));
        }
        if locked.image.len() > LONGEST_NAME {
            let why = format!("its image has a name of more than {LONGEST_NAME} bytes");
            return Err(BadMessage::Wrong(why));
        }
        Ok(locked)
    }
}

impl Unlocked {
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        // serde's own error would quote what was meant as the key.
        serde_json::from_slice(bytes).map_err(|_| BadMessage::NoKey)
    }
}

fn to_hex<S: Serializer>(key: &FileKey, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 * FILE_KEY);
    for byte in key.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    serializer.serialize_str(&text)
}

fn of_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FileKey, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let wrong = || de::Error::custom("a key has 32 hex digits");
    if text.len() != 2 * FILE_KEY || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; FILE_KEY];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        let digits = text.get(at..at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(FileKey::from_bytes(bytes))
}

/// Who has keys for the images of a job, and what is shown there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlockAt {
    pub url: Url,
    pub job: Id,
    pub credentials: Credentials,
}

/// Why nobody is asked for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NobodyUnlocks {
    #[error(
        "no server is known that could have its key: a machine has no keys, and gets that of an image from the pitstop serve \
         (--identities FILE) that its job was set on (pitstop host set), whatever has the share"
    )]
    NoServer,
    #[error(
        "keys are asked for over https alone, and the job's server is {0}: start it with --tls, and set the job again"
    )]
    NotSecure(String),
}

impl UnlockAt {
    /// The server that the job is reported to.
    ///
    /// # Errors
    /// There is none that knows the job by a token, or the way to it is open to everybody.
    pub fn of_job(transfer: &Transfer) -> Result<Self, NobodyUnlocks> {
        let to = transfer.report.as_ref();
        let (at, url) = to
            .and_then(|to| Some((Self::of_report(to)?, &to.url)))
            .ok_or(NobodyUnlocks::NoServer)?;
        if at.url.scheme() != "https" {
            return Err(NobodyUnlocks::NotSecure(
                redacted(url)
                    .split("/report/")
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ));
        }
        Ok(at)
    }

    fn of_report(to: &ReportTo) -> Option<Self> {
        let (url, rest) = beside(&to.url, "report", PLACE)?;
        Some(Self {
            url,
            job: rest.parse().ok()?,
            credentials: to.access.as_ref()?.credentials().clone(),
        })
    }
}

impl fmt::Display for UnlockAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOB: &str = "20261128-212955-0f3a";

    fn transfer(url: &str, token: Option<&str>) -> Transfer {
        let token = token.map(|token| Credentials::Bearer {
            token: token.to_owned(),
        });
        Transfer {
            report: Some(ReportTo::new(url.parse().unwrap(), token)),
            ..Transfer::default()
        }
    }

    #[test]
    fn the_server_of_the_reports_has_keys_and_is_asked_over_https_alone() {
        let at = UnlockAt::of_job(&transfer(
            &format!("https://s:8443/report/{JOB}"),
            Some("t"),
        ));
        let at = at.unwrap();
        assert_eq!(at.to_string(), "https://s:8443/unlock");
        assert_eq!(at.job.as_str(), JOB);
        let at = UnlockAt::of_job(&transfer(
            &format!("http://u:p@s:8080/report/{JOB}"),
            Some("t"),
        ));
        let told = "http://s:8080".to_owned();
        assert_eq!(at, Err(NobodyUnlocks::NotSecure(told)));
        for (url, token) in [
            (format!("https://s/report/{JOB}"), None),
            ("https://logs/in".into(), Some("t")),
            ("https://s/report/x".into(), Some("t")),
        ] {
            let at = UnlockAt::of_job(&transfer(&url, token));
            assert_eq!(at, Err(NobodyUnlocks::NoServer), "{url}");
        }
        let none = UnlockAt::of_job(&Transfer::default());
        assert_eq!(none, Err(NobodyUnlocks::NoServer));
    }

    #[test]
    fn messages_read_back_and_what_is_no_key_is_not_quoted() {
        let locked = Locked {
            version: VERSION,
            job: JOB.parse().unwrap(),
            address: IpAddr::from([10, 0, 2, 15]),
            image: "golden/sda.raw.gz.age".into(),
            head: "age-encryption.org/v1\n-> X25519 \"\n".into(),
        };
        let bytes = locked.to_bytes().unwrap();
        assert_eq!(Locked::parse(&bytes).unwrap(), locked);
        let other = String::from_utf8(bytes).unwrap();
        let other = other.replace("\"version\":1", "\"version\":2");
        assert_eq!(Locked::parse(other.as_bytes()), Err(BadMessage::Version(2)));
        assert_eq!(
            Locked::parse(&vec![b' '; MOST_BYTES + 1]),
            Err(BadMessage::Long)
        );
        let named = |length: usize| Locked {
            image: "x".repeat(length).into(),
            ..locked.clone()
        };
        let longest = named(LONGEST_NAME).to_bytes().unwrap();
        Locked::parse(&longest).unwrap();
        let longer = named(LONGEST_NAME + 1).to_bytes().unwrap();
        let error = Locked::parse(&longer).unwrap_err().to_string();
        assert!(error.contains("more than 8192 bytes"), "{error}");

        let unlocked = Unlocked {
            key: FileKey::from_bytes(*b"0123456789abcdef"),
        };
        let text = serde_json::to_string(&unlocked).unwrap();
        assert_eq!(text, "{\"key\":\"30313233343536373839616263646566\"}");
        assert_eq!(Unlocked::parse(text.as_bytes()).unwrap(), unlocked);
        assert!(!format!("{unlocked:?}").contains("30"), "{unlocked:?}");
        for wrong in [
            "{\"key\":\"303132333435363738396162636465\"}",
            "{\"key\":\"303132333435363738396162636465zz\"}",
            "{\"key\":30313233343536373839616263646566}",
            "{}",
        ] {
            let error = Unlocked::parse(wrong.as_bytes()).unwrap_err();
            assert_eq!(error, BadMessage::NoKey);
        }
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_not(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            key in "\\PC{0,40}",
            text in "\\{(\"(image|head|version|job)\":(1|\"[a-z]{0,6}\"|null),?){0,5}\\}",
        ) {
            let _ = Locked::parse(&bytes);
            let _ = Locked::parse(text.as_bytes());
            let _ = Unlocked::parse(&bytes);
            let _ = Unlocked::parse(serde_json::json!({ "key": key }).to_string().as_bytes());
        }
    }
}
