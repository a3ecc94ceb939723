//! `/api/v1/runs`

use super::query::Query;
use crate::http::Here;
use crate::refusal::{Refusal, blocking};
use crate::runs::Filter;
use crate::site::{Site, Sites};
use crate::view;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use pitstop_api::{ErrorBody, Id, Run, RunDetail, Runs};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Runs that are told where nobody says how many.
const LAST: usize = 100;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/runs", get(list))
        .route("/api/v1/runs/{run}", get(one))
        .route("/api/v1/runs/{run}/log", get(log))
}

/// Runs, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs",
    params(
        ("machine" = Option<String>, Query, description = "Of the machine with this host name, address or MAC"),
        ("job" = Option<String>, Query, description = "Tries of this job"),
        ("last" = Option<usize>, Query, description = "At most so many; 100 if you don't say"),
        ("after" = Option<String>, Query, description = "Older ones: `next` of the answer before"),
    ),
    responses((status = 200, body = Runs), (status = "4XX", body = ErrorBody)))]
pub async fn list(Here(site): Here, uri: Uri) -> Result<Json<Runs>, Refusal> {
    let query = Query::of(&uri, &["machine", "job", "last", "after"])?;
    let last = query.read::<usize>("last")?.unwrap_or(LAST);
    let filter = Filter {
        machine: query.text("machine").map(str::to_owned),
        job: query.read::<Id>("job")?,
        before: query.read::<Id>("after")?,
        // One more shows whether there are more.
        last: Some(last.saturating_add(1)),
    };
    blocking(move || {
        let found = view::runs(&site, &filter).map_err(|e| Refusal::io("listing the runs", &e))?;
        let runs: Vec<Run> = found.iter().take(last).map(Run::from).collect();
        let next = runs.last().filter(|_| found.len() > last);
        Ok(Json(Runs {
            next: next.map(|run| run.run.to_string()),
            runs,
        }))
    })
    .await
}

fn id(run: &str) -> Result<Id, Refusal> {
    run.parse()
        .map_err(|_| Refusal::not_found(format!("the run {run}")))
}

/// One run and its log.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "The run")),
    responses((status = 200, body = RunDetail), (status = "4XX", body = ErrorBody)))]
pub async fn one(Here(site): Here, Path(run): Path<String>) -> Result<Json<RunDetail>, Refusal> {
    let id = id(&run)?;
    blocking(move || Ok(Json(view::run(&site, &id)?))).await
}

/// The log of a run as text. `Range: bytes=N-` gives what was added behind N bytes; with `Accept: text/event-stream` lines come
/// as `log` events, and `end` when the run is over.
#[utoipa::path(get, path = "/api/v1/runs/{run}/log", tag = "runs",
    params(("run" = String, Path, description = "The run")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 206, body = String, content_type = "text/plain"),
        (status = "4XX", body = ErrorBody)))]
pub async fn log(
    Here(site): Here,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(&run)?;
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        return follow(site, id).await;
    }
    let text = blocking(move || Ok(view::run(&site, &id)?.log)).await?;
    text_part(text, &headers)
}

/// The whole text, or what the request wants of it.
pub fn text_part(text: String, headers: &HeaderMap) -> Result<Response, Refusal> {
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    let accepts = (header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let from = headers.get(header::RANGE).and_then(|range| {
        let range = range.to_str().ok()?;
        let from = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        from.parse::<usize>().ok()
    });
    // Of a range of another kind the whole is told (RFC 9110 14.2).
    let Some(from) = from else {
        return Ok(([kind, accepts], text).into_response());
    };
    let length = text.len();
    if from >= length {
        return Err(Refusal::range(length as u64));
    }
    let part = text.into_bytes().split_off(from);
    let range = format!("bytes {from}-{}/{length}", length - 1);
    let range = HeaderValue::try_from(range)
        .map_err(|_| Refusal::range(length as u64))
        .map(|range| (header::CONTENT_RANGE, range))?;
    Ok((StatusCode::PARTIAL_CONTENT, [kind, accepts, range], part).into_response())
}

/// A log that is followed.
struct Following {
    log: crate::runs::Log,
    site: Arc<Site>,
    id: Id,
    lines: VecDeque<String>,
    ended: bool,
}

async fn follow(site: Arc<Site>, id: Id) -> Result<Response, Refusal> {
    let begin = {
        let (site, id) = (Arc::clone(&site), id.clone());
        move || {
            view::run(&site, &id)?;
            Ok(site.runs.runs().log(&id))
        }
    };
    let following = Following {
        log: blocking(begin).await?,
        site,
        id,
        lines: VecDeque::new(),
        ended: false,
    };
    let lines = stream::unfold(Some(following), |following| async {
        let mut following = following?;
        loop {
            if let Some(line) = following.lines.pop_front() {
                let event = Event::default().event("log").data(line);
                return Some((Ok::<_, Infallible>(event), Some(following)));
            }
            if following.ended {
                let event = Event::default().event("end").data("{}");
                return Some((Ok(event), None));
            }
            following = more(following).await?;
            if following.lines.is_empty() && !following.ended {
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    let mut response = Sse::new(lines)
        .keep_alive(KeepAlive::default())
        .into_response();
    super::events::unbuffered(&mut response);
    Ok(response)
}

/// Reads on. `None` where the log cannot be read any more: the reader asks anew.
async fn more(mut following: Following) -> Option<Following> {
    let read = blocking(move || {
        // Asked before the log is read: what was written before the end is told.
        let now = following.site.runs.now(&following.id);
        let is_over = now.is_none_or(|run| run.summary.ended.is_some());
        let text = following
            .log
            .more()
            .map_err(|e| Refusal::io("reading the log", &e))?;
        following.lines.extend(text.lines().map(str::to_owned));
        following.ended = is_over;
        Ok(following)
    });
    read.await.ok()
}
