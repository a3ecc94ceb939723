//! Fetching one file over TFTP.

use super::packet::{DEFAULT_BLOCK, Direction, LARGEST_BLOCK, Packet, Request, code, value};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};
use url::Url;

/// Fills an Ethernet frame with room for tunnels: larger blocks would need IP fragments.
const BLOCK: usize = 1428;

/// How long silence is borne.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Before a packet is sent again; doubles from there up to `longest`.
    pub first: Duration,
    pub longest: Duration,
    /// Sendings of the same packet before the server is given up.
    pub tries: u32,
}

impl Default for Patience {
    /// Half a minute in all.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(8),
            tries: 6,
        }
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    #[error("there is no such file")]
    NotFound,
    #[error("the file is too large")]
    TooLarge,
    /// The server's own words.
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("{0}")]
    BadUrl(String),
    #[error("no answer from the server")]
    Silent,
    #[error("{0}")]
    Network(#[source] io::Error),
    #[error("{0}")]
    Protocol(String),
}

/// Fetches `tftp://host[:port]/path`, of at most `limit` bytes.
///
/// # Errors
/// [`TftpError::NotFound`] only when the server says so (error code 1).
pub fn get(url: &Url, limit: usize, patience: &Patience) -> Result<Vec<u8>, TftpError> {
    let (server, file) = address(url)?;
    match transfer(server, &file, limit, patience, true) {
        // A server may refuse options as such (RFC 2347); then the plain protocol is left.
        Err(Stop::OptionsRefused) => match transfer(server, &file, limit, patience, false) {
            Err(Stop::OptionsRefused) => {
                Err(TftpError::Refused("option negotiation failed".into()))
            }
            Err(Stop::Failed(error)) => Err(error),
            Ok(bytes) => Ok(bytes),
        },
        Err(Stop::Failed(error)) => Err(error),
        Ok(bytes) => Ok(bytes),
    }
}

/// The server, and the file's name without the slash that begins a URL's path.
fn address(url: &Url) -> Result<(SocketAddr, String), TftpError> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let path = url.path().strip_prefix('/').unwrap_or(url.path());
    let file = percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| TftpError::BadUrl("the file name is not UTF-8".into()))?
        .into_owned();
    if host.is_empty() || file.is_empty() || file.contains('\0') {
        return Err(TftpError::BadUrl("write tftp://server/file".into()));
    }
    let mut addresses = (host, url.port().unwrap_or(69))
        .to_socket_addrs()
        .map_err(TftpError::Network)?;
    let server = addresses
        .next()
        .ok_or_else(|| TftpError::BadUrl(format!("{host} has no address")))?;
    Ok((server, file))
}

enum Stop {
    OptionsRefused,
    Failed(TftpError),
}

impl From<TftpError> for Stop {
    fn from(error: TftpError) -> Self {
        Stop::Failed(error)
    }
}

fn transfer(
    server: SocketAddr,
    file: &str,
    limit: usize,
    patience: &Patience,
    with_options: bool,
) -> Result<Vec<u8>, Stop> {
    let mut transfer = Transfer::begin(server, limit, with_options)?;
    let options = if with_options {
        vec![
            ("blksize".to_owned(), BLOCK.to_string()),
            ("tsize".to_owned(), "0".to_owned()),
        ]
    } else {
        Vec::new()
    };
    let request = Packet::Request(Request {
        direction: Direction::Read,
        file: file.as_bytes().to_owned(),
        mode: "octet".into(),
        options,
    });
    let mut answer = request.encode();
    if answer.len() > 512 {
        return Err(TftpError::BadUrl("the file name is too long for TFTP".into()).into());
    }
    loop {
        let packet = transfer.exchange(&answer, patience)?;
        match transfer.take(packet)? {
            Step::Answer(next) => answer = next.encode(),
            Step::Done(last) => {
                // If it gets lost the server repeats its last block to nobody, and gives up.
                transfer.send(&last.encode())?;
                return Ok(transfer.bytes);
            }
        }
    }
}

/// What a packet leads to.
enum Step {
    Answer(Packet),
    Done(Packet),
}

struct Transfer {
    socket: UdpSocket,
    /// The port of the first answer is the one of the whole transfer (RFC 1350 4).
    peer: SocketAddr,
    bound: bool,
    limit: usize,
    options_allowed: bool,
    block_size: usize,
    announced: Option<u64>,
    /// The block that comes next.
    expected: u16,
    bytes: Vec<u8>,
}

