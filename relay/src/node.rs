//! One restore as a member of a chain.

use crate::hello::{Key, Session};
use crate::intake::{self, InHand, Queue};
use crate::link::Tls;
use crate::manners::{self, Stay};
use crate::message::{Answer, Fault, MOST_BYTES, Report, Source, Stage, Standing, VERSION};
use crate::shelf::Shelf;
use crate::spare::Spare;
use crate::ticket::Ticket;
use crate::{lock, memory, serve};
use anyhow::{Context, anyhow};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{Fed, Feed};
use pitstop_imaging::units;
use pitstop_transport::fetch::{HttpClient, HttpError, Posted, Settings, post, post_patiently};
use pitstop_transport::share::RelayAt;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A server that says nothing for so long has not heard a report.
const UNANSWERED: Duration = Duration::from_secs(3);
/// Between two looks of who has all whether somebody still waits for it.
const LOOKS: Duration = Duration::from_millis(20);
const JSON: &str = "application/json";
/// So few chunks are not worth a place in a chain.
const FEW: usize = 8;
/// Where a chain is planned, and which image it is about.
#[derive(Debug, Clone)]
pub struct Place {
    pub at: RelayAt,
    pub digest: blake3::Hash,
}

/// Why there is no chain to join.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// The server plans none.
    #[error("{0}")]
    NoPlan(String),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// A machine that takes part.
pub struct Node<'a> {
    place: Place,
    /// With less patience than for images: nothing waits for a report.
    http: HttpClient,
    name: String,
    listener: TcpListener,
    port: u16,
    tls: Option<Tls>,
    key: Key,
    window: usize,
    reporter: &'a dyn Reporter,
}

impl<'a> Node<'a> {
    /// Asks the server for its plan, and opens a port for children. Nothing is begun yet.
    ///
    /// # Errors
    /// The server plans no chains or cannot be reached; no port can be had.
    pub fn join(place: Place, reporter: &'a dyn Reporter) -> Result<Self, NotJoined> {
        let prepared = Self::prepare(place, reporter).map_err(NotJoined::Failed)?;
        let report = prepared.report(Stage::Looking);
        let answer = prepared.ask_to_join(&report)?;
        let key = key(&answer.key).ok_or_else(|| {
            let what = format!("{}: the server gave no key", prepared.place.at.url);
            NotJoined::Failed(anyhow!(what))
        })?;
        Ok(Self { key, ..prepared })
    }

    fn prepare(place: Place, reporter: &'a dyn Reporter) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = TcpListener::bind(any)
            // A kernel without IPv6.
            .or_else(|_| TcpListener::bind("0.0.0.0:0"))
            .context("opening a port for other machines")?;
        listener
            .set_nonblocking(true)
            .context("opening a port for other machines")?;
        let address = listener.local_addr().context("asking for the port")?;
        let tls = (place.at.url.scheme() == "https").then(Tls::new);
        let http = HttpClient::new(Settings {
            connect: UNANSWERED,
            stall: UNANSWERED,
            ..place.at.http.settings().clone()
        })?;
        let name: String = (0..32).map(|_| fastrand::digit(16)).collect();
        Ok(Self {
            place,
            http,
            name,
            listener,
            port: address.port(),
            tls: tls.transpose()?,
            key: Key([0; 32]),
            window: memory::window(),
            reporter,
        })
    }

