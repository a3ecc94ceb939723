//! Sends what waits: once a second, again and ever less often where the server does not answer, and with a limit at the end.

use super::beginning;
use super::queue::Queue;
use jiff::Timestamp;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::credentials::Credentials;
use pitstop_protocol::event::{AFTER_CRASH, About, MEDIA_TYPE, Outcome, Record, What};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ReportTo;
use pitstop_protocol::machine::Lease;
use pitstop_protocol::redacted;
use pitstop_transport::fetch::{HttpClient, Method, Settings};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use url::Url;

const EVERY: Duration = Duration::from_secs(1);
/// Between two tries, at first and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between two tries when the run is over and is waiting.
const LAST_WAIT: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(10);
/// A server on the same network answers within milliseconds.
const SLOW: Duration = Duration::from_secs(2);
/// The most that the end of a run waits for its result to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the end of a crash is told.
const CRASH_TRIES: u32 = 2;

/// How the last try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Answering,
    Failing,
}

impl Health {
    /// How long the end of a run waits for a server in this state.
    fn patience(self) -> Duration {
        match self {
            Health::Answering => PATIENCE,
            Health::Unknown => Duration::from_secs(1),
            Health::Failing => Duration::from_millis(300),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    /// The server will not take these lines, however often they come.
    Refused,
    Failed,
}

/// The thread that sends, seen from the run.
pub(super) struct Sender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    health: Health,
    /// When the try that is under way began.
    asked: Option<Instant>,
    done: bool,
}

impl State {
    /// A server that takes its time is as good as one that does not answer.
    fn health(&self) -> Health {
        match self.asked {
            Some(asked) if asked.elapsed() > SLOW => Health::Failing,
            _ => self.health,
        }
    }
}

impl Shared {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.locked());
        self.changed.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Begins to send. `None` where that cannot be: it is told, and the run goes on.
    pub(super) fn start(
        to: &ReportTo,
        retry_for: Duration,
        queue: &Arc<Queue>,
        console: &Arc<dyn Reporter>,
    ) -> Option<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                health: Health::Unknown,
                asked: None,
                done: false,
            }),
            changed: Condvar::new(),
        });
        let mut worker = Worker {
            queue: Arc::clone(queue),
            shared: Arc::clone(&shared),
            console: Arc::clone(console),
            retry_for,
            closed: None,
            told: false,
        };
        let to = to.clone();
        // It ends by itself when the queue is closed and empty, or too long after that.
        let thread = thread::Builder::new().name("report".into()).spawn(move || {
            // Certificates are read here: the work does not wait for them either.
            match Post::new(&to) {
                Ok(post) => worker.work(&post),
                Err(error) => worker.gives_up(&error),
            }
            worker.shared.set(|state| state.done = true);
        });
        if let Err(error) = thread {
            console.warn(format!("nothing will be reported: {error}"));
            queue.turn_off();
            return None;
        }
        Some(Self(shared))
    }

    /// Waits until all has arrived, as long as there is hope. The thread goes on after that.
    pub(super) fn wait(self) {
        let mut state = self.0.locked();
        let health = state.health();
        let end = Instant::now() + health.patience();
        loop {
            let gave_up = health == Health::Unknown && state.health == Health::Failing;
            let left = end.saturating_duration_since(Instant::now());
            if state.done || gave_up || left.is_zero() {
                return;
            }
            state = self
                .0
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    console: Arc<dyn Reporter>,
    retry_for: Duration,
    /// Since when nothing comes any more.
    closed: Option<Instant>,
    /// The consoles know that the server does not answer.
    told: bool,
}

impl Worker {
    fn work(&mut self, post: &Post) {
        loop {
            self.pause(EVERY);
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                if !self.deliver(post, &batch) {
                    return;
                }
            }
            if self.closed.is_some() {
                return;
            }
        }
    }

    fn gives_up(&self, error: &anyhow::Error) {
        self.console
            .warn(format!("nothing will be reported: {error:#}"));
        self.queue.turn_off();
    }

    /// Sends a batch until it has arrived or cannot. `false` when the run has been over for too long.
    fn deliver(&mut self, post: &Post, batch: &str) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            self.shared.set(|state| state.asked = Some(Instant::now()));
            let sent = post.send(batch);
            match &sent {
                Ok(Sent::Taken | Sent::Refused) => {}
                Ok(Sent::Failed) => self.tell(post, "its server has other troubles"),
                Err(error) => self.tell(post, &format!("{error:#}")),
            }
            let answered = matches!(sent, Ok(Sent::Taken | Sent::Refused));
            self.shared.set(|state| {
                state.asked = None;
                state.health = if answered {
                    Health::Answering
                } else {
                    Health::Failing
                };
            });
            if answered {
                return true;
            }
            let over = |closed: Instant| closed.elapsed() > self.retry_for;
            if self.closed.is_some_and(over) {
                return false;
            }
            // Many machines lose a server at the same moment: they do not come back at the same moment.
            self.pause(wait.mul_f64(0.5 + fastrand::f64()));
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits, but not for long once the run is over.
    fn pause(&mut self, time: Duration) {
        if let Some(closed) = self.closed {
            let waited_for = closed.elapsed() < PATIENCE;
            thread::sleep(if waited_for {
                time.min(LAST_WAIT)
            } else {
                time
            });
        } else if self.queue.wait(time) {
            self.closed = Some(Instant::now());
        }
    }

    fn tell(&mut self, post: &Post, why: &str) {
        if !self.told {
            self.told = true;
            self.console.info(format!(
                "reports do not arrive at {}: {why}; the work goes on without",
                redacted(&post.url)
            ));
        }
    }
}

