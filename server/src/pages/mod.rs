//! The pages for people: which page is where, who may see it, and what browsers may do with it. What they look like is
//! `page`'s.

mod acts;
mod frame;
mod live;
mod show;

use crate::http::access;
use crate::refusal::Refusal;
use crate::site::Sites;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use pitstop_page::assets;
use std::sync::Arc;

/// What a browser may do with a page: nothing comes from elsewhere, nothing inline is run, nobody frames it.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

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
        .route("/live", get(live::live));
    let operators = Router::new()
        .route("/machines/{id}/job", post(acts::job))
        .route("/machines/{id}/power", post(acts::power))
        .route("/queue/cancel", post(acts::cancel))
        .route("/queue/move", post(acts::reorder))
        .route("/verify/{*path}", post(acts::verify));
    Router::new()
        .merge(access::viewers(viewers))
        .merge(access::operators(operators))
        .route("/static/{file}", get(asset))
        .layer(map_response(with_headers))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
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
    Ok(([kind, keep], found.text).into_response())
}