    /// Keeps the least in memory for others: the rest is what its work is done in.
    #[must_use]
    pub fn sparing(self) -> Self {
        Self {
            window: memory::LEAST,
            ..self
        }
    }

    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// How long a server that went away is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.place.at.http.settings().retry_for
    }

    pub(crate) fn warn(&self, text: String) {
        self.reporter.warn(text);
    }

    fn report(&self, stage: Stage) -> Report {
        Report {
            version: VERSION,
            image: self.place.at.path.clone(),
            digest: self.place.digest.to_hex().to_string(),
            node: self.name.clone(),
            port: self.port,
            tls: self.tls.is_some(),
            mirrors: mirrors(&self.place.at.mirrors),
            stage,
            partial: false,
            chunks: 0,
            done: 0,
            received: 0,
            sent: 0,
            largest: 0,
            behind: false,
            source: None,
            complaints: Vec::new(),
        }
    }

    /// As long as it takes: nothing is done before.
    fn ask_to_join(&self, report: &Report) -> Result<Answer, NotJoined> {
        let (http, url) = (&self.place.at.http, &self.place.at.url);
        let body = words(report)?;
        self.answer(post_patiently(http, url, JSON, &body, MOST_BYTES))
    }

    fn post(&self, report: &Report) -> Result<Answer, NotJoined> {
        let (http, url) = (&self.http, &self.place.at.url);
        self.answer(post(http, url, JSON, words(report)?, MOST_BYTES))
    }

    fn answer(&self, posted: Result<Posted, HttpError>) -> Result<Answer, NotJoined> {
        let failed = |error: anyhow::Error| NotJoined::Failed(error);
        let url = &self.place.at.url;
        match posted.map_err(|e| failed(e.into()))? {
            Posted::Answer(bytes) => Answer::parse(&bytes)
                .map_err(|error| failed(anyhow!("what {url} answered: {error}"))),
            Posted::NoSuchPlace(why) => Err(NotJoined::NoPlan(why)),
            Posted::Refused(why) => Err(failed(anyhow!(why))),
        }
    }
}

fn words(report: &Report) -> Result<Vec<u8>, NotJoined> {
    serde_json::to_vec(report).map_err(|error| NotJoined::Failed(error.into()))
}

/// What names a list of mirrors in a word to the server: who has the same list has its chunks from the same place.
fn mirrors(named: &[String]) -> Option<String> {
    (!named.is_empty()).then(|| {
        blake3::hash(named.join("\n").as_bytes())
            .to_hex()
            .to_string()
    })
}

fn key(hex: &str) -> Option<Key> {
    let hash = blake3::Hash::from_hex(hex).ok()?;
    Some(Key(*hash.as_bytes()))
}

impl Feed for Node<'_> {
    fn run(
        &self,
        fed: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let run = Run {
            node: self,
            fed,
            began: Instant::now(),
            shelf: Shelf::new(fed.count(), fed.chunks(), self.window),
            spare: Spare::default(),
            ticket: Ticket::new(),
            session: Session {
                key: self.key.clone(),
                digest: self.place.digest,
                count: fed.count(),
            },
            queue: Queue::default(),
            in_hand: InHand::default(),
            stop: AtomicBool::new(false),
            error: Mutex::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            callers: serve::Callers::default(),
            children: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
        };
        let (_, left) = run.shelf.progress();
        let joins = left > FEW as u64;
        if joins {
            self.reporter.info(format!(
                "{} is shared with other machines that get it too: window {}",
                self.place.at.path,
                units::bytes(self.window as u64)
            ));
        } else {
            // For so little nobody is asked to plan anything.
            run.ticket.fall_back();
        }
        thread::scope(|scope| {
            let _ends = StopOnDrop(&run);
            for _ in 0..fed.hands() {
                scope.spawn(|| run.keep_going(intake::work));
            }
            if joins {
                scope.spawn(|| run.beats());
                scope.spawn(|| serve::listen(&run, scope));
            }
            run.intake()?;
            // Its parent may go.
            run.ticket.hurry();
            finish()?;
            if joins {
                run.stay();
            }
            Ok(())
        })
    }
}

/// One restore under way, as all its threads see it.
pub(crate) struct Run<'a> {
    pub(crate) node: &'a Node<'a>,
    pub(crate) fed: &'a dyn Fed,
    began: Instant,
    pub(crate) shelf: Shelf,
    pub(crate) spare: Spare,
    pub(crate) ticket: Ticket,
    pub(crate) session: Session,
    pub(crate) queue: Queue,
    pub(crate) in_hand: InHand,
    pub(crate) stop: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Those who may be children, and those who are.
    pub(crate) callers: serve::Callers,
    pub(crate) children: AtomicUsize,
    /// Children that are being sent something and go before leaves.
    pub(crate) busy: AtomicUsize,
}

