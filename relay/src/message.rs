//! What a machine and the server say to each other about a chain: `POST /relay`, JSON both ways, as often as
//! the last answer asked for.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The only version there is.
pub const VERSION: u32 = 1;

/// No message either way is longer, in bytes.
pub const MOST_BYTES: usize = 16 << 10;

/// No machine names more faults at once.
const MOST_FAULTS: usize = 32;
const LONGEST_PATH: usize = 4096;

/// Where a machine has its chunks from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Server,
    Peer(SocketAddr),
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It asks whether there is a plan, and is no part of it yet.
    Looking,
    Working,
    /// It has all, and stays for its children.
    Done,
    /// It goes.
    Left,
}

/// What a machine did wrong in another one's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It sent something else than it said, or what nobody sends.
    Wrong,
    /// It said nothing more, or nothing that was wanted.
    Silent,
    Unreachable,
    /// It does not have all that was wanted.
    Lacks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub about: SocketAddr,
    pub fault: Fault,
}

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub version: u32,
    /// The image's path on the server, and its digest in hex.
    pub image: String,
    pub digest: String,
    /// A random name: whoever says it is the machine that said it first.
    pub node: String,
    /// Where its peers reach it; the address is the one that it asks from.
    pub port: u16,
    /// Its peers are to talk TLS.
    #[serde(default)]
    pub tls: bool,
    /// The mirrors that it reads from in place of the server, as a BLAKE3 in hex: who names others is in another chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrors: Option<String>,
    pub stage: Stage,
    /// It restores parts alone, and will not have the rest.
    #[serde(default)]
    pub partial: bool,
    /// Chunks in all, and those that it has.
    pub chunks: u64,
    pub done: u64,
    /// Bytes of members that came and that were sent on.
    pub received: u64,
    pub sent: u64,
    /// The image's largest member in bytes; 0 of a machine that does not say.
    #[serde(default)]
    pub largest: u64,
    /// Since its last word it took nothing for a while, as what came before was not on its own disk yet; or nothing of that is
    /// being finished now.
    #[serde(default)]
    pub behind: bool,
    pub source: Option<Source>,
    #[serde(default)]
    pub complaints: Vec<Complaint>,
}

/// The place of a machine in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    pub source: Source,
    /// Where to go when the source goes.
    pub grandparent: Option<SocketAddr>,
    /// Its parent serves others first.
    pub leaf: bool,
    /// Nobody waits for what it has.
    pub leave: bool,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The session's key in hex.
    pub key: String,
    pub beat_ms: u64,
    /// `None` for a machine that is only looking.
    pub standing: Option<Standing>,
}

/// A message that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("it has more than {MOST_BYTES} bytes")]
    Long,
    #[error("it is not what is said about a relay: {0}")]
    Wrong(String),
    #[error("version {0}: this Pitstop reads version {VERSION}")]
    Version(u32),
}

impl Report {
    /// Reads what a machine, or somebody who pretends to be one, has sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        let read: Self = read(bytes)?;
        let wrong = |what: &str| Err(BadMessage::Wrong(what.to_owned()));
        if read.version != VERSION {
            return Err(BadMessage::Version(read.version));
        }
        if blake3::Hash::from_hex(&read.digest).is_err() {
            return wrong("the digest is no BLAKE3 in hex");
        }
        let is_hash = |text: &String| blake3::Hash::from_hex(text).is_ok();
        if !read.mirrors.as_ref().is_none_or(is_hash) {
            return wrong("its mirrors are no BLAKE3 in hex");
        }
        if read.image.len() > LONGEST_PATH || read.image.chars().any(char::is_control) {
            return wrong("the image's path is none");
        }
        let is_name = read.node.len() == 32 && read.node.bytes().all(|it| it.is_ascii_hexdigit());
        if !is_name || read.port == 0 {
            return wrong("it does not say who asks");
        }
        if read.complaints.len() > MOST_FAULTS || read.done > read.chunks {
            return wrong("its numbers make no sense");
        }
        Ok(read)
    }
}

impl Answer {
    /// Reads what a server, or something in between, has answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        read(bytes)
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, BadMessage> {
    if bytes.len() > MOST_BYTES {
        return Err(BadMessage::Long);
    }
    serde_json::from_slice(bytes).map_err(|error| BadMessage::Wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        Report {
            version: VERSION,
            image: "/share/golden/sda.raw.gz".into(),
            digest: blake3::hash(b"x").to_hex().to_string(),
            node: "0123456789abcdef0123456789abcdef".into(),
            port: 4000,
            tls: false,
            mirrors: Some(blake3::hash(b"http://rack7:8080").to_hex().to_string()),
            stage: Stage::Working,
            partial: false,
            chunks: 10,
            done: 3,
            received: 300,
            sent: 200,
            largest: 1 << 20,
            behind: true,
            source: Some(Source::Peer("10.0.0.3:4000".parse().unwrap())),
            complaints: vec![Complaint {
                about: "10.0.0.2:4000".parse().unwrap(),
                fault: Fault::Wrong,
            }],
        }
    }

    #[test]
    fn messages_read_back() {
        let text = serde_json::to_vec(&report()).unwrap();
        assert_eq!(Report::parse(&text), Ok(report()));
        let answer = Answer {
            key: "00".repeat(32),
            beat_ms: 500,
            standing: Some(Standing {
                source: Source::Server,
                grandparent: None,
                leaf: false,
                leave: true,
            }),
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(text.contains(r#""source":"server""#), "{text}");
        assert_eq!(Answer::parse(text.as_bytes()), Ok(answer));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong: [fn(&mut Report); 7] = [
            |it| it.version = 2,
            |it| it.digest = "x".into(),
            |it| it.node = "../../etc/passwd".into(),
            |it| it.port = 0,
            |it| it.done = 11,
            |it| it.image = "a\nb".into(),
            |it| it.mirrors = Some("http://rack7:8080".into()),
        ];
        for spoil in wrong {
            let mut report = report();
            spoil(&mut report);
            let text = serde_json::to_vec(&report).unwrap();
            assert!(Report::parse(&text).is_err(), "{report:?}");
        }
        assert_eq!(
            Report::parse(&vec![b' '; MOST_BYTES + 1]),
            Err(BadMessage::Long)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Report::parse(&bytes);
            let _ = Answer::parse(&bytes);
        }
    }
}
