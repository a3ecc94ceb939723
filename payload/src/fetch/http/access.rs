//! Credentials, and the servers that may see them.

use serde::{Deserialize, Serialize};
use std::fmt;
use url::{Origin, Url};

/// What proves to a server who asks. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    /// RFC 6750.
    Bearer { token: String },
    /// RFC 7617.
    Basic { user: String, password: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer { .. } => "Bearer",
            Self::Basic { .. } => "Basic",
        })
    }
}

/// Credentials for these servers and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    credentials: Credentials,
    /// Scheme, host and port: a password for https is not for http.
    origins: Vec<Origin>,
}

impl Access {
    /// For the servers of `urls`.
    pub fn new<'a>(credentials: Credentials, urls: impl IntoIterator<Item = &'a Url>) -> Self {
        Self {
            credentials,
            origins: urls.into_iter().map(Url::origin).collect(),
        }
    }

    /// What is shown to these servers.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Adds the header where the server may have it. What a URL carries itself comes first. A redirect to another
    /// host or port loses the header: the client sees to that.
    pub(super) fn sign(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
    ) -> reqwest::RequestBuilder {
        if !url.username().is_empty() || !self.origins.contains(&url.origin()) {
            return request;
        }
        match &self.credentials {
            Credentials::Bearer { token } => request.bearer_auth(token),
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
        }
    }
}