struct StopOnDrop<'a>(&'a Run<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.ticket.hurry();
        self.0.queue.wake();
        self.0.shelf.wake();
    }
}

impl Run<'_> {
    /// The clock of everything that is decided here.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.fed.is_over()
    }

    /// # Errors
    /// Another thread's.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match lock(&self.error).take() {
            Some(error) => Err(error),
            None if self.fed.is_over() => Err(anyhow!("the rest is not wanted any more")),
            None if self.stopped() => Err(anyhow!("a thread of the relay died")),
            None => Ok(()),
        }
    }

    /// Runs a thread's work; its error ends all others.
    fn keep_going(&self, work: impl FnOnce(&Self) -> anyhow::Result<()>) {
        let done = work(self);
        let ends = done.is_err() || self.fed.is_over();
        if let Err(error) = done {
            lock(&self.error).get_or_insert(error);
        }
        if ends {
            // Nobody makes room for what comes now.
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Turns from a peer, and says why.
    pub(crate) fn blame(&self, peer: SocketAddr, fault: Fault, why: &str) {
        self.node.warn(format!(
            "the machine at {peer} is left, and the rest is taken from another: {why}"
        ));
        self.ticket.complain(peer, fault);
    }

    pub(crate) fn tell_fall_back(&self) {
        self.node.warn(format!(
            "nobody said for {} where the rest is to be had: it is taken from the server",
            units::duration(self.node.patience())
        ));
    }

    /// Tells the server how it goes, and hears where to get the rest, until the run ends.
    fn beats(&self) {
        let mut told = None;
        while !self.stopped() {
            let stage = if self.shelf.is_complete() {
                Stage::Done
            } else {
                Stage::Working
            };
            let period = match self.beat(stage) {
                Ok(answer) => {
                    self.tell_source(&mut told, answer.standing.as_ref());
                    let beat = Duration::from_millis(answer.beat_ms);
                    manners::silent_for(beat, stage, self.children.load(Ordering::Relaxed))
                }
                // It is told where it matters: when the source is gone too.
                Err(_) => manners::AWAY,
            };
            if !self.stopped() {
                self.ticket.wait_for_beat(period);
            }
        }
        // The server finds out by itself if this is not heard.
        let _ = self.beat(Stage::Left);
    }

    fn beat(&self, stage: Stage) -> Result<Answer, NotJoined> {
        let said = self.ticket.say();
        let (chunks, left) = self.shelf.progress();
        let report = Report {
            partial: !self.fed.is_whole(),
            chunks,
            done: chunks - left,
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            largest: self.fed.largest_member() as u64,
            behind: self.queue.was_full() || self.in_hand.stands_still(self.now()),
            source: said.source,
            complaints: said.complaints.clone(),
            ..self.node.report(stage)
        };
        let answer = self.node.post(&report)?;
        self.ticket.heard(&said, answer.standing.as_ref());
        Ok(answer)
    }

    /// Who reads the log sees where chunks came from.
    fn tell_source(&self, told: &mut Option<Source>, standing: Option<&Standing>) {
        let Some(source) = standing.map(|it| it.source) else {
            return;
        };
        if told.replace(source) == Some(source) {
            return;
        }
        let from = match source {
            Source::Server if self.node.place.at.mirrors.is_empty() => "the server".to_owned(),
            Source::Server => "a mirror, or the server where none has it".to_owned(),
            Source::Peer(peer) => format!("the machine at {peer}"),
        };
        self.node.reporter.info(format!("chunks come from {from}"));
    }

    /// All is on the disk: waits until nobody needs what is here.
    fn stay(&self) {
        let mut stay = Stay::new(self.now());
        let children = || self.children.load(Ordering::Relaxed);
        while !self.stopped() && !stay.is_over(self.now(), children(), self.ticket.may_leave()) {
            if let Some(word) = stay.word(self.now(), children()) {
                self.node.reporter.info(word);
            }
            thread::sleep(LOOKS);
        }
    }
}
