//! Where a server says that machines which restore one file can have it from each other.

use super::send;
use crate::fetch::HttpClient;
use pitstop_protocol::job::Mirror;
use reqwest::{Method, StatusCode};
use url::Url;

/// In the answer to HEAD: the path that reports go to.
pub const RELAY: &str = "pitstop-relay";
/// In the same: how many jobs are for this image, under whatever name.
pub const RELAY_WANTED: &str = "pitstop-relay-wanted";

/// Where a plan is made of who has a file for whom.
#[derive(Debug, Clone)]
pub struct RelayAt {
    pub http: HttpClient,
    /// Where reports go.
    pub url: Url,
    /// The file's path on that server.
    pub path: String,
    /// Jobs for the same image, as the server knows them.
    pub wanted: u64,
    /// Mirrors that are asked before that server, in order.
    pub mirrors: Vec<String>,
}

impl RelayAt {
    /// The same for one who reads from `mirrors`.
    #[must_use]
    pub fn behind(self, mirrors: &[Mirror]) -> Self {
        Self {
            mirrors: mirrors.iter().map(ToString::to_string).collect(),
            ..self
        }
    }
}

/// Asks the server of `file`; `None` where it plans nothing.
///
/// # Errors
/// It does not answer.
pub fn relay_at(http: &HttpClient, file: &Url) -> anyhow::Result<Option<RelayAt>> {
    let answer = send(|| http.request(Method::HEAD, file))?;
    if answer.status() != StatusCode::OK {
        return Ok(None);
    }
    let path = answer.header(RELAY).filter(|path| path.starts_with('/'));
    let Some(path) = path else {
        return Ok(None);
    };
    // Only ever on the server that was asked, with what it may see of credentials.
    let mut url = file.clone();
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    let wanted = answer.header(RELAY_WANTED);
    Ok(Some(RelayAt {
        http: http.clone(),
        url,
        path: file.path().to_owned(),
        wanted: wanted.and_then(|text| text.parse().ok()).unwrap_or(0),
        mirrors: Vec::new(),
    }))
}
