//! `/api/v1/fleet`

use super::query::Query;
use crate::http::Here;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use crate::view;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use pitstop_api::{ErrorBody, FleetMachine, FleetView};
use std::sync::Arc;

pub fn looked_at() -> Router<Arc<Sites>> {
    Router::new()
        .route("/api/v1/fleet", get(fleet))
        // A network has a slash in it.
        .route("/api/v1/fleet/{*selector}", get(machines))
}

/// The fleet file: machines, groups, networks, and what is wrong with it.
#[utoipa::path(get, path = "/api/v1/fleet", tag = "fleet",
    params(("machine" = Option<Vec<String>>, Query, description = "Only these machines, as in `POST /jobs`; may be repeated")),
    responses((status = 200, body = FleetView), (status = "4XX", body = ErrorBody)))]
pub async fn fleet(Here(site): Here, uri: Uri) -> Result<Json<FleetView>, Refusal> {
    let query = Query::of(&uri, &["machine"])?;
    let words: Vec<String> = query.all("machine").map(str::to_owned).collect();
    blocking(move || Ok(Json(view::fleet(&site, &words)?))).await
}

/// Machines with all that holds for them, each value with the layer and the line that gave it.
#[utoipa::path(get, path = "/api/v1/fleet/{selector}", tag = "fleet",
    params(("selector" = String, Path, description = "Name, address, MAC, UUID, serial number, `@group`, network or pattern")),
    responses((status = 200, body = Vec<FleetMachine>), (status = "4XX", body = ErrorBody)))]
pub async fn machines(
    Here(site): Here,
    Path(selector): Path<String>,
) -> Result<Json<Vec<FleetMachine>>, Refusal> {
    blocking(move || Ok(Json(view::fleet_machine(&site, &selector)?))).await
}
