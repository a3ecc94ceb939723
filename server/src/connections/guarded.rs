//! A connection that ends by itself when nothing comes of it.

use super::{Connection, Guest};
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// For the first request to begin.
const FIRST: Duration = Duration::from_secs(20);
/// For the head of a request to be whole, from its first byte.
const HEAD: Duration = Duration::from_secs(30);
/// For the next request; longer than clients keep a connection that they do not use (reqwest: 90 s).
const NEXT: Duration = Duration::from_secs(120);
/// For one more byte of a request or an answer under way, in either direction: a machine with a slow disk takes its
/// time, as the payload's own `progress-timeout` allows.
const STALL: Duration = Duration::from_secs(30 * 60);

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    First,
    Head,
    Next,
    Stall,
}

/// A client's connection: read and written as the socket is, until a limit is reached.
pub struct Guarded {
    stream: TcpStream,
    guest: Guest,
    timer: Pin<Box<Sleep>>,
    moved: Instant,
    /// When the head that is being read began, and how many requests there were before it.
    head: Option<(Instant, u64)>,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream, guest: Guest) -> Self {
        let now = Instant::now();
        Self {
            stream,
            guest,
            timer: Box::pin(sleep_until(now + FIRST)),
            moved: now,
            head: None,
        }
    }

    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.guest.connection)
    }

    /// The first byte that comes, which stays to be read; `None` at the end.
    pub fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let mut room = ReadBuf::new(&mut byte);
        let peeked = self.stream.poll_peek(context, &mut room);
        if peeked.is_pending() {
            self.check(context)?;
            return Poll::Pending;
        }
        let count = ready!(peeked)?;
        Poll::Ready(Ok((count > 0).then_some(byte[0])))
    }

    /// Until when what is awaited has to come.
    fn limit(&self) -> (Instant, Limit) {
        let connection = &self.guest.connection;
        if connection.is_at_work() {
            return (self.moved + STALL, Limit::Stall);
        }
        let asked = connection.asked.load(Ordering::Relaxed);
        match self.head {
            Some((began, before)) if before == asked => (began + HEAD, Limit::Head),
            _ if asked == 0 => (self.moved + FIRST, Limit::First),
            _ => (self.moved + NEXT, Limit::Next),
        }
    }

    fn note_bytes(&mut self, count: usize, read: bool) {
        let connection = &self.guest.connection;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        connection.bytes.fetch_add(count, Ordering::Relaxed);
        self.moved = Instant::now();
        connection
            .moved
            .store(self.guest.table.now(), Ordering::Relaxed);
        if read && !connection.is_at_work() {
            let asked = connection.asked.load(Ordering::Relaxed);
            // More of a head keeps the time at which it began.
            if self.head.is_none_or(|(_, before)| before != asked) {
                self.head = Some((self.moved, asked));
            }
        }
    }

    /// An error when the limit is reached or the place is needed; else the task is woken when that may be so.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        {
            let connection = &self.guest.connection;
            let mut waker = connection
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *waker = Some(context.waker().clone());
        }
        if self.guest.connection.unwanted.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it makes room"));
        }
        loop {
            let (until, limit) = self.limit();
            if Instant::now() >= until {
                self.tell(limit);
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came"));
            }
            // One that ends earlier is only looked at then: that is cheaper than to set it at each byte.
            if self.timer.deadline() > until || self.timer.is_elapsed() {
                self.timer.as_mut().reset(until);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Ok(());
            }
        }
    }

    fn tell(&self, limit: Limit) {
        let peer = self.guest.connection.peer;
        let seconds = |limit: Duration| limit.as_secs();
        let line = match limit {
            Limit::First => format!("{peer} asked nothing for {} s", seconds(FIRST)),
            Limit::Head => format!("{peer} sent no whole request in {} s", seconds(HEAD)),
            Limit::Stall => format!("{peer} moved nothing for {} s", seconds(STALL)),
            // Every browser does so.
            Limit::Next => return,
        };
        self.guest
            .table
            .complain(&format!("{line}: the connection is closed"));
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => {
                self.check(context)?;
                Poll::Pending
            }
            Poll::Ready(outcome) => {
                let count = buffer.filled().len() - before;
                if count > 0 {
                    self.note_bytes(count, true);
                }
                // Drips of a head are bytes, too.
                match self.limit() {
                    (until, Limit::Head) if Instant::now() >= until => {
                        Poll::Ready(self.check(context))
                    }
                    _ => Poll::Ready(outcome),
                }
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Guarded {
    fn written(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_pending() {
            self.check(context)?;
            return Poll::Pending;
        }
        let outcome = ready!(outcome);
        if let Ok(count @ 1..) = outcome {
            self.note_bytes(count, false);
        }
        Poll::Ready(outcome)
    }
}
