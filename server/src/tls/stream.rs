//! Connections over TLS. The handshake is done when the connection is first used, so that nobody who is slow at it keeps
//! others from being taken, and under the time limits that every connection has.

use crate::connections::{Connection, Connections, Guarded, Peer, Table};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Of a head in plain http, so much is read before it is answered.
const LONGEST_HEAD: usize = 8 << 10;

const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 59\r\n\r\n\
    this port speaks https: write https:// in place of http://\n";

/// The listener for https.
pub struct Secure {
    connections: Connections,
    acceptor: TlsAcceptor,
}

impl Secure {
    pub fn new(connections: Connections, config: Arc<rustls::ServerConfig>) -> Self {
        Self {
            connections,
            acceptor: TlsAcceptor::from(config),
        }
    }
}

impl Listener for Secure {
    type Io = Secured;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Secured, SocketAddr) {
        let (stream, address) = self.connections.accept().await;
        let secured = Secured {
            connection: stream.connection(),
            table: Arc::clone(self.connections.table()),
            state: State::Greeting(Box::pin(greet(stream, self.acceptor.clone()))),
        };
        (secured, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.connections.local_addr()
    }
}

impl Connected<IncomingStream<'_, Secure>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Secure>) -> Self {
        Peer::new(Arc::clone(&stream.io().connection), true)
    }
}

/// A client's connection, decrypted.
pub struct Secured {
    connection: Arc<Connection>,
    table: Arc<Table>,
    state: State,
}

type Greeting = Pin<Box<dyn Future<Output = io::Result<TlsStream<Guarded>>> + Send>>;

enum State {
    Greeting(Greeting),
    Open(Box<TlsStream<Guarded>>),
    Failed,
}

async fn greet(mut stream: Guarded, acceptor: TlsAcceptor) -> io::Result<TlsStream<Guarded>> {
    let first = poll_fn(|context| stream.poll_first(context)).await?;
    // A method of HTTP; TLS begins with 22.
    if first.is_some_and(|byte| byte.is_ascii_uppercase()) {
        tell_plain(stream).await?;
        return Err(io::Error::other("it speaks http"));
    }
    acceptor.accept(stream).await
}

/// Says to who speaks http what to do. What has come is read first: a connection that is closed with something unread takes the
/// answer along.
async fn tell_plain(mut stream: Guarded) -> io::Result<()> {
    let mut head = Vec::new();
    while head.len() < LONGEST_HEAD && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    stream.write_all(USE_HTTPS).await?;
    stream.shutdown().await
}

impl Secured {
    /// The connection when the handshake is done.
    fn open(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut TlsStream<Guarded>>>> {
        if let State::Greeting(accept) = &mut self.state {
            match ready!(accept.as_mut().poll(context)) {
                Ok(stream) => self.state = State::Open(Box::new(stream)),
                Err(error) => {
                    let peer = self.connection.peer();
                    self.table.complain(&format!("{peer}: no TLS: {error}"));
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Open(stream) => Ok(Pin::new(stream)),
            State::Greeting(_) | State::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.open(context))?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.open(context))?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        // rustls gathers slices into records.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(stream).poll_flush(context),
            State::Greeting(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(stream).poll_shutdown(context),
            // Nobody was greeted: there is nobody to take leave of.
            State::Greeting(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}
