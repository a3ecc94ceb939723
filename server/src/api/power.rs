//! `/api/v1/power`

use super::query::{bad, json};
use super::wish;
use crate::http::Here;
use crate::http::access::Noted;
use crate::refusal::{Refusal, blocking};
use crate::set::{refuse_act, switches};
use crate::site::{Site, Sites};
use crate::view::not_chosen;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use pitstop_api::{ErrorBody, PowerAct, PowerAsk, PowerResult, PowerResults};
use pitstop_power::{Act, Credentials, PowerError, State, each};
use std::sync::Arc;

pub fn changed() -> Router<Arc<Sites>> {
    Router::new().route("/api/v1/power", post(power))
}

/// Switches machines, or asks whether they run. `off` and `cycle` of one that is at work are refused with 409, and nothing is
/// switched, unless `force` is true. A machine that could not be switched has an `error`; the others are switched all
/// the same. The answer comes when all are done: a minute, where a BMC is slow.
#[utoipa::path(post, path = "/api/v1/power", tag = "power", request_body = PowerAsk,
    responses((status = 200, body = PowerResults), (status = "4XX", body = ErrorBody)))]
pub async fn power(Here(site): Here, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let ask: PowerAsk = json(&headers, body).await?;
    let noted = Noted {
        act: format!("power {}", act(ask.act)),
        object: ask.machines.join(", "),
    };
    let mut response = Json(switch(site, &ask).await?).into_response();
    response.extensions_mut().insert(noted);
    Ok(response)
}

/// As [`power`], for whoever has the wish already.
pub async fn switch(site: Arc<Site>, ask: &PowerAsk) -> Result<PowerResults, Refusal> {
    let machines = wish::machines(&ask.machines)?;
    let (act, force) = (act(ask.act), ask.force);
    blocking(move || {
        let root = site.jobs.store().root();
        if !force {
            refuse_act(root, &machines, act).map_err(|error| not_chosen(&error))?;
        }
        let switches = switches(root, &machines).map_err(|error| bad(format!("{error:#}")))?;
        let credentials = Credentials::read(root)
            .map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        let mut results: Vec<Option<PowerResult>> = vec![None; switches.len()];
        each(
            &switches,
            |one| one.power.act(act, &one.target, &credentials),
            |at, result| {
                if let (Some(slot), Some(one)) = (results.get_mut(at), switches.get(at)) {
                    *slot = Some(told(&one.target.name, act, &result));
                }
            },
        );
        let results = results.into_iter().flatten().collect();
        Ok(PowerResults { results })
    })
    .await
}

fn act(asked: PowerAct) -> Act {
    match asked {
        PowerAct::On => Act::On,
        PowerAct::Off => Act::Off,
        PowerAct::Cycle => Act::Cycle,
        PowerAct::Status => Act::Status,
        PowerAct::Pxe => Act::Pxe,
    }
}

pub fn told(name: &str, act: Act, result: &Result<State, PowerError>) -> PowerResult {
    PowerResult {
        name: name.to_owned(),
        act: act.name().to_owned(),
        power: result.as_ref().ok().map(|state| state.name().to_owned()),
        error: result.as_ref().err().map(ToString::to_string),
    }
}
