//! Under which URLs a client reaches this server: those that it used itself are the ones that work for it.

use crate::connections::Peer;
use crate::site::Site;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;

/// How a request came here.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The name and port that the client used, where it said any.
    pub host: Option<String>,
    pub secure: bool,
}

/// The URLs for one client, without a slash at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// For its boot loader.
    pub loaders: String,
    /// For the machine at work: host file, share, reports. With `--tls` https.
    pub machines: String,
}

impl Site {
    /// The URLs for who asked like this. `--url` wins over the name that the client used.
    pub fn reached(&self, asked: &Asked) -> Reached {
        let host = asked.host.as_deref().filter(|_| !self.url_given);
        let same = |url: String| Reached {
            loaders: url.clone(),
            machines: url,
        };
        match (&self.tls, host) {
            (None, Some(host)) => same(format!("http://{host}")),
            (None, None) => same(self.url.clone()),
            (Some(_), Some(host)) if asked.secure => same(format!("https://{host}")),
            (Some(tls), host) => Reached {
                loaders: host
                    .map_or_else(|| self.boot_url.clone(), |host| format!("http://{host}")),
                // A name that the certificate has not would be of no use.
                machines: host
                    .and_then(|host| tls.url_for(host))
                    .unwrap_or_else(|| self.url.clone()),
            },
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = <ConnectInfo<Peer> as FromRequestParts<()>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::<Peer>::from_request_parts(parts, state).await?;
        let host = parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            // It goes into a boot loader's script.
            .filter(|host| {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b))
            });
        Ok(Self {
            host: host.map(str::to_owned),
            secure: peer.secure,
        })
    }
}
