//! A session's request that changes something shows what only a page of this server can know: in a header, or in a field of a
//! form, so that forms work without JavaScript.

use super::forbidden;
use crate::refusal::Refusal;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use pitstop_people::Csrf;
use std::time::Duration;
use url::form_urlencoded;

/// The header, and the field.
pub const HEADER: &str = "x-csrf-token";
pub const FIELD: &str = "csrf";
/// Bytes of a form.
pub const LARGEST_FORM: usize = 1 << 20;
/// A form is sent at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The request as it was, if it shows the token.
pub async fn check(token: &Csrf, request: Request) -> Result<Request, Refusal> {
    let wrong = || {
        forbidden(format!(
            "the request does not show that it is from a page of this server (the field {FIELD}, or {HEADER}): load the page anew"
        ))
    };
    if let Some(shown) = request.headers().get(HEADER) {
        let right = shown.to_str().is_ok_and(|shown| token.is(shown));
        return right.then_some(request).ok_or_else(wrong);
    }
    if !is_form(request.headers()) {
        return Err(wrong());
    }
    let (parts, body) = request.into_parts();
    let form = read_form(body).await?;
    let right = field(&form, FIELD).is_some_and(|shown| token.is(&shown));
    right
        .then(|| Request::from_parts(parts, Body::from(form)))
        .ok_or_else(wrong)
}

/// Whether the body is a form's.
pub fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The whole of a form.
pub async fn read_form(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_FORM)).await {
        Ok(Ok(form)) => Ok(form),
        Ok(Err(_)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a form has at most {LARGEST_FORM} bytes"),
        )),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the form did not come to its end",
        )),
    }
}

/// The value of a field; of several the first.
pub fn field(form: &[u8], name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(form);
    let (_, value) = fields.find(|(key, _)| key == name)?;
    Some(value.into_owned())
}
