//! What plain http serves beside https: what boot loaders need, who know nothing of TLS or of this server's authority.
//! They are never sent elsewhere: many do not follow.

use crate::connections::Peer;
use crate::refusal::Refusal;
use crate::site::Sites;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Lets through what is for loaders; says to all others where the rest is.
pub async fn only_loaders(
    State(sites): State<Arc<Sites>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(tls) = sites.tls.as_ref().filter(|_| !peer.secure) else {
        return next.run(request).await;
    };
    let path = request.uri().path();
    if is_for_loaders(path) {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| tls.url_for(host));
    let url = url.unwrap_or_else(|| tls.url.clone());
    let why = format!("http serves boot loaders alone here: ask {url}{path}");
    Refusal::new(StatusCode::FORBIDDEN, why).into_response()
}

/// Boot files, the configurations of iPXE and PXELINUX, and whether the server is well: no secrets, and nothing that is
/// written. `path` is a normal one.
fn is_for_loaders(path: &str) -> bool {
    let mut names = path.split('/').skip(1);
    match names.next() {
        Some("boot") => true,
        Some("ipxe" | "healthz") => names.next().is_none(),
        _ => {
            // Loaders ask beside themselves.
            let folder = path.rsplit('/').nth(1);
            path.ends_with("/boot.ipxe")
                || path.ends_with("/autoexec.ipxe")
                || folder == Some("pxelinux.cfg")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_loaders_is_no_secret() {
        for path in [
            "/boot/vmlinuz",
            "/boot",
            "/ipxe",
            "/boot.ipxe",
            "/loaders/autoexec.ipxe",
            "/pxelinux.cfg/default",
            "/boot/pxelinux.cfg/01-52-54-00-12-34-56",
            "/healthz",
        ] {
            assert!(is_for_loaders(path), "{path}");
        }
        for path in [
            "/",
            "/hosts/",
            "/hosts/default.toml",
            "/share/x",
            "/share/boot/x",
            "/report/1",
            "/check-in/1",
            "/api/v1/runs",
            "/events",
            "/metrics",
            "/bootx",
            "/ipxe/x",
            "/login",
        ] {
            assert!(!is_for_loaders(path), "{path}");
        }
    }
}
