//! `/events`: what changes, as it does.

use crate::events::News;
use crate::http::Here;
use crate::site::Sites;
use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use pitstop_api::EventKind;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/events", get(events))
}

/// nginx would keep events back until it has a buffer full of them.
pub fn unbuffered(response: &mut Response) {
    let name = HeaderName::from_static("x-accel-buffering");
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("no"));
}

fn event(news: &News) -> Event {
    Event::default()
        .id(&news.id)
        .event(news.kind.name())
        .data(&*news.data)
}

/// Each change as it comes. Who comes back with `Last-Event-ID` hears what was missed, or `resync`; who reads too slowly is
/// told how many were `missed`.
#[utoipa::path(get, path = "/events", tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last change that was heard")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn events(Here(site): Here, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok());
    let begin = site.events.listen(last);
    let missed: Vec<_> = begin
        .missed
        .iter()
        .map(|news| Ok::<_, Infallible>(event(news)))
        .collect();
    let news = stream::unfold(begin.news, |mut news| async {
        let event = match news.recv().await {
            Ok(told) => event(&told),
            Err(RecvError::Lagged(missed)) => Event::default()
                .event(EventKind::Missed.name())
                .data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), news))
    });
    let mut response = Sse::new(stream::iter(missed).chain(news))
        .keep_alive(KeepAlive::default())
        .into_response();
    unbuffered(&mut response);
    response
}