impl Transfer {
    fn begin(server: SocketAddr, limit: usize, options_allowed: bool) -> Result<Self, TftpError> {
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).map_err(TftpError::Network)?;
        Ok(Self {
            socket,
            peer: server,
            bound: false,
            limit,
            options_allowed,
            block_size: DEFAULT_BLOCK,
            announced: None,
            expected: 1,
            bytes: Vec::new(),
        })
    }

    fn send(&self, bytes: &[u8]) -> Result<(), TftpError> {
        self.socket
            .send_to(bytes, self.peer)
            .map(|_| ())
            .map_err(TftpError::Network)
    }

    /// Sends until a packet comes that moves the transfer on.
    fn exchange(&mut self, bytes: &[u8], patience: &Patience) -> Result<Packet, TftpError> {
        let mut wait = patience.first;
        for _ in 0..patience.tries {
            self.send(bytes)?;
            if let Some(packet) = self.receive(wait)? {
                return Ok(packet);
            }
            wait = (wait * 2).min(patience.longest);
        }
        Err(TftpError::Silent)
    }

    /// The next packet that matters; `None` when none came in time.
    fn receive(&mut self, wait: Duration) -> Result<Option<Packet>, TftpError> {
        let deadline = Instant::now() + wait;
        let mut buffer = vec![0; LARGEST_BLOCK + 4];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket
                .set_read_timeout(Some(left))
                .map_err(TftpError::Network)?;
            let (length, from) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => continue,
                    _ => return Err(TftpError::Network(error)),
                },
            };
            if !self.is_peer(from) {
                let stranger = Packet::Error {
                    code: code::UNKNOWN_ID,
                    message: "unknown transfer ID".into(),
                };
                // It is none of this transfer's business whether the stranger hears it.
                let _ = self.socket.send_to(&stranger.encode(), from);
                continue;
            }
            let Ok(packet) = Packet::parse(&buffer[..length]) else {
                continue;
            };
            if self.matters(&packet) {
                self.peer = from;
                self.bound = true;
                return Ok(Some(packet));
            }
        }
    }

    fn is_peer(&self, from: SocketAddr) -> bool {
        if self.bound {
            from == self.peer
        } else {
            from.ip() == self.peer.ip()
        }
    }

    /// A block seen before is not answered at once: the wait for the next one answers it (RFC 1123 4.2.3.1).
    fn matters(&self, packet: &Packet) -> bool {
        match packet {
            Packet::Data { block, .. } => *block == self.expected,
            Packet::OptionAck(_) => self.options_allowed && self.expected == 1,
            Packet::Error { .. } => true,
            Packet::Request(_) | Packet::Ack(_) => false,
        }
    }

    fn take(&mut self, packet: Packet) -> Result<Step, Stop> {
        match packet {
            Packet::OptionAck(options) => {
                self.agree(&options)?;
                Ok(Step::Answer(Packet::Ack(0)))
            }
            Packet::Data { block, data } => self.append(block, &data),
            Packet::Error { code, message } => Err(self.refused(code, &message)),
            Packet::Request(_) | Packet::Ack(_) => {
                Err(TftpError::Protocol("the server asks instead of answering".into()).into())
            }
        }
    }

    fn agree(&mut self, options: &[(String, String)]) -> Result<(), TftpError> {
        if let Some(text) = value(options, "blksize") {
            self.block_size = text
                .parse()
                .ok()
                .filter(|size| (8..=BLOCK).contains(size))
                .ok_or_else(|| TftpError::Protocol(format!("the server wants blksize {text}")))?;
        }
        if let Some(size) = value(options, "tsize").and_then(|text| text.parse::<u64>().ok()) {
            self.announced = Some(size);
            if size > self.limit as u64 {
                self.give_up();
                return Err(TftpError::TooLarge);
            }
        }
        Ok(())
    }

    fn append(&mut self, block: u16, data: &[u8]) -> Result<Step, Stop> {
        if data.len() > self.block_size {
            return Err(TftpError::Protocol(format!(
                "a block of {} bytes where {} were agreed on",
                data.len(),
                self.block_size
            ))
            .into());
        }
        if self.bytes.len() + data.len() > self.limit {
            self.give_up();
            return Err(TftpError::TooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        // Blocks count on from 65535 to 0, as every server but a few old ones has it.
        self.expected = block.wrapping_add(1);
        if data.len() == self.block_size {
            return Ok(Step::Answer(Packet::Ack(block)));
        }
        let received = self.bytes.len() as u64;
        match self.announced {
            Some(announced) if announced != received => Err(TftpError::Protocol(format!(
                "{announced} bytes were announced, {received} came"
            ))
            .into()),
            _ => Ok(Step::Done(Packet::Ack(block))),
        }
    }

    fn refused(&self, code: u16, message: &str) -> Stop {
        match code {
            code::NOT_FOUND => TftpError::NotFound.into(),
            code::OPTIONS if self.options_allowed => Stop::OptionsRefused,
            _ if message.is_empty() => TftpError::Refused(format!("error {code}")).into(),
            _ => TftpError::Refused(pitstop_imaging::render::one_line(message)).into(),
        }
    }

    /// Tells the server that the rest is not wanted.
    fn give_up(&self) {
        let enough = Packet::Error {
            code: code::FULL,
            message: "too large".into(),
        };
        // The transfer has failed already: whether the server hears it changes nothing.
        let _ = self.send(&enough.encode());
    }
}

#[cfg(test)]
mod tests;
