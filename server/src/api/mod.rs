//! `/api/v1/…` and `/events`: all that pages show and the command does, for programs. Each file has its routes, and who may
//! ask them. docs/api.md has them for people, `/api/v1/openapi.json` for programs.

mod errors;
mod events;
mod fleet;
mod images;
mod jobs;
mod machines;
mod openapi;
mod power;
mod query;
mod runs;
mod server;
mod wish;

pub use errors::in_json;
pub use query::json;

/// What forms of pages do as well.
pub mod handlers {
    pub use super::images::verify;
    pub use super::jobs::{cancel_one, reorder, set_jobs};
    pub use super::power::switch;
}

use crate::http::access;
use crate::site::Sites;
use axum::Router;
use std::sync::Arc;

pub fn routes() -> Router<Arc<Sites>> {
    let viewers = Router::new()
        .merge(machines::looked_at())
        .merge(jobs::looked_at())
        .merge(runs::looked_at())
        .merge(images::looked_at())
        .merge(fleet::looked_at())
        .merge(server::looked_at())
        .merge(openapi::routes())
        .merge(events::routes());
    let operators = Router::new()
        .merge(jobs::changed())
        .merge(images::changed())
        .merge(power::changed());
    Router::new()
        .merge(access::viewers(viewers))
        .merge(access::operators(operators))
        .method_not_allowed_fallback(errors::wrong_method)
}
