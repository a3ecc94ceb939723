//! `/api/v1/jobs`, `/queue`, `/schedule`, `/history`, `/host-files`

use super::query::{Query, bad, json, page};
use super::wish;
use crate::http::Here;
use crate::http::access::{Noted, Who};
use crate::jobs::{self, Cancelled, Which};
use crate::refusal::{Refusal, blocking};
use crate::set::{self, Conflict};
use crate::site::{Site, Sites};
use crate::view::{self, Wanted};
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use pitstop_api::{
    Answer, DryRun, ErrorBody, History, HostFiles, Job, JobDetail, JobState, Jobs, Moved, Order,
    PowerResult, Queue, Retry, Schedule,
};
use std::fmt::Write as _;
use std::sync::Arc;

/// Jobs that are told where nobody says how many.
const MOST: usize = 10_000;

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/jobs", get(list))
        .route("/api/v1/jobs/{id}", get(one))
        .route("/api/v1/jobs/{id}/log", get(log))
        .route("/api/v1/queue", get(queue))
        .route("/api/v1/schedule", get(schedule))
        .route("/api/v1/history", get(history))
        .route("/api/v1/host-files", get(host_files))
}

pub fn changed() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/jobs", post(set_jobs))
        .route("/api/v1/jobs/{id}", delete(cancel_one).patch(reorder))
        .route("/api/v1/jobs/cancel", post(cancel))
        .route("/api/v1/jobs/retry", post(retry))
        .route("/api/v1/jobs/{id}/retry", post(retry_one))
        .route("/api/v1/host-files", delete(clear))
}

/// The status that fits what went wrong where jobs are set.
fn refused(error: &anyhow::Error) -> Refusal {
    let status = if error.is::<Conflict>() {
        StatusCode::CONFLICT
    } else if error.is::<jobs::Gone>() {
        StatusCode::NOT_FOUND
    } else {
        let io = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<std::io::Error>());
        match io {
            Some(io) => return Refusal::io(&format!("{error:#}"), io),
            None => StatusCode::BAD_REQUEST,
        }
    };
    Refusal::new(status, format!("{error:#}"))
}

fn state(word: &str) -> Result<JobState, Refusal> {
    let found = JobState::ALL.into_iter().find(|state| state.name() == word);
    found.ok_or_else(|| {
        let known = JobState::ALL.map(JobState::name).join(", ");
        bad(format!("state={word}: there are {known}"))
    })
}

/// The jobs that are open, and the last one of each machine; the oldest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs",
    params(
        ("of" = Option<Vec<String>>, Query, description = "Only these: jobs by id, or machines as in `POST /jobs`; may be repeated"),
        ("state" = Option<String>, Query, description = "Only those in this state"),
        ("all" = Option<bool>, Query, description = "Also those that are over and not their machine's last"),
        ("one-time" = Option<bool>, Query, description = "Without those that come again and again"),
        ("last" = Option<usize>, Query, description = "At most so many"),
        ("after" = Option<String>, Query, description = "Those behind this one: `next` of the answer before"),
    ),
    responses((status = 200, body = Jobs), (status = "4XX", body = ErrorBody)))]
pub async fn list(Here(site): Here, uri: Uri) -> Result<Json<Jobs>, Refusal> {
    let query = Query::of(&uri, &["of", "state", "all", "one-time", "last", "after"])?;
    let wanted = Wanted {
        which: query.read_all::<Which>("of")?,
        all: query.is("all")?,
        one_time: query.is("one-time")?,
        state: query.text("state").map(state).transpose()?,
    };
    blocking(move || {
        let found = view::jobs(&site, &wanted)?;
        let (jobs, next) = page(found.jobs, &query, MOST, |job| job.id.to_string())?;
        Ok(Json(Jobs {
            jobs,
            next,
            wrong: found.wrong,
        }))
    })
    .await
}

fn which(word: &str) -> Result<Which, Refusal> {
    word.parse()
        .map_err(|why| Refusal::not_found(format!("the job {word}: {why}; it")))
}

/// One job: by its id; of a machine the one that it has now, or had last.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job, or a machine")),
    responses((status = 200, body = JobDetail), (status = "4XX", body = ErrorBody)))]
pub async fn one(Here(site): Here, Path(id): Path<String>) -> Result<Json<JobDetail>, Refusal> {
    let which = which(&id)?;
    blocking(move || Ok(Json(view::job(&site, &which)?))).await
}

/// The log of a job's last try: what its machine reported, or else wrote on the share. `Range: bytes=N-` gives what was added
/// behind N bytes.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/log", tag = "jobs",
    params(("id" = String, Path, description = "The job, or a machine")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 206, body = String, content_type = "text/plain"),
        (status = "4XX", body = ErrorBody)))]
pub async fn log(
    Here(site): Here,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let which = which(&id)?;
    let text = blocking(move || view::job_log(&site, &which)).await?;
    super::runs::text_part(text, &headers)
}

