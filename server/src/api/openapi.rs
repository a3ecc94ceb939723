//! `/api/v1/openapi.json`: the API for programs, made of its handlers.

use super::{events, fleet, images, jobs, machines, power, runs, server};
use crate::image_files;
use crate::inventory::routes as inventory;
use crate::people;
use crate::site::Sites;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::{Arc, LazyLock};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// Every path: a handler that is missing here is missing in the description, and a test says so.
#[derive(OpenApi)]
#[openapi(
    info(title = "Pitstop", description = "Machines, jobs, runs and images of a Pitstop server. Sizes are bytes, times RFC 3339 in UTC."),
    paths(
        machines::list, machines::one,
        jobs::list, jobs::one, jobs::log, jobs::queue, jobs::schedule, jobs::history, jobs::host_files,
        jobs::set_jobs, jobs::cancel_one, jobs::cancel, jobs::retry_one, jobs::retry, jobs::reorder, jobs::clear,
        runs::list, runs::one, runs::log,
        images::list, images::one, images::verify, image_files::answer,
        fleet::fleet, fleet::machines,
        power::power,
        server::server,
        people::users, people::user, people::add, people::change, people::remove, people::tokens, people::issue,
        people::revoke, people::audit,
        inventory::search, inventory::one, inventory::changes,
        events::events,
        description,
    ),
    modifiers(&Token),
    security((), ("token" = []))
)]
struct Api;

/// How a program shows who it is.
struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_with(Default::default);
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    // A description always has a form in JSON.
    Api::openapi().to_pretty_json().unwrap_or_default()
});

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/api/v1/openapi.json", get(description))
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
pub async fn description() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], TEXT.as_str()).into_response()
}
