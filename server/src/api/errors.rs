//! Answers that are not what the program hoped for, as JSON.

use crate::refusal::{Reason, Refusal};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pitstop_api::{BASE, ErrorBody};

/// No reason is longer.
const LONGEST: usize = 256 << 10;

/// A layer around all routes: what goes wrong below `/api/v1` is told as `{"error": …}`, whoever refused it.
pub async fn in_json(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with(BASE);
    let mut response = next.run(request).await;
    if !is_api || !(response.status().is_client_error() || response.status().is_server_error()) {
        return response;
    }
    let told: Option<Reason> = response.extensions_mut().remove();
    let (mut parts, body) = response.into_parts();
    let json = HeaderValue::from_static("application/json");
    if parts.headers.get(header::CONTENT_TYPE) == Some(&json) {
        return Response::from_parts(parts, body);
    }
    let reason = if let Some(Reason(reason)) = told {
        reason
    } else {
        // The framework's own words.
        let text = to_bytes(body, LONGEST).await.unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let error = ErrorBody {
        error: if reason.is_empty() {
            fallback(parts.status).to_owned()
        } else {
            reason
        },
        hint: hint(parts.status),
    };
    // A sentence has a form in JSON.
    let text = serde_json::to_string(&error).unwrap_or_default();
    parts.headers.insert(header::CONTENT_TYPE, json);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

fn fallback(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "there is nothing at this path",
        StatusCode::METHOD_NOT_ALLOWED => "this method cannot be used here: see Allow",
        _ => status.canonical_reason().unwrap_or("it was refused"),
    }
}

fn hint(status: StatusCode) -> Option<String> {
    let hint = match status {
        StatusCode::UNAUTHORIZED => "pitstop token new --user NAME makes a token",
        StatusCode::NOT_FOUND => "/api/v1/openapi.json has every path",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// 405; the router adds the methods that would do.
pub async fn wrong_method() -> Response {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this method cannot be used here: see Allow",
    )
    .into_response()
}
