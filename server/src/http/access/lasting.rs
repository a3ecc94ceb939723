//! Answers that do not end by themselves: events as they come. Who may not see them any more, because of a log-out, another
//! password or a token that was revoked, sees no more of them.

use super::{Asked, identify};
use crate::refusal::blocking;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use pitstop_people::Role;
use std::time::Duration;

/// How often it is looked at again who listens.
const EVERY: Duration = Duration::from_secs(5);

/// The answer, which ends when whoever asked is not at least `least` any more. One that ends by itself is left alone.
pub fn while_allowed(response: Response, asked: Asked, least: Role) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind != Some(&HeaderValue::from_static("text/event-stream")) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let over = async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let asked = asked.clone();
            // A users file that cannot be read for the moment ends nothing.
            let who = blocking(move || identify(&asked)).await;
            if who.is_ok_and(|who| who.is_none_or(|who| who.role < least)) {
                return;
            }
        }
    };
    let data = body.into_data_stream().take_until(Box::pin(over));
    Response::from_parts(parts, Body::from_stream(data))
}
