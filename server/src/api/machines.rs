//! `/api/v1/machines`

use super::query::{Query, page};
use crate::http::Here;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use crate::view;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use pitstop_api::{ErrorBody, Machine, MachineDetail, Machines};
use std::sync::Arc;

/// Machines that are told where nobody says how many.
const MOST: usize = 5000;

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/machines", get(list))
        .route("/api/v1/machines/{name}", get(one))
}

/// Every machine: those of the fleet file, then others that are known.
#[utoipa::path(get, path = "/api/v1/machines", tag = "machines",
    params(
        ("state" = Option<String>, Query, description = "Only those in this state"),
        ("group" = Option<String>, Query, description = "Only those of this group"),
        ("last" = Option<usize>, Query, description = "At most so many"),
        ("after" = Option<String>, Query, description = "Those behind this one: `next` of the answer before"),
    ),
    responses((status = 200, body = Machines), (status = "4XX", body = ErrorBody)))]
pub async fn list(Here(site): Here, uri: Uri) -> Result<Json<Machines>, Refusal> {
    let query = Query::of(&uri, &["state", "group", "last", "after"])?;
    blocking(move || {
        let mut machines = view::machines(&site)?;
        if let Some(state) = query.text("state") {
            let known = serde_json::from_value(state.into());
            let state =
                known.map_err(|error| super::query::bad(format!("state={state}: {error}")))?;
            machines.retain(|machine| machine.state == state);
        }
        if let Some(group) = query.text("group") {
            machines.retain(|machine| machine.groups.iter().any(|name| name == group));
        }
        let (machines, next) = page(machines, &query, MOST, |one: &Machine| one.id.clone())?;
        Ok(Json(Machines { machines, next }))
    })
    .await
}

/// One machine, with its disks, images, runs and jobs.
#[utoipa::path(get, path = "/api/v1/machines/{name}", tag = "machines",
    params(("name" = String, Path, description = "Name, address, MAC, UUID or serial number")),
    responses((status = 200, body = MachineDetail), (status = "4XX", body = ErrorBody)))]
pub async fn one(
    Here(site): Here,
    Path(name): Path<String>,
) -> Result<Json<MachineDetail>, Refusal> {
    blocking(move || Ok(Json(view::machine(&site, &name)?))).await
}
