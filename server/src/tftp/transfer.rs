//! One file to one client, window by window.

use super::error;
use super::lookup::Content;
use super::options::{Agreed, agree};
use super::turns::Turn;
use pitstop_transport::fetch::tftp::packet::{Packet, Request, code};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Sendings of the same packets before the client is given up.
const TRIES: u32 = 6;
/// The wait between two of them doubles up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What the client says to what it was sent.
enum Reply {
    /// Blocks of the window that it has, counted from the window's beginning.
    Has(usize),
    /// It lacks the first of them: the window begins again (RFC 7440 4).
    Again,
    /// It has had enough, in its own words.
    Stopped(String),
    Silence,
}

/// Sends the file over a socket that is connected to the client. The words are for the journal.
pub fn send(
    socket: &UdpSocket,
    request: &Request,
    content: Content,
    turn: &Turn,
) -> io::Result<String> {
    let length = content.length;
    let agreed = agree(request, length);
    let mut transfer = Transfer {
        socket,
        turn,
        agreed,
        content,
        window: VecDeque::new(),
        acknowledged: 0,
        stale: 0,
        read_to_end: false,
    };
    match transfer.run() {
        Ok(None) => Ok(format!("{length} bytes")),
        // A loader that only wanted to know the size says so with an error (RFC 2349 has no other way).
        Ok(Some(why)) => Ok(format!("stopped by the client: {why}")),
        Err(failure) => {
            let farewell = error(code::UNDEFINED, failure.to_string()).encode();
            // The client may be gone: the failure itself is what counts.
            let _ = socket.send(&farewell);
            Err(failure)
        }
    }
}

struct Transfer<'a> {
    socket: &'a UdpSocket,
    turn: &'a Turn,
    agreed: Agreed,
    content: Content,
    /// Packets that were sent and not acknowledged.
    window: VecDeque<Vec<u8>>,
    /// The number of the last block that the client has; wraps as the protocol's numbers do.
    acknowledged: u16,
    /// How often the client may still say that number for packets that it could not use: some say it for each of them,
    /// as UEFI's does.
    stale: usize,
    read_to_end: bool,
}

impl Transfer<'_> {
    /// `Some` is why the client stopped it.
    fn run(&mut self) -> io::Result<Option<String>> {
        if !self.agreed.answers.is_empty() {
            let answers = self.agreed.answers.clone();
            let options = Packet::OptionAck(answers).encode();
            // Acknowledged as block 0 would be: the window holds it alone.
            self.acknowledged = u16::MAX;
            self.window.push_back(options);
            if let Some(stopped) = self.deliver()? {
                return Ok(Some(stopped));
            }
        }
        loop {
            self.fill()?;
            if self.window.is_empty() {
                return Ok(None);
            }
            if let Some(stopped) = self.deliver()? {
                return Ok(Some(stopped));
            }
        }
    }

    /// Reads blocks until the window is full or the file at its end.
    fn fill(&mut self) -> io::Result<()> {
        while !self.read_to_end && self.window.len() < self.agreed.window {
            let data = self.read_block()?;
            // A block that is not full ends the file (RFC 1350 6); it may be empty.
            self.read_to_end = data.len() < self.agreed.block;
            let number = u16::try_from(self.window.len() + 1).unwrap_or(u16::MAX);
            let block = self.acknowledged.wrapping_add(number);
            self.window.push_back(Packet::Data { block, data }.encode());
        }
        Ok(())
    }

    fn read_block(&mut self) -> io::Result<Vec<u8>> {
        let mut data = Vec::with_capacity(self.agreed.block);
        (&mut self.content.bytes)
            .take(self.agreed.block as u64)
            .read_to_end(&mut data)?;
        Ok(data)
    }

    /// Sends the window and waits until the client has some of it. What it lacks then, though it was
    /// sent, got lost: it belongs to the next window (RFC 7440 4).
    fn deliver(&mut self) -> io::Result<Option<String>> {
        let mut wait = self.agreed.patience;
        for sent_before in 0..TRIES as usize {
            if self.turn.is_over() {
                return Ok(Some("it was reset and asks again".into()));
            }
            for packet in &self.window {
                self.socket.send(packet)?;
            }
            match self.news(Instant::now() + wait)? {
                Reply::Has(blocks) => {
                    self.turn.acknowledged();
                    // One of those behind a gap told this; and what came twice is of no use either.
                    let behind = (self.window.len() - blocks).saturating_sub(2);
                    self.stale = behind + sent_before * self.window.len();
                    self.window.drain(..blocks);
                    let step = u16::try_from(blocks).unwrap_or(u16::MAX);
                    self.acknowledged = self.acknowledged.wrapping_add(step);
                    return Ok(None);
                }
                Reply::Stopped(why) => return Ok(Some(why)),
                Reply::Again => self.stale = self.window.len(),
                Reply::Silence => {
                    self.stale = 0;
                    wait = (wait * 2).min(LONGEST_WAIT.max(wait));
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer to block {}", self.acknowledged.wrapping_add(1)),
        ))
    }

    /// A reply that says something new. Were each stale one answered with the whole window, they would become more and more.
    fn news(&mut self, until: Instant) -> io::Result<Reply> {
        loop {
            match self.reply(until)? {
                Reply::Again if self.stale > 0 => self.stale -= 1,
                reply => return Ok(reply),
            }
        }
    }

    fn reply(&self, until: Instant) -> io::Result<Reply> {
        let mut buffer = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Reply::Silence);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Ok(Reply::Silence);
                    }
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::ConnectionRefused => {
                        return Ok(Reply::Stopped("it is gone".into()));
                    }
                    _ => return Err(error),
                },
            };
            match Packet::parse(&buffer[..length]) {
                Ok(Packet::Ack(block)) => {
                    let blocks = usize::from(block.wrapping_sub(self.acknowledged));
                    if (1..=self.window.len()).contains(&blocks) {
                        return Ok(Reply::Has(blocks));
                    }
                    // An old number, said again. One block at a time, an answer to it would send every
                    // later block twice (RFC 1123 4.2.3.1, the Sorcerer's Apprentice).
                    if blocks == 0 && self.agreed.window > 1 {
                        return Ok(Reply::Again);
                    }
                }
                Ok(Packet::Error { message, .. }) => return Ok(Reply::Stopped(message)),
                _ => {}
            }
        }
    }
}
