//! Asking a server: requests and answers of its API, and what went wrong in words.

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pitstop_api::{BASE, ErrorBody};
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_protocol::host_name::printable;
use pitstop_transport::fetch::{HttpClient, HttpFailure, Method, Roots, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Switching machines takes as long as the slowest BMC does.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// No answer is longer.
const MOST_BYTES: u64 = 256 << 20;

/// A file of one line: no token is longer.
const LONGEST_TOKEN: u64 = 4096;

/// A server.
pub struct Client {
    http: HttpClient,
    url: Url,
}

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    pub status: u16,
    what: String,
}

/// A part of a path, or of a query, in which everything may stand.
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// `key=a&key=b`
pub fn pairs<T: ToString>(key: &str, values: &[T]) -> String {
    let pair = |value: &T| format!("{key}={}", part(&value.to_string()));
    values.iter().map(pair).collect::<Vec<_>>().join("&")
}

pub fn read_token(file: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading the token in {}", file.display());
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text))
        .with_context(reading)?;
    match text.trim() {
        "" => bail!("there is no token in {}", file.display()),
        token => Ok(token.to_owned()),
    }
}

impl Client {
    pub fn new(url: Url, token: Option<String>, ca: Option<PathBuf>) -> anyhow::Result<Self> {
        let access = token.map(|token| Access::new(Credentials::Bearer { token }, [&url]));
        let http = HttpClient::new(Settings {
            stall: PATIENCE,
            retry_for: Duration::ZERO,
            roots: ca.map_or(Roots::System, Roots::File),
            access,
            ..Settings::default()
        })?;
        Ok(Self { http, url })
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, None::<&()>)
    }

    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(Method::POST, path, Some(body))
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::DELETE, path, None::<&()>)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let Some(bytes) = self.bytes(method, path, body, None)? else {
            bail!("{} has nothing to say of {path}", self.url);
        };
        serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} answers {path} with what this pitstop does not know: is its version another?",
                self.url
            )
        })
    }

    /// What a text has behind its first `from` bytes; `None` where there is nothing new.
    pub fn text(&self, path: &str, from: u64) -> anyhow::Result<Option<Vec<u8>>> {
        self.bytes(Method::GET, path, None::<&()>, Some(from))
    }

    fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        from: Option<u64>,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let url = format!("{}{BASE}{path}", self.url.as_str().trim_end_matches('/'));
        let url: Url = url.parse().with_context(|| format!("asking {url}"))?;
        let mut request = self.http.request(method, &url);
        if let Some(from) = from.filter(|&from| from > 0) {
            request = request.header("range", &format!("bytes={from}-"));
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).context("writing JSON")?;
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let mut response = request.send().map_err(|error| {
            let hint = match error.failure {
                HttpFailure::Trust => ": --ca FILE names the certificate authority of this server",
                _ => ": does pitstop serve run there?",
            };
            anyhow!("{error}{hint}")
        })?;
        let status = response.status().as_u16();
        if status == 416 && from.is_some() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        response
            .by_ref()
            .take(MOST_BYTES)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading the answer of {}", self.url))?;
        if !(200..300).contains(&status) {
            return Err(self.refused(status, &bytes, path).into());
        }
        Ok(Some(bytes))
    }

    fn refused(&self, status: u16, body: &[u8], path: &str) -> Refused {
        let told = serde_json::from_slice::<ErrorBody>(body).ok();
        let is_old = told.is_none() && matches!(status, 404 | 405);
        let lines = told.map(|told| told.error.lines().map(printable).collect::<Vec<_>>());
        let why = lines.map_or_else(|| format!("HTTP {status}"), |lines| lines.join("\n"));
        let url = &self.url;
        let what = match status {
            401 => format!(
                "{url} does not know who you are: {why}. Put a token into a file and name it with --token-file, or into {}",
                super::TOKEN
            ),
            403 => format!("{url} does not allow this: {why}"),
            _ if is_old => format!(
                "{url} has no {BASE}{path}: is it a pitstop serve, of this version ({}) or later?",
                env!("CARGO_PKG_VERSION")
            ),
            _ => why,
        };
        Refused { status, what }
    }
}
