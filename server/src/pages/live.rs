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
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

/// A page is told at most so often: people read no faster, and two thousand machines report each second.
const PACE: Duration = Duration::from_secs(1);
/// Rows of one event: a browser puts so many in place between two frames.
const ROWS: usize = 100;

pub async fn live(Here(site): Here, uri: Uri) -> Result<Response, Refusal> {
    let asked = |key: &str| query(&uri, key).unwrap_or_default();
    let topic = Topic::of_query(&asked("page"), &asked("of"));
    let topic = topic.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "there is no such page"))?;
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
    machines: HashMap<String, Machine>,
    jobs: Vec<Job>,
    /// The page's run, or the one whose log it shows, has reported.
    run: bool,
}

impl Batch {
    fn take(&mut self, news: &News, run: Option<&str>) {
        self.last.clone_from(&news.id);
        match news.kind {
            EventKind::Run => self.run |= run.is_some_and(|run| news.data.contains(run)),
            EventKind::Job => match serde_json::from_str(&news.data) {
                Ok(job) => self.jobs.push(job),
                Err(_) => self.anew = true,
            },
            EventKind::Machine => match serde_json::from_str::<Machine>(&news.data) {
                Ok(machine) => {
                    self.machines.insert(machine.id.clone(), machine);
                }
                Err(_) => self.anew = true,
            },
            EventKind::Image => self.images = true,
            EventKind::Fleet => self.fleet = true,
            EventKind::Missed | EventKind::Resync => self.anew = true,
        }
    }

    /// Whether a page about `topic` is another one now.
    fn changes(&self, topic: &Topic) -> bool {
        let is_of = |job: &Job, id: &str| job.shown() == id || job.machine == id;
        self.anew
            || match topic {
                Topic::Machines => !self.machines.is_empty() || self.fleet,
                Topic::Machine(id) => {
                    self.fleet
                        || self.machines.contains_key(id)
                        || self.jobs.iter().any(|job| is_of(job, id))
                }
                Topic::Queue => !self.machines.is_empty() || !self.jobs.is_empty(),
                Topic::Images => self.images,
                Topic::Runs => !self.machines.is_empty(),
                Topic::Run(_) => self.run,
                Topic::Fleet => self.fleet,
            }
    }
}

impl Listener {
    fn run(&self) -> Option<String> {
        match (&self.topic, &self.log) {
            (Topic::Run(run), _) => Some(run.clone()),
            (_, Some(log)) => Some(log.run.to_string()),
            _ => None,
        }
    }

    /// Waits for something to happen, and a while longer where the page was told something just now. `None` at the end.
    async fn gather(&mut self) -> Option<Batch> {
        let run = self.run();
        let mut batch = Batch::default();
        let missed = std::mem::take(&mut self.missed);
        // What a log got before the page listened is told at once.
        batch.run = self.told.is_none() && self.log.is_some();
        for news in &missed {
            batch.take(news, run.as_deref());
        }
        if missed.is_empty() && !batch.run {
            match self.news.recv().await {
                Ok(news) => batch.take(&news, run.as_deref()),
                Err(RecvError::Lagged(_)) => batch.anew = true,
                Err(RecvError::Closed) => return None,
            }
        }
        if let Some(told) = self.told {
            tokio::time::sleep_until(told + PACE).await;
        }
        loop {
            match self.news.try_recv() {
                Ok(news) => batch.take(&news, run.as_deref()),
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
            if batch.run
                && let Some(log) = &mut self.log
            {
                self.ready.extend(log.more()?);
            }
            if batch.changes(&self.topic) {
                match self.topic {
                    Topic::Machines => self.ready.extend(rows(&self.site, &batch)?),
                    _ => self.ready.push_back(Event::default().event("changed").data("{}")),
                }
            }
            if !batch.last.is_empty() {
                // The browser knows from now on what it has heard, whatever came of it.
                self.ready = self.ready.into_iter().map(|event| event.id(&batch.last)).collect();
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
        let text = self.log.more().map_err(|e| Refusal::io("reading the log", &e))?;
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
        Ok(Some(event("log", &more)))
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Texts and numbers have a form in JSON.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

#[derive(Serialize)]
struct Rows {
    rows: Vec<String>,
    /// The ids of all rows that there are; left out where none has gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<String>>,
}

fn rows(site: &Site, batch: &Batch) -> Result<Vec<Event>, Refusal> {
    let mut all = None;
    let rows: Vec<String> = if batch.anew || batch.fleet {
        let machines = view::machines(site)?;
        all = Some(machines.iter().map(machines_page::row_id).collect());
        let placed = machines.iter().enumerate();
        placed
            .map(|(place, machine)| machines_page::row(machine, Some(place), false).into_string())
            .collect()
    } else {
        let changed = batch.machines.values();
        changed
            .map(|machine| machines_page::row(machine, None, false).into_string())
            .collect()
    };
    let mut parts: Vec<Rows> = rows
        .chunks(ROWS)
        .map(|rows| Rows {
            rows: rows.to_vec(),
            all: None,
        })
        .collect();
    if all.is_some() {
        parts.push(Rows {
            rows: Vec::new(),
            all,
        });
    }
    Ok(parts.iter().map(|part| event("rows", part)).collect())
}

#[cfg(test)]
mod tests;
