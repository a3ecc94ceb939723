//! A PUT whose body is written piece by piece: chunked, bounded in memory, and broken off unless it is finished.

use super::{Asked, HttpClient, HttpError, HttpFailure, Response, asks_for_patience, is_away};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use reqwest::StatusCode;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes that are sent in one piece.
const PIECE: usize = 256 << 10;

/// Pieces on their way between writer and connection.
const PIECES: usize = 4;

/// How long an answer may take to arrive once the server has stopped listening.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// An upload under way. Dropped without [`finish`](Upload::finish), the connection breaks in the middle of
/// the body, so that no server takes what came for the whole.
pub struct Upload {
    http: HttpClient,
    asked: Asked,
    buffer: BytesMut,
    pieces: Option<mpsc::Sender<Bytes>>,
    whole: Arc<AtomicBool>,
    answer: Option<JoinHandle<reqwest::Result<reqwest::Response>>>,
    /// Bytes written so far.
    written: u64,
    /// Why the upload broke: whoever writes on after an error is told the same again.
    failed: Option<HttpError>,
    /// What the server said that did not want the rest.
    last_words: Option<Response>,
}

/// The receiving end, as hyper asks for it.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err(io::Error::other("the upload was given up"))),
        })
    }
}

impl Upload {
    pub(super) fn begin(http: HttpClient, builder: reqwest::RequestBuilder, asked: Asked) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let whole = Arc::new(AtomicBool::new(false));
        let body = reqwest::Body::wrap(Pieces {
            pieces: receiver,
            whole: Arc::clone(&whole),
        });
        let answer = http.0.handle.spawn(builder.body(body).send());
        Self {
            http,
            asked,
            buffer: BytesMut::with_capacity(PIECE),
            pieces: Some(sender),
            whole,
            answer: Some(answer),
            written: 0,
            failed: None,
            last_words: None,
        }
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The answer of a server that did not want the rest, once writing has failed.
    pub fn last_words(&mut self) -> Option<&mut Response> {
        self.last_words.as_mut()
    }

    /// Ends the body and waits for the server's answer, whatever its status.
    ///
    /// # Errors
    /// No answer within [`Settings::settle`](super::Settings::settle), or the connection broke.
    pub fn finish(mut self) -> Result<Response, HttpError> {
        self.send_buffer()?;
        self.whole.store(true, Ordering::Release);
        self.pieces = None;
        self.wait_for_answer(self.http.settings().settle)
    }

    fn send_buffer(&mut self) -> Result<(), HttpError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let sent = self.send_piece();
        self.failed = sent.as_ref().err().cloned();
        sent
    }

    /// Hands the buffer to the connection, and notices when nobody takes it.
    fn send_piece(&mut self) -> Result<(), HttpError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        let Some(pieces) = &self.pieces else {
            return Err(self
                .asked
                .error(HttpFailure::Broken, "the upload has ended"));
        };
        let limit = self.http.settings().stall;
        let sent = self
            .http
            .0
            .handle
            .block_on(async { tokio::time::timeout(limit, pieces.send(piece)).await });
        let stalled = match sent {
            // A server that answers before the end does not want the rest.
            Ok(Ok(())) if self.answer.as_ref().is_some_and(JoinHandle::is_finished) => false,
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_closed)) => false,
            Err(_elapsed) => true,
        };
        self.pieces = None;
        if stalled {
            return Err(self.asked.stalled(limit));
        }
        let response = self.wait_for_answer(LAST_WORDS)?;
        let status = response.status();
        let error = self.asked.error(
            if passes(status) {
                HttpFailure::Broken
            } else {
                HttpFailure::Refused
            },
            if status.is_success() {
                "the server answered before it had everything".to_owned()
            } else {
                let refusal = response.refusal();
                let named = format!("{} {}: ", self.asked.method, self.asked.url);
                refusal.strip_prefix(&named).unwrap_or(&refusal).to_owned()
            },
        );
        self.last_words = Some(response);
        Err(error)
    }

    fn wait_for_answer(&mut self, limit: Duration) -> Result<Response, HttpError> {
        let Some(mut answer) = self.answer.take() else {
            return Err(self
                .asked
                .error(HttpFailure::Broken, "the upload has ended"));
        };
        let outcome = self
            .http
            .0
            .handle
            .block_on(async { tokio::time::timeout(limit, &mut answer).await });
        match outcome {
            Err(_elapsed) => {
                answer.abort();
                Err(self.asked.stalled(limit))
            }
            Ok(Err(_task)) => Err(self
                .asked
                .error(HttpFailure::Broken, "the upload was given up")),
            Ok(Ok(Err(cause))) => Err(self.closed(cause)),
            Ok(Ok(Ok(inner))) => {
                self.http.answered();
                Ok(Response::new(self.http.clone(), inner, self.asked.clone()))
            }
        }
    }

    /// A server that hangs up in the middle of a body leaves many different errors behind.
    fn closed(&self, cause: reqwest::Error) -> HttpError {
        let written = pitstop_imaging::units::bytes(self.written);
        let mut error = self.asked.failed(cause);
        if error.failure == HttpFailure::Broken {
            error.what = format!(
                "the server closed the connection after about {written}: {}",
                error.what
            );
        }
        error
    }
}

/// Whether a status is of a server that restarts, or of a proxy before one.
fn passes(status: StatusCode) -> bool {
    asks_for_patience(status) || is_away(status)
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(answer) = self.answer.take() {
            answer.abort();
        }
    }
}

impl Write for Upload {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..count]);
        if self.buffer.len() >= PIECE {
            self.send_buffer().map_err(io::Error::other)?;
        }
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_buffer().map_err(io::Error::other)
    }
}