/// Slots, who has one, and who waits.
#[utoipa::path(get, path = "/api/v1/queue", tag = "jobs", responses((status = 200, body = Queue)))]
pub async fn queue(Here(site): Here) -> Result<Json<Queue>, Refusal> {
    blocking(move || Ok(Json(view::queue(&site)?))).await
}

/// Jobs for later, the next one first.
#[utoipa::path(get, path = "/api/v1/schedule", tag = "jobs", responses((status = 200, body = Schedule)))]
pub async fn schedule(Here(site): Here) -> Result<Json<Schedule>, Refusal> {
    blocking(move || Ok(Json(view::schedule(&site)?))).await
}

/// What ended, the oldest first; of more than `last` the newest.
#[utoipa::path(get, path = "/api/v1/history", tag = "jobs",
    params(
        ("of" = Option<Vec<String>>, Query, description = "Only these: jobs by id, or machines; may be repeated"),
        ("since" = Option<String>, Query, description = "What ended from this time on"),
        ("last" = Option<usize>, Query, description = "At most so many"),
    ),
    responses((status = 200, body = History), (status = "4XX", body = ErrorBody)))]
pub async fn history(Here(site): Here, uri: Uri) -> Result<Json<History>, Refusal> {
    let query = Query::of(&uri, &["of", "since", "last"])?;
    let which = query.read_all::<Which>("of")?;
    let since = query.read::<jiff::Timestamp>("since")?;
    let last = query.read::<usize>("last")?.unwrap_or(MOST);
    blocking(move || {
        let mut history = view::history(&site, &which)?;
        history.retain(|entry| since.is_none_or(|since| entry.ended >= since));
        let surplus = history.len().saturating_sub(last);
        history.drain(..surplus);
        Ok(Json(History { history }))
    })
    .await
}

/// The host files that are there, whether or not their machines will take them.
#[utoipa::path(get, path = "/api/v1/host-files", tag = "jobs",
    params(("machine" = Option<Vec<String>>, Query, description = "Only of these, as in `POST /jobs`; may be repeated")),
    responses((status = 200, body = HostFiles), (status = "4XX", body = ErrorBody)))]
pub async fn host_files(Here(site): Here, uri: Uri) -> Result<Json<HostFiles>, Refusal> {
    let query = Query::of(&uri, &["machine"])?;
    let words: Vec<String> = query.all("machine").map(str::to_owned).collect();
    blocking(move || {
        let machines = if words.is_empty() {
            Vec::new()
        } else {
            wish::machines(&words)?
        };
        let root = site.jobs.store().root();
        let files = set::host_files(root, &site.hosts, &machines).map_err(|e| refused(&e))?;
        Ok(Json(HostFiles { files }))
    })
    .await
}

/// Sets a job for each machine. With `dry-run` nothing is set, and the answer (200) says which disks would lose what.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = Order,
    responses((status = 201, body = Answer), (status = 200, body = DryRun), (status = "4XX", body = ErrorBody)))]
pub async fn set_jobs(
    Here(site): Here,
    who: Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let order: Order = json(&headers, body).await?;
    let wish = wish::wish(&order, &who.name)?;
    blocking(move || {
        let root = site.jobs.store().root();
        let wish = wish.with_origin(root).map_err(|e| refused(&e))?;
        let prepared = set::prepare(root, &site.hosts, &wish).map_err(|e| refused(&e))?;
        if order.dry_run {
            let machines = prepared.plan().map_err(|e| refused(&e))?;
            let told = DryRun {
                text: set::table(&machines),
                loses_data: set::loses_data(wish.action),
                machines,
            };
            return Ok(Json(told).into_response());
        }
        let set = prepared.set().map_err(|e| refused(&e))?;
        let mut power = Vec::new();
        set.after.switch(|at, act, result| {
            if let Some(switch) = set.after.switches().get(at) {
                power.push(super::power::told(&switch.target.name, act, &result));
            }
        });
        let answer = answer(&site, set.jobs.iter(), set.text, power);
        let mut response = (StatusCode::CREATED, Json(answer)).into_response();
        response.extensions_mut().insert(Noted {
            act: format!("set {}", order.action),
            object: order.machines.join(", "),
        });
        Ok(response)
    })
    .await
}

fn answer<'a>(
    site: &Site,
    jobs: impl Iterator<Item = &'a pitstop_jobs::Job>,
    text: String,
    power: Vec<PowerResult>,
) -> Answer {
    site.jobs.tell(site);
    Answer {
        jobs: jobs.map(Job::from).collect(),
        text,
        power,
    }
}

fn words(retry: &Retry) -> Result<Vec<Which>, Refusal> {
    if retry.jobs.is_empty() {
        return Err(bad("jobs: name at least one"));
    }
    let read = |word: &String| {
        word.parse()
            .map_err(|why| bad(format!("jobs: {word:?}: {why}")))
    };
    retry.jobs.iter().map(read).collect()
}

