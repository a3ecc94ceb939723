//! `POST /report/JOB`: what a machine reports of its run. docs/api.md has the lines.

mod job_files;

pub use job_files::JobFiles;

use crate::http::{Caller, Here, Routine};
use crate::refusal::{Refusal, blocking};
use crate::runs::token::{self, Answer};
use crate::runs::{Refused, Reported};
use crate::site::{Site, Sites};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use headers::authorization::Bearer;
use headers::{Authorization, ContentLength, HeaderMapExt};
use pitstop_protocol::event::{self, BadLine, LARGEST_REPORT, Line, What};
use pitstop_protocol::facts::Facts;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::hostfile::Secret;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A report is a few kilobytes: who takes longer to send one than this is no machine at work.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/report/{job}", post(take).fallback(refuse))
}

async fn refuse() -> Refusal {
    Refusal::method("POST")
}

async fn take(
    Here(site): Here,
    Caller(peer): Caller,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let job: Id = job.parse().map_err(|_| Refusal::not_found(&job))?;
    let token = headers
        .typed_get::<Authorization<Bearer>>()
        .map(|it| it.token().to_owned());
    let report = receive(&headers, body).await?;
    blocking(move || keep(&site, &job, peer, token.as_deref(), &report)).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    // One from each machine each second: the journal is for what is not so.
    response.extensions_mut().insert(Routine);
    Ok(response)
}

async fn receive(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let too_large = || {
        let most = pitstop_imaging::units::bytes(LARGEST_REPORT as u64);
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a report has at most {most}"),
        )
    };
    let told = headers.typed_get::<ContentLength>().map(|length| length.0);
    if told.is_some_and(|told| told > LARGEST_REPORT as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, LARGEST_REPORT)).await {
        Ok(Ok(report)) => Ok(report),
        // Its length was told and is not too large: it broke off.
        Ok(Err(error)) if told.is_some() => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the report is not whole: {error}"),
        )),
        Ok(Err(_)) => Err(too_large()),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the report did not come to its end",
        )),
    }
}

fn keep(
    site: &Site,
    job: &Id,
    peer: IpAddr,
    token: Option<&str>,
    report: &[u8],
) -> Result<(), Refusal> {
    let text = std::str::from_utf8(report).map_err(|_| bad("a report is UTF-8 text"))?;
    // A stranger's report is not read beyond its first line.
    allow(site, job, text, peer, token)?;
    let lines = lines(text)?;
    let Some(run) = lines.first().map(|first| first.line.run()) else {
        return Ok(());
    };
    site.runs
        .take(run, job, peer, &lines)
        .map_err(|refused| match &refused {
            Refused::OtherJob(_) => Refusal::new(StatusCode::FORBIDDEN, refused.to_string()),
            Refused::Io { error, .. } => Refusal::io("keeping a report", error),
        })?;
    tell_inventory(site, run, &lines);
    Ok(())
}

/// What the machine is, and where its run stands. The report is kept already: nothing here can fail it.
fn tell_inventory(site: &Site, run: &Id, lines: &[Reported<'_>]) {
    for Reported { line, .. } in lines {
        let Line::Known(record) = line else { continue };
        match &record.what {
            What::Inventory { facts } => {
                if let Err(error) = site.inventory.take(Facts::clone(facts)) {
                    site.journal.note(&format!("run {run}: {error:#}"));
                }
            }
            What::Begin { .. } | What::Job { .. } | What::Result(_) => site.inventory.note_run(run),
            _ => {}
        }
    }
}

fn bad(what: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what)
}

/// All lines of a report, which are of one run.
fn lines(text: &str) -> Result<Vec<Reported<'_>>, Refusal> {
    let mut lines: Vec<Reported<'_>> = Vec::new();
    for (number, raw) in (1..).zip(text.lines()) {
        let line = event::parse(raw).map_err(|error| {
            let status = match error {
                BadLine::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
                BadLine::NotAnEvent(_) => StatusCode::BAD_REQUEST,
            };
            Refusal::new(status, format!("line {number} of the report: {error}"))
        })?;
        if lines
            .first()
            .is_some_and(|first| first.line.run() != line.run())
        {
            return Err(bad(format!(
                "line {number} of the report is of another run"
            )));
        }
        lines.push(Reported { raw, line });
    }
    Ok(lines)
}

/// Whether `peer` may report for a job: it shows the job's token; where the job has none, it is the job's machine.
fn allow(
    site: &Site,
    job: &Id,
    report: &str,
    peer: IpAddr,
    token: Option<&str>,
) -> Result<(), Refusal> {
    let known = token::check(site.runs.root(), job, token)
        .map_err(|error| Refusal::io("looking for the job's token", &error))?;
    match known {
        Answer::Right => return Ok(()),
        Answer::Wrong => return Err(wrong(token)),
        Answer::None => {}
    }
    let forbidden = |why: String| Refusal::new(StatusCode::FORBIDDEN, why);
    match site.job_files.of(&site.hosts, job) {
        Some((_, Some(Secret(own)))) => {
            // Hashes are compared in constant time.
            let right = token.is_some_and(|token| {
                blake3::hash(token.as_bytes()) == blake3::hash(own.as_bytes())
            });
            right.then_some(()).ok_or_else(|| wrong(token))
        }
        Some((path, None)) => site.claims.may_delete(&path, peer).map_err(forbidden),
        // It is gone by the time its machine reports that it is done.
        None if has_begun(site, job, report, peer) => Ok(()),
        None => Err(forbidden(format!("no machine has the job {job}"))),
    }
}

/// Whether the run of a report has begun already, as this job's, from the same address.
fn has_begun(site: &Site, job: &Id, report: &str, peer: IpAddr) -> bool {
    let first = report.lines().next().map(event::parse);
    let Some(Ok(line)) = first else {
        return false;
    };
    let begun = site.runs.runs().read(line.run()).ok().flatten();
    begun.is_some_and(|run| {
        run.summary.job.as_ref() == Some(job) && run.summary.peer == peer.to_string()
    })
}

fn wrong(token: Option<&str>) -> Refusal {
    match token {
        None => Refusal::unauthorized("this job's reports need its token"),
        Some(_) => Refusal::new(StatusCode::FORBIDDEN, "this is not the job's token"),
    }
}

#[cfg(test)]
mod tests;
