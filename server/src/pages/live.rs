//! `/live`: what a page hears of, as server-sent events: rows of machines as they are to be shown, the word that something of
//! the page has changed, and the log of a run as it comes.

use super::frame::query;
use crate::events::News;
use crate::http::Here;
use crate::refusal::{Refusal, blocking};
use crate::runs::Log;
use crate::site::Site;
use crate::view;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use pitstop_api::{EventKind, Id, Job, Machine};
use pitstop_page::{Topic, machines as machines_page};
use pitstop_protocol::event;
use serde::Serialize;
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

/// A page is told at most so often: people read no faster, and two thousand machines report each second.
const PACE: Duration = Duration::from_secs(1);
/// A page may be told what was so this long ago: less than what it waits for anyway.
const FRESH: Duration = Duration::from_millis(300);
/// Rows of one event: a browser puts so many in place between two frames.
const ROWS: usize = 100;

pub async fn live(Here(site): Here, uri: Uri) -> Result<Response, Refusal> {
    let asked = |key: &str| query(&uri, key).unwrap_or_default();
    let topic = Topic::of_query(&asked("page"), &asked("of"));
    let topic =
        topic.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "there is no such page"))?;
    let last = asked("last");
    let begin = site.events.listen((!last.is_empty()).then_some(&last));
    let log = asked("log").parse::<Id>().ok().map(|run| Following {
        log: site.runs.runs().log(&run),
        run,
        seen: 0,
        from: asked("from").parse().unwrap_or(0),
    });
    let listener = Listener {
        site,
        topic,
        missed: begin.missed,
        news: begin.news,
        log,
        told: None,
        rows: HashMap::new(),
        ready: VecDeque::new(),
    };
    let events = stream::unfold(listener, |mut listener| async {
        loop {
            if let Some(event) = listener.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event), listener));
            }
            let batch = listener.gather().await?;
            listener = listener.render(batch).await?;
        }
    });
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response();
    // nginx would keep events back until it has a buffer full of them.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

/// The log of a run, as far as its page has it.
struct Following {
    run: Id,
    log: Log,
    /// Bytes of it that were read.
    seen: usize,
    /// Bytes of it that the page has.
    from: usize,
}

struct Listener {
    site: Arc<Site>,
    topic: Topic,
    missed: Vec<Arc<News>>,
    news: Receiver<Arc<News>>,
    log: Option<Following>,
    /// When the page was told something last.
    told: Option<Instant>,
    /// Of rows that the page was told, what they said: told once.
    rows: HashMap<String, u64>,
    ready: VecDeque<Event>,
}

/// What has happened since the page was told something.
#[derive(Default)]
struct Batch {
    /// The id of the last change.
    last: String,
    /// Something was missed: all is told.
    anew: bool,
    fleet: bool,
    images: bool,
    /// The ids of machines.
    machines: HashSet<String>,
    jobs: Vec<Job>,
    /// Runs that have reported.
    runs: HashSet<Id>,
}

impl Batch {
    fn take(&mut self, news: &News) {
        self.last.clone_from(&news.id);
        match news.kind {
            // What was kept is an event.
            EventKind::Run => self
                .runs
                .extend(event::parse(&news.data).map(|line| line.run().clone())),
            EventKind::Job => match serde_json::from_str(&news.data) {
                Ok(job) => self.jobs.push(job),
                Err(_) => self.anew = true,
            },
            EventKind::Machine => match serde_json::from_str::<Machine>(&news.data) {
                Ok(machine) => {
                    self.machines.insert(machine.id);
                }
                Err(_) => self.anew = true,
            },
            EventKind::Image => self.images = true,
            EventKind::Fleet => self.fleet = true,
            EventKind::Missed | EventKind::Resync => self.anew = true,
        }
    }

    /// Whether a page about `topic` that shows the log of `run` is another one now.
    fn changes(&self, topic: &Topic, run: Option<&Id>) -> bool {
        let works = run.is_some_and(|run| self.runs.contains(run));
        self.anew
            || match topic {
                Topic::Machines => true,
                Topic::Machine(id) => {
                    let is_its = |job: &Job| job.shown() == id || job.machine == *id;
                    self.fleet
                        || works
                        || self.machines.contains(id)
                        || self.jobs.iter().any(is_its)
                }
                Topic::Queue => {
                    !self.machines.is_empty() || !self.jobs.is_empty() || !self.runs.is_empty()
                }
                Topic::Images => self.images,
                Topic::Runs => !self.machines.is_empty() || !self.jobs.is_empty(),
                Topic::Run(id) => self.runs.iter().any(|run| run.as_str() == id),
                Topic::Fleet => self.fleet,
            }
    }

    /// Whether something of this machine may be another one now.
    fn touches(&self, machine: &Machine) -> bool {
        let runs = machine
            .run
            .iter()
            .chain(machine.last.iter().filter_map(|last| last.run.as_ref()));
        self.machines.contains(&machine.id)
            || runs.into_iter().any(|run| self.runs.contains(run))
            || self.jobs.iter().any(|job| is_of(job, machine))
    }
}

