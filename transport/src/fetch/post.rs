//! Small messages to a server, and its small answers.

use super::http::Backoff;
use super::{HttpClient, HttpError, http};
use reqwest::{Method, StatusCode};
use std::io::Read;
use url::Url;

/// What a server made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// It took it, and answered this.
    Answer(Vec<u8>),
    /// It has no such place, or takes no messages there.
    NoSuchPlace(String),
    /// It does not want it, with its reason.
    Refused(String),
}

/// Sends `body` once, and reads an answer of at most `most` bytes.
///
/// # Errors
/// No answer, or that of a server or proxy that is away for now.
pub fn post(
    http: &HttpClient,
    url: &Url,
    kind: &str,
    body: Vec<u8>,
    most: usize,
) -> Result<Posted, HttpError> {
    let mut response = http
        .request(Method::POST, url)
        .header("content-type", kind)
        .body(body)
        .send()?;
    let status = response.status();
    if status.is_success() {
        let mut answer = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX);
        return match response.by_ref().take(limit).read_to_end(&mut answer) {
            Ok(_) => Ok(Posted::Answer(answer)),
            Err(_broke_off) => Err(response.broken()),
        };
    }
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || http::asks_for_patience(status)
    {
        return Err(response.broken());
    }
    let words = response.words().map(|words| format!(": {words}"));
    let what = response.refusal() + &words.unwrap_or_default();
    Ok(match status {
        StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_IMPLEMENTED => Posted::NoSuchPlace(what),
        _ => Posted::Refused(what),
    })
}

/// The same, again and again while the server is away, for as long as the client's settings say.
///
/// # Errors
/// As [`post`].
pub fn post_patiently(
    http: &HttpClient,
    url: &Url,
    kind: &str,
    body: &[u8],
    most: usize,
) -> Result<Posted, HttpError> {
    let mut backoff = Backoff::new(http);
    loop {
        match post(http, url, kind, body.to_vec(), most) {
            Err(error) if backoff.again(&error) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fake::{FakeServer, Fault, impatient, patient};

    #[test]
    fn a_server_that_is_away_for_a_moment_is_asked_again() {
        let server = FakeServer::start();
        let url = server.url("/relay");
        for fault in [Fault::Status(503), Fault::Busy, Fault::Mute] {
            server.fail("POST", fault);
        }
        let said = post_patiently(&patient(), &url, "application/json", b"{}", 100);
        assert!(said.is_ok(), "{said:?}");
        assert_eq!(server.log().len(), 4);
        server.down(true);
        let gone = post_patiently(&impatient(), &url, "application/json", b"{}", 100);
        assert!(gone.is_err(), "{gone:?}");
    }
}
