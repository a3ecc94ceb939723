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

    /// What the server of `url` may be shown. What a URL carries itself comes first: then it is `None`.
    pub fn for_server_of(&self, url: &Url) -> Option<&Credentials> {
        let theirs = url.username().is_empty() && self.origins.contains(&url.origin());
        theirs.then_some(&self.credentials)
    }
}
