//! `/api/v1/inventory…`, and looking at the share now and then.

use super::{NotKnown, Sources};
use crate::http::access;
use crate::http::{Here, only_read};
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use jiff::Timestamp;
use pitstop_api::ErrorBody;
use pitstop_api::inventory::{InventoryDiff, InventoryList, MachineInventory};
use pitstop_inventory::{Query, export};
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// How often the share is looked at for machines that do not report.
const EVERY: Duration = Duration::from_secs(10);

pub fn routes() -> Router<Arc<Sites>> {
    access::viewers(
        Router::new()
            .route("/api/v1/inventory", get(search).fallback(only_read))
            .route("/api/v1/inventory/{name}", get(one).fallback(only_read))
            .route(
                "/api/v1/inventory/{name}/diff",
                get(changes).fallback(only_read),
            ),
    )
}

/// Looks at the share and at what else may have changed, for as long as the server runs. What is wrong is told when it changes.
pub async fn watch(sites: Arc<Sites>) {
    let mut told = String::new();
    loop {
        let looked = {
            let sites = Arc::clone(&sites);
            tokio::task::spawn_blocking(move || {
                let site = sites.now()?;
                site.inventory.refresh(&Sources::of(&site))
            })
            .await
        };
        let wrong = match looked {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        if wrong != told && !wrong.is_empty() {
            sites.journal.note(&format!("the inventory: {wrong}"));
        }
        told = wrong;
        tokio::time::sleep(EVERY).await;
    }
}

enum Format {
    Json,
    Csv,
}

/// Machines that a search is about, by name. docs/inventory.md has the language.
#[utoipa::path(get, path = "/api/v1/inventory", tag = "inventory",
    params(
        ("q" = Option<String>, Query, description = "As in `ram<8GiB disk.model~\"EVO\"`; left out: all machines"),
        ("format" = Option<String>, Query, description = "`csv` or `json`"),
    ),
    responses((status = 200, body = InventoryList), (status = "4XX", body = ErrorBody)))]
pub async fn search(Here(site): Here, uri: Uri) -> Result<Response, Refusal> {
    let (mut text, mut format) = (String::new(), Format::Json);
    for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match (key.as_ref(), value.as_ref()) {
            ("q", query) => query.clone_into(&mut text),
            ("format", "json") => format = Format::Json,
            ("format", "csv") => format = Format::Csv,
            ("format", other) => {
                return Err(bad(format!("format={other}: there are json and csv")));
            }
            _ => return Err(bad(format!("there is no {key}: there are q, format"))),
        }
    }
    let query = Query::parse(&text).map_err(|error| bad(error.pointed(&text)))?;
    let list = blocking(move || {
        site.inventory
            .search(&Sources::of(&site), &text, &query)
            .map_err(|error| refused(&error))
    })
    .await?;
    Ok(match format {
        Format::Json => Json(list).into_response(),
        Format::Csv => {
            let headers = [
                (
                    header::CONTENT_TYPE,
                    "text/csv; charset=utf-8; header=present",
                ),
                (
                    header::CONTENT_DISPOSITION,
                    "attachment; filename=\"inventory.csv\"",
                ),
            ];
            (headers, export::csv(&list)).into_response()
        }
    })
}

/// All that is known of one machine, with what changed and when.
#[utoipa::path(get, path = "/api/v1/inventory/{name}", tag = "inventory",
    params(("name" = String, Path, description = "A name, an address, a MAC, a UUID or a serial number")),
    responses((status = 200, body = MachineInventory), (status = "4XX", body = ErrorBody)))]
pub async fn one(
    Here(site): Here,
    Path(name): Path<String>,
) -> Result<Json<MachineInventory>, Refusal> {
    blocking(move || {
        let machine = site.inventory.machine(&Sources::of(&site), &name);
        machine.map(Json).map_err(|error| refused(&error))
    })
    .await
}

/// What changed of a machine since a time, or since it was first seen.
#[utoipa::path(get, path = "/api/v1/inventory/{name}/diff", tag = "inventory",
    params(
        ("name" = String, Path, description = "A name, an address, a MAC, a UUID or a serial number"),
        ("since" = Option<String>, Query, description = "`2026-03-01` or `2026-03-01T12:00:00Z`"),
    ),
    responses((status = 200, body = InventoryDiff), (status = "4XX", body = ErrorBody)))]
pub async fn changes(
    Here(site): Here,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<InventoryDiff>, Refusal> {
    let mut since = None;
    for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "since" => since = Some(time(&value).map_err(bad)?),
            _ => return Err(bad(format!("there is no {key}: there is since"))),
        }
    }
    blocking(move || {
        let changes = site.inventory.changes(&Sources::of(&site), &name, since);
        changes.map(Json).map_err(|error| refused(&error))
    })
    .await
}

/// A day begins in UTC here: the server's time zone is nothing to a client elsewhere.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let day: Option<jiff::civil::Date> = text.parse().ok();
    day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| format!("since={text}: write 2026-03-01 or 2026-03-01T12:00:00Z"))
}

fn bad(what: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what)
}

fn refused(error: &anyhow::Error) -> Refusal {
    let status = match error.downcast_ref() {
        Some(NotKnown::Nobody(_) | NotKnown::NoFacts(_)) => StatusCode::NOT_FOUND,
        Some(NotKnown::Several(..)) => StatusCode::CONFLICT,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, format!("{error:#}"))
}
