//! The pages for people: which page is where, and who may see it. What they look like is the crate `page`'s.

mod acts;
mod browse;
mod frame;
mod live;
mod people;
mod show;

pub use live::Glance;

use crate::http::access;
use crate::refusal::Refusal;
use crate::site::Sites;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use pitstop_page::assets;
use std::sync::Arc;

pub fn routes() -> Router<Arc<Sites>> {
    let viewers = Router::new()
        .route("/", get(show::machines))
        .route("/machines/{id}", get(show::machine))
        .route("/queue", get(show::queue))
        .route("/images", get(show::images))
        .route("/images/{*path}", get(show::image))
        .route("/runs", get(show::runs))
        .route("/runs/{run}", get(show::run))
        .route("/fleet", get(show::fleet))
        .route("/inventory", get(show::inventory))
        .route("/browse/{*path}", get(browse::image))
        .route("/journal", get(show::journal))
        .route("/live", get(live::live));
    let operators = Router::new()
        .route("/machines/{id}/job", post(acts::job))
        .route("/machines/{id}/power", post(acts::power))
        .route("/queue/cancel", post(acts::cancel))
        .route("/queue/move", post(acts::reorder))
        .route("/verify/{*path}", post(acts::verify));
    let admins = Router::new()
        .route("/people", get(people::list))
        .route("/people/users", post(people::add))
        .route("/people/users/{name}/remove", post(people::remove))
        .route("/people/tokens", post(people::make_token))
        .route("/people/tokens/{id}/revoke", post(people::revoke));
    Router::new()
        .merge(access::viewers(viewers))
        .merge(access::operators(operators))
        .merge(access::admins(admins))
        .route("/static/{file}", get(asset))
}

/// Style and script are no secret: the page where people log in has them, too.
async fn asset(Path(file): Path<String>) -> Result<Response, Refusal> {
    let found = assets::find(&file).ok_or_else(|| Refusal::not_found(&file))?;
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static(found.media_type),
    );
    let keep = (
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    let sniff = (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok(([kind, keep, sniff], found.text).into_response())
}
