//! The HTTP server: which request goes where. Each layer does one thing for all of them; each folder of the site has
//! its routes in a module of its own.

pub mod access;
mod log;
mod log_in;
mod request;

pub use log::Routine;
pub use request::{Below, Caller, Here, Whole};

use crate::refusal::Refusal;
use crate::site::Sites;
use crate::{
    api, boot, by_digest, health, hosts, inventory, jobs, machine_access, metrics, mirror, pages,
    people, relay, report, share, tls,
};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// The whole site. It needs to know its clients: serve it with connection information.
pub fn router(sites: &Arc<Sites>) -> Router {
    let routes = Router::new()
        .merge(pages::routes())
        .merge(share::routes())
        .merge(report::routes())
        .merge(api::routes())
        .merge(hosts::routes())
        .merge(boot::routes())
        .merge(jobs::routes())
        .merge(inventory::routes())
        .merge(log_in::routes())
        .merge(people::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(relay::routes())
        .merge(machine_access::routes())
        .merge(by_digest::routes())
        .merge(mirror::routes())
        .with_state(Arc::clone(sites));
    layered(routes, sites)
}

/// What http serves beside https: nothing else can be asked for.
pub fn loaders(sites: &Arc<Sites>) -> Router {
    let routes = boot::routes().merge(health::routes());
    let routes = routes.with_state(Arc::clone(sites));
    let only = from_fn_with_state(Arc::clone(sites), tls::only_loaders);
    layered(Router::new().fallback_service(routes).layer(only), sites)
}

fn layered(routes: Router, sites: &Arc<Sites>) -> Router {
    // A router decides before its layers run, so what changes the path goes around it.
    Router::new()
        .fallback_service(routes)
        .layer(access::site(sites))
        .layer(from_fn(request::normalize))
        .layer(from_fn(api::in_json))
        .layer(from_fn(without_body_for_head))
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(Arc::clone(sites), log::note))
}

/// The answer to methods that would change what can only be read.
pub async fn only_read() -> Refusal {
    Refusal::method("GET, HEAD")
}

/// Every handler answers HEAD as it answers GET: here its body is taken off, and its length is told.
async fn without_body_for_head(request: Request, next: Next) -> Response {
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if head {
        let length = response.body().size_hint().exact();
        *response.body_mut() = Body::empty();
        if let Some(length) = length.filter(|&length| length > 0) {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
    }
    response
}
