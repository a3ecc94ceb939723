//! At the door: the machine tells the server that it has come for its job, waits for a slot, and then says again and again
//! that it is at work.
//!
//! Before the work nothing is touched, so a server that is away is waited for as long as `retry-for`, and then the try has
//! failed. Once the work runs, nothing here slows it or fails it: words that are not heard are said again later.

use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::units;
use pitstop_protocol::check_in::{Answer, CheckIn, MOST_BYTES, Says, ordinal, period};
use pitstop_protocol::event::Planned;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::Transfer;
use pitstop_transport::fetch::{HttpClient, Listener, Posted, Settings, post};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use url::Url;

/// Silence of the server that ends one try: less than the shortest `progress-timeout`.
const STALL: Duration = Duration::from_secs(5);

/// Between two signs of life of a machine that waits: less than the shortest `progress-timeout`, too.
const SIGN: Duration = Duration::from_secs(3);

/// How often a machine that waits says its place again, where that stays the same.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The waits after a server that does not answer.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How long the end of the work is told to a server that does not answer.
const LAST_WORD: Duration = Duration::from_secs(10);

/// How a machine gets past the door.
pub enum Admitted {
    Go {
        slot: Slot,
        /// In this job a part of the image was written, in an earlier try perhaps.
        written: bool,
    },
    /// The job is not wanted any more.
    Cancelled {
        reason: String,
        /// As in `Go`.
        written: bool,
    },
    /// The server keeps no track of this job.
    Untracked,
}

/// Why a word was of no use.
enum Unheard {
    /// Saying it again may help.
    Passing(String),
    /// There is nobody who keeps track.
    Nobody(String),
    Lasting(String),
}

/// The door of one job.
#[derive(Clone)]
pub struct Door {
    http: HttpClient,
    url: Url,
    run: Id,
    patience: Duration,
    reporter: Arc<dyn Reporter>,
}

impl Door {
    /// For the job whose door is at `url`, and this try of it.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        url: &Url,
        run: Id,
        transfer: &Transfer,
        reporter: Arc<dyn Reporter>,
    ) -> anyhow::Result<Self> {
        let settings = Settings {
            connect: STALL,
            stall: STALL,
            ..Settings::of_job(transfer, Listener::default())
        };
        Ok(Self {
            http: HttpClient::new(settings)?,
            url: url.clone(),
            run,
            patience: transfer.retry_for,
            reporter,
        })
    }

    /// Waits for a slot, for as long as it takes. `meanwhile` is told which image grows that is waited for, if one does, and says
    /// whether any of it is on a disk.
    ///
    /// # Errors
    /// The server does not answer for longer than `retry-for`, or refuses this machine.
    pub fn wait(
        self,
        meanwhile: &mut dyn FnMut(Option<&Planned>) -> bool,
    ) -> anyhow::Result<Admitted> {
        let mut told = Told::default();
        let mut away = Away::new(self.patience);
        let mut written = false;
        loop {
            self.sign();
            // It may have begun to write since the last answer.
            written |= meanwhile(None);
            match self.say(Says::Ready, written) {
                Ok(Answer::Go { beat_ms, written }) => {
                    let slot = Slot::new(self, period(beat_ms))?;
                    return Ok(Admitted::Go { slot, written });
                }
                Ok(Answer::Wait {
                    place,
                    of,
                    ask_ms,
                    why,
                    grows,
                }) => {
                    if let Some(line) = told.news(place, of, why.as_deref()) {
                        self.reporter.info(line);
                    }
                    away.is_back();
                    written = meanwhile(grows.as_deref());
                    self.pause(jittered(period(ask_ms)));
                }
                Ok(Answer::Cancelled { reason, written }) => {
                    return Ok(Admitted::Cancelled { reason, written });
                }
                Ok(Answer::Noted) => bail!("{}: an answer that decides nothing", self.url),
                Err(Unheard::Nobody(why)) => {
                    self.reporter.warn(format!(
                        "{why}: nobody there keeps track of this job; the work begins without a slot"
                    ));
                    return Ok(Admitted::Untracked);
                }
                Err(Unheard::Lasting(why)) => bail!("asking for a slot: {why}"),
                Err(Unheard::Passing(why)) => {
                    let wait = away.next();
                    let tries = away.tries;
                    let Some(wait) = wait else {
                        bail!("asking for a slot: {why} (given up after {tries} tries)");
                    };
                    if tries == 1 {
                        let limit = units::duration(self.patience);
                        self.reporter
                            .warn(format!("{why}: trying again for up to {limit}"));
                    }
                    self.pause(wait);
                }
            }
        }
    }

    fn say(&self, says: Says, written: bool) -> Result<Answer, Unheard> {
        let message = CheckIn {
            written,
            ..CheckIn::new(self.run.clone(), says)
        };
        let body = serde_json::to_vec(&message).map_err(|e| Unheard::Lasting(e.to_string()))?;
        let posted = post(
            &self.http,
            &self.url,
            "application/json",
            body,
            MOST_BYTES + 1,
        );
        match posted {
            Ok(Posted::Answer(bytes)) => Answer::parse(&bytes)
                .map_err(|error| Unheard::Passing(format!("{}: {error}", self.url))),
            Ok(Posted::NoSuchPlace(why)) => Err(Unheard::Nobody(why)),
            Ok(Posted::Refused(why)) => Err(Unheard::Lasting(why)),
            Err(error) if error.failure.is_passing() => Err(Unheard::Passing(error.to_string())),
            Err(error) => Err(Unheard::Lasting(error.to_string())),
        }
    }

    /// PID 1 takes silence for a crash.
    fn sign(&self) {
        self.reporter.debug("at the door".into());
    }

    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(SIGN));
            self.sign();
        }
    }
}

