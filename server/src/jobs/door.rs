//! `POST /check-in/JOB`: where machines ask for a slot and say how it goes.

use super::moved::{Card, card};
use super::standing::limits;
use crate::claims;
use crate::growing;
use crate::http::{Caller, Here, Routine};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use pitstop_fleet::Fleet;
use pitstop_jobs::Job;
use pitstop_protocol::check_in::{Answer, CheckIn, MOST_BYTES};
use pitstop_protocol::id::Id;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A check-in is one packet: who takes longer to send it is no machine.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/check-in/{job}", post(check_in).fallback(refuse))
}

async fn refuse() -> Refusal {
    Refusal::method("POST")
}

/// Refuses a machine that has the address of the job's, where the wire tells that it is another one of the fleet file.
fn is_no_others(job: &Job, fleet: &Fleet, peer: IpAddr) -> Result<(), String> {
    let Some(mac) = claims::neighbour(peer) else {
        return Ok(());
    };
    match card(job, fleet, mac, None) {
        Card::Of(machine) => Err(format!(
            "the job {} is {}'s, and {peer} is {} ({mac}): set it anew",
            job.id,
            job.shown(),
            machine.name
        )),
        Card::Its | Card::Unknown => Ok(()),
    }
}

async fn check_in(
    Here(site): Here,
    Path(job): Path<String>,
    Caller(peer): Caller,
    body: Body,
) -> Result<Response, Refusal> {
    let not_found = |_| Refusal::not_found(format_args!("the job {job:?}"));
    let id: Id = job.parse().map_err(not_found)?;
    let body = timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await;
    let body = body.map_err(|_elapsed| {
        let what = "the check-in did not come to its end";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, what)
    })?;
    let body = body.map_err(|_| {
        let what = format!("a check-in has at most {MOST_BYTES} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    })?;
    let message = CheckIn::parse(&body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let answer = blocking(move || {
        let limits = limits(&site.fleet.current());
        // Whoever may delete the host file is the machine that the job is for.
        let may = |job: &Job| {
            let path = RelPath::from_text(&job.host_file).map_err(|error| error.to_string())?;
            site.claims.may_delete(&path, peer)?;
            is_no_others(job, &site.fleet.current(), peer)
        };
        let mut answer = site.jobs.check_in(&id, message, &limits, may)?;
        if let Answer::Wait {
            why: Some(_),
            grows,
            ..
        } = &mut answer
        {
            // Without it the machine waits, as it has to anyway.
            let backup = site.jobs.waits_for(&id).ok().flatten();
            *grows = backup
                .and_then(|backup| growing::offer(&site, &backup))
                .map(Box::new);
        }
        Ok(answer)
    });
    let answer = Json(answer.await?);
    let mut response = ([(header::CACHE_CONTROL, "no-store")], answer).into_response();
    // Each machine says something every few seconds: the keeper notes what is news.
    response.extensions_mut().insert(Routine);
    Ok(response)
}
