//! The HTTP server: which request goes where, and a line in the journal for each.

use crate::connections::{AtWork, Peer};
use crate::journal::Journal;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use crate::upload::Received;
use crate::{boot, bootconf, file, hosts, share, status};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use http_body::{Frame, SizeHint};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

/// The whole site. It needs to know its clients: serve it with connection information.
pub fn router(sites: &Arc<Sites>) -> Router {
    Router::new()
        .fallback(dispatch)
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(Arc::clone(sites), note))
        .with_state(Arc::clone(sites))
}

async fn dispatch(
    State(sites): State<Arc<Sites>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let head = request.method() == Method::HEAD;
    let site = blocking(move || {
        sites
            .now()
            .map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{e:#}")))
    });
    let answer = match site.await {
        Ok(site) => route(&site, peer.address, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if head {
        let length = response.body().size_hint().exact();
        *response.body_mut() = Body::empty();
        if let Some(length) = length.filter(|&length| length > 0) {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
    }
    response
}

async fn route(site: &Arc<Site>, peer: IpAddr, request: Request) -> Result<Response, Refusal> {
    let path = RelPath::from_url(request.uri().path())?;
    if let Some(below) = path.below("share") {
        return share::handle(site, below, request).await;
    }
    if let Some(below) = path.below("hosts") {
        return hosts::handle(site, below, peer, request).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::method("GET, HEAD"));
    }
    let url = url(site, request.headers());
    match path.as_str() {
        "" => {
            let site = Arc::clone(site);
            let page = blocking(move || Ok(status::page(&site))).await?;
            Ok(Html(page).into_response())
        }
        "ipxe" => {
            let asker = bootconf::asker(request.uri().query().unwrap_or_default());
            let site = Arc::clone(site);
            let script = blocking(move || {
                let job = asker.job(&site.hosts);
                let append = boot::append(&site, &asker.identity());
                Ok(bootconf::ipxe(&url, job.as_deref(), &append))
            });
            Ok(text(script.await?))
        }
        _ => boot_file(site, path, peer, url, request).await,
    }
}

async fn boot_file(
    site: &Arc<Site>,
    path: RelPath,
    peer: IpAddr,
    url: String,
    request: Request,
) -> Result<Response, Refusal> {
    let (site, wanted) = (Arc::clone(site), path.clone());
    let found = blocking(move || {
        if let Some(text) = boot::generated(&site, &wanted, peer, &url) {
            return Ok(Err(text));
        }
        if wanted.below("boot").is_none() && wanted.below("pxelinux.cfg").is_none() {
            return Err(Refusal::not_found(&wanted));
        }
        let file = boot::open(&site, &wanted)
            .map_err(|e| Refusal::io(&format!("opening {wanted}"), &e))?;
        let metadata = file
            .metadata()
            .map_err(|e| Refusal::io(&format!("opening {wanted}"), &e))?;
        Ok(Ok((file, metadata)))
    });
    match found.await? {
        Err(generated) => Ok(text(generated)),
        Ok((file, metadata)) => {
            file::send(file, metadata, &path, request.method(), request.headers()).await
        }
    }
}

fn text(text: String) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// The URL under which this client reaches the server: the one given at the start, else the name the client used.
fn url(site: &Site, headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        // It goes into a boot loader's script.
        .filter(|host| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b))
        });
    match host {
        Some(host) if !site.url_given => format!("http://{host}"),
        _ => site.url.clone(),
    }
}

/// Notes each request when its answer has been sent, or has not.
async fn note(
    State(sites): State<Arc<Sites>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let mut line = Line {
        what: format!(
            "{} {} {}",
            peer.address,
            request.method(),
            // What follows a ? may be a secret.
            request.uri().path()
        ),
        journal: Arc::clone(&sites.journal),
        began: Instant::now(),
        status: None,
        received: 0,
        sent: 0,
        expected: None,
        whole: false,
        _at_work: peer.connection.begin(),
    };
    let response = next.run(request).await;
    line.status = Some(response.status().as_u16());
    if let Some(Received(bytes)) = response.extensions().get() {
        line.received = *bytes;
    }
    let (parts, body) = response.into_parts();
    // hyper stops asking a body that has given its Content-Length.
    line.expected = body.size_hint().exact().or_else(|| {
        let length = parts.headers.get(header::CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    });
    line.whole = body.is_end_stream();
    Response::from_parts(parts, Body::new(Noted { body, line }))
}

/// A line of the journal, written when it is dropped: at the end of the answer, or when the client went away.
struct Line {
    journal: Arc<Journal>,
    what: String,
    began: Instant,
    status: Option<u16>,
    received: u64,
    sent: u64,
    /// Bytes of the body, where they are known beforehand.
    expected: Option<u64>,
    whole: bool,
    /// Until the line is written: the connection is not a silent one.
    _at_work: AtWork,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self {
            what,
            received,
            sent,
            ..
        } = self;
        let took = self.began.elapsed().as_secs_f32();
        let bytes = (*received).max(*sent);
        let line = match self.status {
            Some(status) if self.whole => format!("{what} {status} {bytes} bytes {took:.3} s"),
            Some(status) => format!("{what} {status} {bytes} bytes {took:.3} s, cut off"),
            None => format!("{what} - the client went away after {took:.3} s"),
        };
        self.journal.note(&line);
    }
}

/// A body that counts what is sent of it.
struct Noted {
    body: Body,
    line: Line,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                this.line.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.line.whole = this.line.expected == Some(this.line.sent);
            }
            Some(Err(_)) => {}
            None => this.line.whole = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