/// What was said of what is waited for.
#[derive(Default)]
struct Told {
    last: Option<String>,
    when: Option<Instant>,
}

impl Told {
    /// What is worth a line: `why` the machine waits, or its place among those that wait for a slot.
    fn news(&mut self, place: u32, of: u32, why: Option<&str>) -> Option<String> {
        if let Some(why) = why {
            return self.is_news(why).then(|| format!("waiting: {why}"));
        }
        let place = ordinal(place);
        // That others came behind is no news.
        let is_news = self.is_news(&place);
        is_news.then(|| format!("waiting for a slot: {place} of {of}"))
    }

    /// Whether this is worth a line: something else than before, or the same after a while.
    fn is_news(&mut self, what: &str) -> bool {
        let moved = self.last.as_deref() != Some(what);
        let long_ago = self.when.is_none_or(|when| when.elapsed() >= SAY_AGAIN);
        if moved || long_ago {
            self.last = Some(what.to_owned());
            self.when = Some(Instant::now());
        }
        moved || long_ago
    }
}

/// A server that does not answer.
struct Away {
    patience: Duration,
    since: Option<Instant>,
    wait: Duration,
    tries: u32,
}

impl Away {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: None,
            wait: FIRST_WAIT,
            tries: 0,
        }
    }

    /// How long to wait before the next try, if there is one.
    fn next(&mut self) -> Option<Duration> {
        self.tries += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.patience.saturating_sub(since.elapsed());
        let wait = jittered(self.wait).min(left);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        (!left.is_zero()).then_some(wait)
    }

    fn is_back(&mut self) {
        *self = Self::new(self.patience);
    }
}

/// Between half of `wait` and all of it: machines that were switched on together do not ask together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

/// A slot that the machine has. It says so until it is dropped.
pub struct Slot {
    door: Door,
    /// Gone with the slot, which ends the thread.
    stop: Option<Sender<()>>,
}

impl Slot {
    fn new(door: Door, beat: Duration) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let speaker = door.clone();
        thread::Builder::new()
            .name("check-in".into())
            .spawn(move || keep_saying(&speaker, &stopped, beat))
            .context("starting the thread that keeps the slot")?;
        Ok(Self {
            door,
            stop: Some(stop),
        })
    }

    /// Says that the work is done.
    pub fn done(self) {
        self.end(&Says::Done);
    }

    /// Says that this try failed, and whether the machine tries again by itself.
    pub fn failed(self, reason: &str, again: bool) {
        let reason = reason.to_owned();
        self.end(&Says::Failed { reason, again });
    }

    fn end(mut self, says: &Says) {
        self.stop = None;
        let begun = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            match self.door.say(says.clone(), false) {
                Ok(_) => return,
                Err(Unheard::Passing(why)) if begun.elapsed() + wait > LAST_WORD => {
                    self.door
                        .reporter
                        .warn(format!("the server does not know how it went: {why}"));
                    return;
                }
                Err(Unheard::Passing(_)) => {
                    self.door.pause(wait);
                    wait *= 2;
                }
                Err(Unheard::Nobody(why) | Unheard::Lasting(why)) => {
                    self.door
                        .reporter
                        .warn(format!("the server does not know how it went: {why}"));
                    return;
                }
            }
        }
    }
}

fn keep_saying(door: &Door, stopped: &Receiver<()>, beat: Duration) {
    let mut told = false;
    while stopped.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
        // What is not heard is said again at the next beat.
        if let Ok(Answer::Cancelled { reason, .. }) = door.say(Says::Working, false)
            && !told
        {
            told = true;
            door.reporter.warn(format!(
                "the job is not wanted any more ({reason}); it has begun and goes on to its end"
            ));
        }
    }
}

#[cfg(test)]
pub mod script;
#[cfg(test)]
mod tests;
