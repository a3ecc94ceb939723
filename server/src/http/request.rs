//! What handlers are given of a request: the site as it is now, the path in one spelling, who asks.

use crate::connections::Peer;
use crate::listing::component;
use crate::path::{BadPath, RelPath};
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// A layer in front of the routes: `//share/%73da.gz` and `/share/sda.gz` are one name, and what leads out is refused
/// before anything else sees it. A slash at the end stays: it tells a folder.
pub async fn normalize(mut request: Request, next: Next) -> Response {
    match normal(request.uri()) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn normal(uri: &Uri) -> Result<Uri, Refusal> {
    let path = RelPath::from_url(uri.path())?;
    let mut text = String::new();
    for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
        text.push('/');
        text.push_str(&component(name).to_string());
    }
    if text.is_empty() || uri.path().ends_with('/') {
        text.push('/');
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    let unreadable = |_| Refusal::new(StatusCode::BAD_REQUEST, "the URL cannot be read");
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(unreadable)?);
    Uri::from_parts(parts)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the URL cannot be read"))
}

/// The folders as they are now; 503 where one is gone.
pub struct Here(pub Arc<Site>);

impl FromRequestParts<Arc<Sites>> for Here {
    type Rejection = Refusal;

    async fn from_request_parts(_: &mut Parts, sites: &Arc<Sites>) -> Result<Self, Refusal> {
        let sites = Arc::clone(sites);
        blocking(move || {
            sites
                .now()
                .map(Self)
                .map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{e:#}")))
        })
        .await
    }
}

/// The whole path.
pub struct Whole(pub RelPath);

impl<S: Send + Sync> FromRequestParts<S> for Whole {
    type Rejection = BadPath;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, BadPath> {
        RelPath::from_url(parts.uri.path()).map(Self)
    }
}

/// The path below its first folder: what a request for `/share/a/b` is about is `a/b`.
pub struct Below(pub RelPath);

impl<S: Send + Sync> FromRequestParts<S> for Below {
    type Rejection = BadPath;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, BadPath> {
        let Whole(path) = Whole::from_request_parts(parts, state).await?;
        Ok(Self(path.below_first()))
    }
}

/// The address that the request comes from.
pub struct Caller(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = <ConnectInfo<Peer> as FromRequestParts<()>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::<Peer>::from_request_parts(parts, state).await?;
        Ok(Self(peer.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelled(path: &str) -> Result<String, StatusCode> {
        let uri = path.parse().unwrap();
        normal(&uri)
            .map(|uri: Uri| uri.to_string())
            .map_err(|refusal| refusal.status)
    }

    #[test]
    fn one_file_has_one_spelling() {
        for (asked, normal) in [
            ("/share/sda.raw.gz", "/share/sda.raw.gz"),
            ("//share//%73da.raw.gz", "/share/sda.raw.gz"),
            ("/share", "/share"),
            ("/share/", "/share/"),
            ("/%73hare/a%20b/", "/share/a%20b/"),
            ("/", "/"),
            ("///", "/"),
            ("/ipxe?mac=a%2Fb&ip=", "/ipxe?mac=a%2Fb&ip="),
            ("http://other:8080//boot/x", "http://other:8080/boot/x"),
        ] {
            assert_eq!(spelled(asked).as_deref(), Ok(normal), "{asked}");
        }
        assert_eq!(spelled("/share/%2e%2e/x"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(spelled("/share/a%5cb"), Err(StatusCode::BAD_REQUEST));
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "(/([a-z ]|%[0-9a-f]{2}|[.*?#:]){0,6}){1,5}") {
            let Ok(uri) = path.replace(' ', "%20").parse::<Uri>() else { return Ok(()) };
            if let Ok(once) = normal(&uri) {
                prop_assert_eq!(RelPath::from_url(uri.path()), RelPath::from_url(once.path()));
                prop_assert_eq!(normal(&once).unwrap(), once);
            }
        }
    }
}