fn is_of(job: &Job, machine: &Machine) -> bool {
    let own = machine.job.as_ref().is_some_and(|own| own.id == job.id);
    let names = machine.mac.iter().chain(&machine.uuid);
    own || machine.id == job.shown()
        || machine
            .addresses
            .iter()
            .any(|address| address.to_string() == job.machine)
        || names.into_iter().any(|name| *name == job.machine)
}

impl Listener {
    /// Waits for something to happen, and a while longer where the page was told something just now. `None` at the end.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let missed = std::mem::take(&mut self.missed);
        for news in &missed {
            batch.take(news);
        }
        if self.told.is_none()
            && let Some(log) = &self.log
        {
            // What it got before the page listened is told at once.
            batch.runs.insert(log.run.clone());
        }
        if missed.is_empty() && batch.runs.is_empty() {
            match self.news.recv().await {
                Ok(news) => batch.take(&news),
                Err(RecvError::Lagged(_)) => batch.anew = true,
                Err(RecvError::Closed) => return None,
            }
        }
        if let Some(told) = self.told {
            tokio::time::sleep_until(told + PACE).await;
        }
        loop {
            match self.news.try_recv() {
                Ok(news) => batch.take(&news),
                Err(TryRecvError::Lagged(_)) => batch.anew = true,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return None,
            }
        }
        self.told = Some(Instant::now());
        Some(batch)
    }

    /// What the page is told of it. `None` where it cannot be read now: the page asks again.
    async fn render(mut self, batch: Batch) -> Option<Self> {
        blocking(move || {
            let run = self.log.as_ref().map(|log| log.run.clone());
            if let Some(log) = &mut self.log
                && batch.runs.contains(&log.run)
            {
                self.ready.extend(log.more()?);
            }
            if batch.changes(&self.topic, run.as_ref()) {
                match self.topic {
                    Topic::Machines => self.rows(&batch)?,
                    _ => self
                        .ready
                        .push_back(Event::default().event("changed").data("{}")),
                }
            }
            if !batch.last.is_empty() {
                // The browser knows from now on what it has heard, whatever came of it.
                self.ready = self
                    .ready
                    .into_iter()
                    .map(|event| event.id(&batch.last))
                    .collect();
            }
            Ok(self)
        })
        .await
        .ok()
    }
}

#[derive(Serialize)]
struct More<'a> {
    run: &'a Id,
    /// Bytes of the log that the page has then.
    at: usize,
    text: &'a str,
}

impl Following {
    fn more(&mut self) -> Result<Option<Event>, Refusal> {
        let text = self
            .log
            .more()
            .map_err(|e| Refusal::io("reading the log", &e))?;
        let skip = self.from.saturating_sub(self.seen);
        self.seen += text.len();
        let new = text.get(skip..).unwrap_or_default();
        if new.is_empty() {
            return Ok(None);
        }
        self.from = self.seen;
        let more = More {
            run: &self.run,
            at: self.seen,
            text: new,
        };
        Ok(Some(named("log", &more)))
    }
}

fn named(name: &str, data: &impl Serialize) -> Event {
    // Texts and numbers have a form in JSON.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

#[derive(Serialize)]
struct Rows<'a> {
    rows: &'a [String],
    /// The ids of all rows that there are; left out where none has gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<String>>,
}

impl Listener {
    /// Rows that say something else than the page was told.
    fn rows(&mut self, batch: &Batch) -> Result<(), Refusal> {
        let machines = self.site.glance.machines(&self.site)?;
        let anew = batch.anew || batch.fleet;
        let mut rows = Vec::new();
        for (place, machine) in machines.iter().enumerate() {
            if !anew && !batch.touches(machine) {
                continue;
            }
            let row = machines_page::row(machine, Some(place), false).into_string();
            let said = hash(&row);
            if self.rows.insert(machine.id.clone(), said) != Some(said) {
                rows.push(row);
            }
        }
        let parts = rows.chunks(ROWS).map(|rows| Rows { rows, all: None });
        self.ready.extend(parts.map(|part| named("rows", &part)));
        if anew {
            let all = machines.iter().map(machines_page::row_id).collect();
            let end = Rows {
                rows: &[],
                all: Some(all),
            };
            self.ready.push_back(named("rows", &end));
        }
        Ok(())
    }
}

fn hash(row: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// All machines as they were a moment ago: many pages look at once.
#[derive(Default)]
pub struct Glance(Mutex<Option<(Instant, Arc<Vec<Machine>>)>>);

impl Glance {
    fn machines(&self, site: &Site) -> Result<Arc<Vec<Machine>>, Refusal> {
        // Whoever panicked while it held this left whole values.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, machines)) = &*seen
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(machines));
        }
        let machines = Arc::new(view::machines(site)?);
        *seen = Some((Instant::now(), Arc::clone(&machines)));
        Ok(machines)
    }
}
