//! `/api/v1/…` and `/events`: runs, for programs and pages. They are read, and not changed.

use crate::http::{Here, access, only_read};
use crate::refusal::{Refusal, blocking};
use crate::runs::{Filter, Run, from_logs, is_reported};
use crate::site::{Site, Sites};
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::Router;
use futures_util::stream;
use pitstop_protocol::id::Id;
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use url::form_urlencoded;

/// Runs that are told where nobody says how many.
const LAST: usize = 100;

pub fn routes() -> Router<Arc<Sites>> {
    let read = Router::new()
        .route("/api/v1/runs", get(list).fallback(only_read))
        .route("/api/v1/runs/{run}", get(one).fallback(only_read))
        .route("/events", get(events).fallback(only_read));
    access::viewers(read)
}

#[derive(Serialize)]
struct Listed {
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    run: Run,
    /// As the console showed it.
    log: String,
}

async fn list(Here(site): Here, uri: Uri) -> Result<Json<Listed>, Refusal> {
    let filter = filter(uri.query().unwrap_or_default())?;
    blocking(move || {
        let runs = runs(&site, &filter).map_err(|e| Refusal::io("listing the runs", &e))?;
        Ok(Json(Listed { runs }))
    })
    .await
}

/// The runs that were reported, and of machines that do not report those that their logs tell of; the newest first.
pub fn runs(site: &Site, filter: &Filter) -> io::Result<Vec<Run>> {
    let known = site.runs.runs();
    let mut runs = known.list(filter)?;
    let mut told = from_logs(&site.share, &runs);
    if filter.last.is_some_and(|last| runs.len() >= last) {
        // Where older runs are left out, one that a log tells of may be among those. What would come behind the last of the
        // list is left out anyway: as a rule that is all of them, and the older ones need not be read.
        told.retain(|run| {
            runs.last()
                .is_some_and(|last| run.summary.run > last.summary.run)
        });
        if !told.is_empty() {
            let all = known.list(&Filter::default())?;
            told.retain(|run| !all.iter().any(|other| is_reported(other, run)));
        }
    }
    runs.extend(told.into_iter().filter(|run| filter.takes(&run.summary)));
    runs.sort_by(|a, b| b.summary.run.cmp(&a.summary.run));
    runs.truncate(filter.last.unwrap_or(usize::MAX));
    Ok(runs)
}

fn filter(query: &str) -> Result<Filter, Refusal> {
    let bad = |what: String| Refusal::new(StatusCode::BAD_REQUEST, what);
    let mut filter = Filter {
        last: Some(LAST),
        ..Filter::default()
    };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "machine" => filter.machine = Some(value.into_owned()),
            "job" => filter.job = Some(value.parse().map_err(|e| bad(format!("job: {e}")))?),
            "last" => {
                let last = value.parse();
                filter.last = Some(last.map_err(|e| bad(format!("last={value}: {e}")))?);
            }
            _ => {
                return Err(bad(format!(
                    "there is no {key}: there are machine, job, last"
                )));
            }
        }
    }
    Ok(filter)
}

async fn one(Here(site): Here, Path(run): Path<String>) -> Result<Json<Whole>, Refusal> {
    let id: Id = run.parse().map_err(|_| Refusal::not_found(&run))?;
    blocking(move || {
        let failed = |error: &io::Error| Refusal::io(&format!("reading run {id}"), error);
        let runs = site.runs.runs();
        let found = runs.read(&id).map_err(|e| failed(&e))?;
        let run = found.ok_or_else(|| Refusal::not_found(format!("run {id}")))?;
        let log = runs.log(&id).more().map_err(|e| failed(&e))?;
        Ok(Json(Whole { run, log }))
    })
    .await
}

/// Each line of each report as it comes. Who reads too slowly is told how many it has missed.
async fn events(Here(site): Here) -> Response {
    let news = stream::unfold(site.runs.news(), |mut news| async {
        let event = match news.recv().await {
            Ok(line) => Event::default().event("run").data(&*line),
            Err(RecvError::Lagged(missed)) => {
                Event::default().event("missed").data(missed.to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(event), news))
    });
    Sse::new(news)
        .keep_alive(KeepAlive::default())
        .into_response()
}
