//! A layer that writes a line of the journal for each request, when its answer has been sent or has not.

use crate::connections::{AtWork, Peer};
use crate::journal::Journal;
use crate::metrics::{Metrics, Using};
use crate::site::Sites;
use crate::upload::Received;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Put into an answer that is nothing to be noted: it comes from each machine each second.
#[derive(Clone, Copy)]
pub struct Routine;

/// Notes each request when its answer has been sent, or has not.
pub async fn note(
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
        path: request.uri().path().to_owned(),
        journal: Arc::clone(&sites.journal),
        metrics: Arc::clone(&sites.metrics),
        began: Instant::now(),
        status: None,
        received: 0,
        sent: 0,
        expected: None,
        whole: false,
        routine: false,
        _at_work: peer.connection.begin(),
        _using: sites.metrics.begin(request.uri().path()),
    };
    let response = next.run(request).await;
    line.status = Some(response.status().as_u16());
    if let Some(Received(bytes)) = response.extensions().get() {
        line.received = *bytes;
    }
    line.routine = response.extensions().get::<Routine>().is_some();
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
    metrics: Arc<Metrics>,
    what: String,
    path: String,
    began: Instant,
    status: Option<u16>,
    received: u64,
    sent: u64,
    /// Bytes of the body, where they are known beforehand.
    expected: Option<u64>,
    whole: bool,
    routine: bool,
    /// Until the line is written: the connection is not a silent one.
    _at_work: AtWork,
    /// The same, where it is about images.
    _using: Option<Using>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self {
            what,
            received,
            sent,
            ..
        } = self;
        let status = self.status;
        self.metrics.request(&self.path, status, *received, *sent);
        if self.routine && self.whole {
            return;
        }
        let took = self.began.elapsed().as_secs_f32();
        let bytes = (*received).max(*sent);
        let line = match self.status {
            Some(status) if self.whole => format!("{what} {status} {bytes} bytes {took:.3} s"),
            Some(status) => format!("{what} {status} {bytes} bytes {took:.3} s, cut off"),
            None => format!("{what} - the client went away after {took:.3} s"),
        };
        self.journal.request(&line);
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
