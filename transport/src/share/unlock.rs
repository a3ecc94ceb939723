//! The key of an encrypted image, asked of the server that keeps track of the job.

use super::http::send;
use crate::fetch::{HttpClient, HttpError, HttpFailure, Settings};
use anyhow::Context as _;
use pitstop_age::FileKey;
use pitstop_protocol::credentials::Access;
use pitstop_protocol::redacted;
use pitstop_protocol::unlock::{Locked, MOST_BYTES, UnlockAt, Unlocked};
use reqwest::{Method, StatusCode};
use std::io::Read as _;

/// What a person does who reads that nobody has a key.
const WHAT_TO_DO: &str = "a machine has no keys, and is to have none: start the server with --identities FILE, or restore the image with \
     pitstop restore --identity FILE";

/// Asks `at` for the key of the file that `locked` is about. A server that is away is waited for, as `settings` say.
///
/// # Errors
/// The server stays away, has no key, or does not give it, with its reason.
pub fn unlock(settings: &Settings, at: &UnlockAt, locked: &Locked<'_>) -> anyhow::Result<FileKey> {
    let access = Access::new(at.credentials.clone(), [&at.url]);
    let http = HttpClient::new(Settings {
        access: Some(access),
        ..settings.clone()
    })?;
    let body = locked.to_bytes().context("asking for a key")?;
    let failed = |what: String| HttpError {
        method: Method::POST,
        url: redacted(&at.url),
        failure: HttpFailure::Refused,
        what,
    };
    let mut response = send(|| {
        http.request(Method::POST, &at.url)
            .header("content-type", "application/json")
            .body(body.clone())
    })?;
    let status = response.status();
    if !status.is_success() {
        let words = response.words();
        let words = words.unwrap_or_else(|| "it does not say why".into());
        let nobody = matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::GONE
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED
        );
        let code = status.as_u16();
        return Err(failed(if nobody {
            format!("this server has no keys for images (HTTP {code}: {words}); {WHAT_TO_DO}")
        } else {
            format!("the server gives no key: {words} (HTTP {code})")
        })
        .into());
    }
    let mut bytes = Vec::new();
    let limit = MOST_BYTES as u64;
    if response
        .by_ref()
        .take(limit)
        .read_to_end(&mut bytes)
        .is_err()
    {
        return Err(response.broken().into());
    }
    let unlocked = Unlocked::parse(&bytes).map_err(|error| failed(error.to_string()))?;
    Ok(unlocked.key)
}
