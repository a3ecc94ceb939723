//! What keeps a request from being answered, and the sentences for it.

use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::error::Error as _;
use std::time::Duration;
use url::Url;

/// What kept a request from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFailure {
    /// No connection came about: nothing was sent.
    Connect,
    /// The server is not who it should be, or nobody is trusted at all. Asking again does not help.
    Trust,
    /// The server fell silent for longer than [`Settings::stall`](super::Settings::stall).
    Stalled,
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// The server sends to another place, which is not gone to. Asking again does not help.
    Elsewhere,
    /// The server answered an upload before it had all of it: it does not want it.
    Refused,
}

impl HttpFailure {
    /// Whether asking again later may help.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Connect | Self::Stalled | Self::Broken)
    }
}

/// A request without an answer; the text names method and URL, without credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{method} {url}: {what}")]
pub struct HttpError {
    pub method: Method,
    pub url: String,
    pub failure: HttpFailure,
    pub what: String,
}

impl HttpError {
    /// The request that was behind a failure, however it was wrapped on the way.
    pub fn behind(error: &anyhow::Error) -> Option<&HttpError> {
        behind(error)
    }
}

/// The first error of this type behind a failure: a writer may have wrapped it for `Write`.
pub(crate) fn behind<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| {
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let wrapped = inner.and_then(|inner| inner.downcast_ref());
        cause.downcast_ref().or(wrapped)
    })
}

/// What a message says was asked of whom.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub method: Method,
    pub url: String,
}

impl Asked {
    pub fn new(method: Method, url: &Url) -> Self {
        Self {
            method,
            url: redacted(url),
        }
    }

    pub fn error(&self, failure: HttpFailure, what: impl Into<String>) -> HttpError {
        HttpError {
            method: self.method.clone(),
            url: self.url.clone(),
            failure,
            what: what.into(),
        }
    }

    pub fn stalled(&self, limit: Duration) -> HttpError {
        let limit = pitstop_imaging::units::duration(limit);
        self.error(
            HttpFailure::Stalled,
            format!("the server has been silent for {limit}"),
        )
    }

    pub fn failed(&self, cause: reqwest::Error) -> HttpError {
        let connecting = cause.is_connect();
        let redirected = cause.is_redirect();
        let mut what = chain(&cause.without_url());
        let failure = match (connecting, what.contains("invalid peer certificate")) {
            (_, true) => HttpFailure::Trust,
            _ if redirected => HttpFailure::Elsewhere,
            (true, false) => HttpFailure::Connect,
            (false, false) => HttpFailure::Broken,
        };
        if failure == HttpFailure::Trust
            && (what.contains("expired") || what.contains("not valid yet"))
        {
            // A machine whose clock battery is empty believes to live in the year it was built.
            let now = jiff::Timestamp::now();
            what = format!("{what} (this machine's clock says {now:.0})");
        }
        self.error(failure, what)
    }
}

/// The causes of an error on one line: the outermost says little ("error sending request").
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // The client's own words for its own stages tell nobody anything.
        let stage = text.starts_with("client error (") || text == "tcp connect error";
        if !stage && causes.last() != Some(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    if causes.is_empty() {
        causes.push(error.to_string());
    }
    causes.join(": ")
}

/// Whether a status asks to try again later although it blames the client.
pub(crate) fn asks_for_patience(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Whether a status is what a proxy says of a server that is away.
pub(crate) fn is_away(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// A refusal as a sentence that says what can be done.
pub(crate) fn refusal(method: &Method, url: &str, status: StatusCode) -> String {
    let meaning = match status {
        StatusCode::UNAUTHORIZED => {
            "the server wants other credentials: token, or user and password, in the host file, or http://user:password@host/…"
        }
        StatusCode::FORBIDDEN => "the server does not allow it: check its permissions",
        StatusCode::NOT_FOUND => "there is no such file or folder",
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            "the server does not have this method: a share needs GET with Range, PUT, DELETE and MOVE"
        }
        StatusCode::CONFLICT => "the folder it belongs in does not exist and cannot be made",
        StatusCode::LENGTH_REQUIRED => "the server does not take chunked uploads",
        StatusCode::PAYLOAD_TOO_LARGE => {
            "the server limits the size of uploads (nginx: client_max_body_size 0)"
        }
        StatusCode::LOCKED => "somebody holds a lock on it",
        StatusCode::INSUFFICIENT_STORAGE => "the share is full",
        status if status.is_redirection() => "the server redirects, which is not followed here",
        status if status.is_server_error() => "the server is in trouble",
        _ => "the server refuses",
    };
    format!("{method} {url}: {meaning} (HTTP {})", status.as_u16())
}
