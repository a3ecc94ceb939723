//! Who gets an image from whom. A state machine without clocks or sockets: reports in, places out.
//!
//! Everything is soft: it is built of what machines say of themselves all the time, and a server that starts anew
//! builds it again of the next words of each. Until then the chain goes on as it is.

mod session;
#[cfg(test)]
mod tests;

use crate::hello::Key;
use crate::message::{Answer, Report, Stage};
use session::{Session, Told};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often a machine reports: of many machines each less often, so that the server is asked some hundred times a second. New
/// ones and those that look slow are heard more often: see `pace`.
const BEAT: Duration = Duration::from_millis(500);
const BEATS_A_SECOND: u32 = 200;

/// How often each of so many machines reports.
fn beat(machines: usize) -> Duration {
    let machines = u32::try_from(machines).unwrap_or(u32::MAX);
    BEAT.max(Duration::from_secs(1) * machines / BEATS_A_SECOND)
}

/// Images at once, and machines of all of them. From one address come half of them at most: behind one may be a lab, and whoever
/// makes machines up must not keep all others out.
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
    /// It was found slow, and is not any more.
    KeepsUp,
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
            Happened::KeepsUp => f.write_str("keeps up with the others again"),
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

/// What one chain is about: an image, whatever names it has. Machines that talk TLS to each other and those that do not
/// are never in one; nor are those of two sites, each with mirrors of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    digest: String,
    tls: bool,
    mirrors: Option<String>,
}

/// One chain, and the name of the image that the first machine in it came with.
struct Chain {
    image: String,
    session: Session,
}

/// Plans all chains of a server.
pub struct Coordinator {
    /// Machines that the server sends one image to at once.
    chains: usize,
    secret: Key,
    sessions: BTreeMap<About, Chain>,
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
            // Hex in small letters is the same digest as in capitals.
            digest: report.digest.to_ascii_lowercase(),
            tls: report.tls,
            mirrors: report.mirrors.as_ref().map(|it| it.to_ascii_lowercase()),
        };
        let key = self.key(&about);
        let mut notices = self.expire(now);
        let told = if report.stage == Stage::Looking {
            Told {
                standing: None,
                beat: BEAT,
            }
        } else {
            if !self.has_room(&about, &report.node, from) {
                return Err(Refused::TooMany);
            }
            let chain = self.sessions.entry(about.clone());
            let session = &mut chain
                .or_insert_with(|| Chain {
                    image: report.image.clone(),
                    session: Session::default(),
                })
                .session;
            let told = session.report(now, from, report, self.chains)?;
            notices.extend(session.take_notices().into_iter().map(|(about, what)| {
                let image = report.image.clone();
                Notice { image, about, what }
            }));
            told
        };
        let answer = Answer {
            key,
            beat_ms: u64::try_from(told.beat.as_millis()).unwrap_or(u64::MAX),
            standing: told.standing,
        };
        Ok((answer, notices))
    }

    /// Whether this machine may be one of those that are planned for.
    fn has_room(&self, about: &About, node: &str, from: IpAddr) -> bool {
        let chain = self.sessions.get(about);
        if chain.is_some_and(|chain| chain.session.knows(node)) {
            return true;
        }
        let (mut all, mut own, mut alone) = (0, 0, 0);
        for Chain { session, .. } in self.sessions.values() {
            let here = session.len_from(from);
            all += session.len();
            own += here;
            alone += usize::from(here == session.len());
        }
        let for_image =
            chain.is_some() || self.sessions.len() < MOST_SESSIONS && alone < MOST_SESSIONS / 2;
        for_image && all < MOST_MEMBERS && own < MOST_MEMBERS / 2
    }

    fn key(&self, about: &About) -> String {
        let mut text = format!("{}\n{}", about.digest, about.tls);
        if let Some(mirrors) = &about.mirrors {
            text.push('\n');
            text.push_str(mirrors);
        }
        blake3::keyed_hash(&self.secret.0, text.as_bytes())
            .to_hex()
            .to_string()
    }

    /// Forgets machines that say nothing any more.
    fn expire(&mut self, now: Duration) -> Vec<Notice> {
        let mut notices = Vec::new();
        for Chain { image, session } in self.sessions.values_mut() {
            session.expire(now);
            let told = session.take_notices();
            notices.extend(told.into_iter().map(|(address, what)| Notice {
                image: image.clone(),
                about: address,
                what,
            }));
        }
        self.sessions.retain(|_, chain| chain.session.len() > 0);
        notices
    }
}
