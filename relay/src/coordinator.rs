//! Who gets an image from whom. A state machine without clocks or sockets: reports in, places out.
//!
//! Everything is soft: it is built of what machines say of themselves once or twice a second, and a server that starts anew
//! builds it again of the next words of each. Until then the chain goes on as it is.

mod session;
#[cfg(test)]
mod tests;

use crate::hello::Key;
use crate::message::{Answer, Report, Stage};
use session::Session;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often a machine reports: of many machines each less often, so that the server is not asked more than some hundred
/// times a second.
const BEAT: Duration = Duration::from_millis(500);
const BEATS_A_SECOND: u32 = 200;
/// Images at once, and machines of one.
const MOST_SESSIONS: usize = 256;
const MOST_MEMBERS: usize = 4096;

/// Something worth a line in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The image's path.
    pub image: String,
    /// The machine that it is about.
    pub about: IpAddr,
    pub what: Happened,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    Joined,
    /// It sent what does not match the index.
    Lied {
        told_by: SocketAddr,
    },
    /// It blames one machine after the other.
    Blames,
    Silent {
        told_by: SocketAddr,
    },
    /// It was slower than its parent.
    Slow,
    /// No word from it any more.
    Lost,
    /// It has all, and what it moved.
    Done {
        received: u64,
        sent: u64,
        from_server: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = pitstop_imaging::units::bytes;
        write!(f, "relay of {}: {} ", self.image, self.about)?;
        match self.what {
            Happened::Joined => f.write_str("takes part"),
            Happened::Lied { told_by } => write!(
                f,
                "lied to {}, by what it sent or by what it said: nobody gets anything from it any more; look at its memory and \
                 its NIC",
                told_by.ip()
            ),
            Happened::Blames => f.write_str(
                "found fault with two others: nobody gets anything from it any more; look at its memory and its NIC",
            ),
            Happened::Silent { told_by } => {
                write!(f, "gave {} nothing more", told_by.ip())
            }
            Happened::Slow => f.write_str("is slower than the others: it goes to the end"),
            Happened::Lost => f.write_str("says nothing any more"),
            Happened::Done {
                received,
                sent,
                from_server,
            } => write!(
                f,
                "has all: {} came, {} of it from the server; {} sent on",
                bytes(received),
                bytes(from_server),
                bytes(sent)
            ),
        }
    }
}

/// Why a machine gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this name is another machine's")]
    NotYours,
    #[error("more machines or images than a server plans for")]
    TooMany,
}

/// What one chain is about. Machines that talk TLS to each other and those that do not are never in one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    image: String,
    digest: String,
    tls: bool,
}

/// Plans all chains of a server.
pub struct Coordinator {
    /// Machines that the server sends one image to at once.
    chains: usize,
    secret: Key,
    sessions: BTreeMap<About, Session>,
}

impl Coordinator {
    /// The server sends each image to `chains` machines at once, one or more. Keys of sessions are made of `secret`, which
    /// outlives the process, so that the machines of one session keep understanding each other.
    pub fn new(chains: usize, secret: [u8; 32]) -> Self {
        Self {
            chains: chains.max(1),
            secret: Key(secret),
            sessions: BTreeMap::new(),
        }
    }

    /// Takes a machine's word at `now`, from the address it asks from, and tells it where to get the rest.
    ///
    /// # Errors
    /// It is refused, and keeps what it has.
    pub fn report(
        &mut self,
        now: Duration,
        from: IpAddr,
        report: &Report,
    ) -> Result<(Answer, Vec<Notice>), Refused> {
        let about = About {
            image: report.image.clone(),
            digest: report.digest.clone(),
            tls: report.tls,
        };
        let key = self.key(&about);
        let mut notices = self.expire(now);
        let (standing, beat) = if report.stage == Stage::Looking {
            (None, BEAT)
        } else {
            let room = self.sessions.len() < MOST_SESSIONS || self.sessions.contains_key(&about);
            if !room {
                return Err(Refused::TooMany);
            }
            let session = self.sessions.entry(about.clone()).or_default();
            let standing = session.report(now, from, report, self.chains)?;
            let told = session.take_notices();
            notices.extend(told.into_iter().map(|(about, what)| Notice {
                image: report.image.clone(),
                about,
                what,
            }));
            let members = u32::try_from(session.len()).unwrap_or(u32::MAX);
            (
                standing,
                BEAT.max(Duration::from_secs(1) * members / BEATS_A_SECOND),
            )
        };
        let answer = Answer {
            key,
            beat_ms: u64::try_from(beat.as_millis()).unwrap_or(u64::MAX),
            standing,
        };
        Ok((answer, notices))
    }

    fn key(&self, about: &About) -> String {
        let text = format!("{}\n{}\n{}", about.digest, about.tls, about.image);
        blake3::keyed_hash(&self.secret.0, text.as_bytes())
            .to_hex()
            .to_string()
    }

    /// Forgets machines that say nothing any more.
    fn expire(&mut self, now: Duration) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (about, session) in &mut self.sessions {
            session.expire(now);
            let told = session.take_notices();
            notices.extend(told.into_iter().map(|(address, what)| Notice {
                image: about.image.clone(),
                about: address,
                what,
            }));
        }
        self.sessions.retain(|_, session| session.len() > 0);
        notices
    }
}