async fn withdraw(site: Arc<Site>, which: Vec<Which>, by: String) -> Result<Json<Answer>, Refusal> {
    blocking(move || {
        let named = view::chosen_of(&site, &which)?;
        let store = site.jobs.store();
        let all = store.all().map_err(|e| view::failed(&e))?.jobs;
        let cancelled = jobs::cancel(store, &site.hosts, all, &named, &by);
        let cancelled = cancelled.map_err(|e| refused(&e))?;
        let text = cancelled.iter().map(Cancelled::told).collect();
        let now: Vec<_> = cancelled
            .iter()
            .filter_map(|one| store.read(&one.job.id).ok().flatten())
            .collect();
        Ok(Json(answer(&site, now.iter(), text, Vec::new())))
    })
    .await
}

/// Withdraws a job that is not over: a machine that waits stops, one at work goes on to its end.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job, or a machine")),
    responses((status = 200, body = Answer), (status = "4XX", body = ErrorBody)))]
pub async fn cancel_one(
    Here(site): Here,
    who: Who,
    Path(id): Path<String>,
) -> Result<Json<Answer>, Refusal> {
    withdraw(site, vec![which(&id)?], who.name.clone()).await
}

/// Withdraws several jobs.
#[utoipa::path(post, path = "/api/v1/jobs/cancel", tag = "jobs", request_body = Retry,
    responses((status = 200, body = Answer), (status = "4XX", body = ErrorBody)))]
pub async fn cancel(
    Here(site): Here,
    who: Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Refusal> {
    let which = words(&json(&headers, body).await?)?;
    withdraw(site, which, who.name.clone()).await
}

async fn again(site: Arc<Site>, which: Vec<Which>, by: String) -> Result<Response, Refusal> {
    blocking(move || {
        let named = view::chosen_of(&site, &which)?;
        let store = site.jobs.store();
        let all = store.all().map_err(|e| view::failed(&e))?.jobs;
        let mut set = Vec::new();
        let mut text = String::new();
        let fleet = site.fleet.current();
        let done = jobs::retry(store, &site.hosts, Ok(fleet), all, &named, &by, |job| {
            text.push_str(&jobs::set_again(job));
            set.push(job.clone());
            Ok(())
        });
        let answer = answer(&site, set.iter(), text, Vec::new());
        done.map_err(|e| refused(&e))?;
        Ok((StatusCode::CREATED, Json(answer)).into_response())
    })
    .await
}

/// Sets a job again that failed or was cancelled.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = String, Path, description = "The job, or a machine")),
    responses((status = 201, body = Answer), (status = "4XX", body = ErrorBody)))]
pub async fn retry_one(
    Here(site): Here,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    again(site, vec![which(&id)?], who.name.clone()).await
}

/// Sets several jobs again.
#[utoipa::path(post, path = "/api/v1/jobs/retry", tag = "jobs", request_body = Retry,
    responses((status = 201, body = Answer), (status = "4XX", body = ErrorBody)))]
pub async fn retry(
    Here(site): Here,
    who: Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let which = words(&json(&headers, body).await?)?;
    again(site, which, who.name.clone()).await
}

/// Moves a job in the queue, before or behind another one.
#[utoipa::path(patch, path = "/api/v1/jobs/{id}", tag = "jobs", request_body = Moved,
    params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = Queue), (status = "4XX", body = ErrorBody)))]
pub async fn reorder(
    Here(site): Here,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Queue>, Refusal> {
    let moved: Moved = json(&headers, body).await?;
    let id = id
        .parse()
        .map_err(|_| Refusal::not_found(format!("the job {id}")))?;
    let to = match (moved.before, moved.after) {
        (Some(before), None) => jobs::To::Before(before),
        (None, Some(after)) => jobs::To::Behind(after),
        _ => return Err(bad("say before or after, and one of them")),
    };
    blocking(move || {
        jobs::reorder(site.jobs.store(), &id, &to).map_err(|e| refused(&e))?;
        site.jobs.tell(&site);
        Ok(Json(view::queue(&site)?))
    })
    .await
}

/// Drops the jobs of machines: they boot from their own disks again.
#[utoipa::path(delete, path = "/api/v1/host-files", tag = "jobs",
    params(("machine" = Vec<String>, Query, description = "As in `POST /jobs`; may be repeated")),
    responses((status = 200, body = Answer), (status = "4XX", body = ErrorBody)))]
pub async fn clear(Here(site): Here, who: Who, uri: Uri) -> Result<Json<Answer>, Refusal> {
    let query = Query::of(&uri, &["machine"])?;
    let words: Vec<String> = query.all("machine").map(str::to_owned).collect();
    let machines = wish::machines(&words)?;
    blocking(move || {
        let root = site.jobs.store().root();
        let cleared = set::clear(root, &site.hosts, &machines, &who.name);
        let cleared = cleared.map_err(|e| refused(&e))?;
        let mut text = String::new();
        for line in &cleared.lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        }
        Ok(Json(answer(&site, cleared.jobs.iter(), text, Vec::new())))
    })
    .await
}