/// One place that takes reports.
struct Post {
    url: Url,
    http: HttpClient,
}

impl Post {
    fn new(to: &ReportTo) -> anyhow::Result<Self> {
        Ok(Self {
            url: to.url.clone(),
            // A client of its own: what it sees of a server changes nothing for the work.
            http: HttpClient::new(Settings {
                connect: CONNECT,
                stall: STALL,
                access: to.access.clone(),
                ..Settings::default()
            })?,
        })
    }

    /// Tries once.
    fn send(&self, batch: &str) -> anyhow::Result<Sent> {
        let request = self.http.request(Method::POST, &self.url);
        let answer = request
            .header("content-type", MEDIA_TYPE)
            .body(batch.to_owned())
            .send()?;
        Ok(match answer.status().as_u16() {
            200..300 => Sent::Taken,
            400 | 413 => Sent::Refused,
            _ => Sent::Failed,
        })
    }
}

/// What it takes to report that the worker is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashed {
    pub run: Id,
    /// May hold a password: not for logs.
    url: String,
    credentials: Option<Credentials>,
}

impl Crashed {
    pub fn new(run: &Id, to: &ReportTo) -> Self {
        Self {
            run: run.clone(),
            url: to.url.to_string(),
            credentials: to
                .access
                .as_ref()
                .map(|access| access.credentials().clone()),
        }
    }
}

/// Reports the end of a run whose worker crashed.
///
/// # Errors
/// It does not arrive.
pub fn after_crash(crashed: &Crashed, lease: &Lease, outcome: Outcome) -> anyhow::Result<()> {
    let to = ReportTo::new(crashed.url.parse()?, crashed.credentials.clone());
    let post = Post::new(&to)?;
    let mut batch = String::new();
    for (seq, what) in (AFTER_CRASH..).zip([beginning(lease, ""), What::Result(outcome)]) {
        let record = Record {
            run: crashed.run.clone(),
            seq,
            time: Timestamp::now(),
            about: About::default(),
            what,
        };
        batch.push_str(&record.line()?);
        batch.push('\n');
    }
    let mut tries = 1;
    loop {
        match post.send(&batch) {
            Ok(Sent::Taken) => return Ok(()),
            Ok(Sent::Refused) => anyhow::bail!("{} does not take it", redacted(&to.url)),
            Ok(Sent::Failed) if tries == CRASH_TRIES => {
                anyhow::bail!("the server of {} has other troubles", redacted(&to.url))
            }
            Err(error) if tries == CRASH_TRIES => return Err(error),
            Ok(Sent::Failed) | Err(_) => thread::sleep(FIRST_WAIT),
        }
        tries += 1;
    }
}
