//! One connection of the proxy: the request goes through, or meets its fault.

use super::{Fault, Rule, Shared, locked};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Longest request head that is read.
const HEAD_LIMIT: usize = 64 << 10;

/// Deals with the one request of a connection.
pub(super) fn relay(mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let (head, body_start) = read_head(&mut client)?;
    let request_line = head.lines().next().unwrap_or_default().to_owned();
    locked(&shared.requests).push((Instant::now(), request_line.clone()));
    let fault = fault_for(&mut locked(&shared.rules), &request_line);
    let mut upstream = TcpStream::connect(shared.upstream)?;
    upstream.write_all(one_request_only(&head).as_bytes())?;
    let mut upload = Upload {
        client: client.try_clone()?,
        upstream: upstream.try_clone()?,
        fault,
        sent: 0,
        shared: Arc::clone(shared),
    };
    let uploading = thread::spawn(move || upload.run(&body_start));
    download(&mut upstream, &mut client, fault, shared)?;
    client.shutdown(Shutdown::Write)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    uploading
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the upload thread panicked")))
}

/// The head up to and with its empty line, and what was read of the body.
pub(super) fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = client.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if read == 0 || bytes.len() > HEAD_LIMIT {
            return Err(io::Error::other("no request head"));
        }
    }
}

fn fault_for(rules: &mut [Rule], request_line: &str) -> Option<Fault> {
    let mut words = request_line.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.method == method && path.contains(&rule.path))?;
    if rule.spare > 0 {
        rule.spare -= 1;
        return None;
    }
    Some(rule.fault)
}

/// The head with `Connection: close`, so that every request comes on a connection of its own and is seen.
fn one_request_only(head: &str) -> String {
    let mut lines: Vec<&str> = head
        .trim_end()
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .collect();
    lines.push("Connection: close");
    lines.join("\r\n") + "\r\n\r\n"
}

/// Says and hears nothing until the server is healed.
fn stall(shared: &Shared) {
    shared.stalled.store(true, Ordering::SeqCst);
    while !shared.closed.load(Ordering::SeqCst) && !locked(&shared.rules).is_empty() {
        thread::sleep(Duration::from_millis(50));
    }
}

struct Upload {
    client: TcpStream,
    upstream: TcpStream,
    fault: Option<Fault>,
    sent: u64,
    shared: Arc<Shared>,
}

impl Upload {
    fn run(&mut self, body_start: &[u8]) -> io::Result<()> {
        if !self.pass_on(body_start)? {
            return Ok(());
        }
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = self.client.read(&mut buffer)?;
            if read == 0 || !self.pass_on(&buffer[..read])? {
                return Ok(());
            }
        }
    }

    /// Whether the transfer goes on.
    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.sent = self
            .sent
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match self.fault {
            Some(Fault::DieDuringUpload(limit)) if self.sent > limit => {
                self.shared.dead.store(true, Ordering::SeqCst);
                self.upstream.shutdown(Shutdown::Both)?;
                self.client.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Some(Fault::StallUpload(limit)) if self.sent > limit => {
                stall(&self.shared);
                self.upstream.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            _ => {
                self.upstream.write_all(bytes)?;
                pause(self.fault, self.sent, bytes.len());
            }
        }
        Ok(true)
    }
}

fn download(
    upstream: &mut TcpStream,
    client: &mut TcpStream,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let limit = match fault {
        Some(Fault::DieDuringDownload(limit)) => limit,
        _ => u64::MAX,
    };
    let mut received: u64 = 0;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = upstream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if let Some(Fault::FlipDownload(at)) = fault {
            let within = at.checked_sub(received).map(usize::try_from);
            if let Some(byte) = within
                .and_then(Result::ok)
                .and_then(|at| buffer[..read].get_mut(at))
            {
                *byte ^= 1;
            }
        }
        received = received.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if matches!(fault, Some(Fault::StallDownload(limit)) if received > limit) {
            stall(shared);
            upstream.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        if received > limit {
            shared.dead.store(true, Ordering::SeqCst);
            upstream.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..read])?;
        pause(fault, received, read);
    }
}

/// Waits where a burst has ended, with the last so many of the bytes `so_far`.
fn pause(fault: Option<Fault>, so_far: u64, last: usize) {
    if let Some(Fault::Bursts(burst, pause)) = fault {
        let before = so_far.saturating_sub(u64::try_from(last).unwrap_or(u64::MAX));
        if so_far / burst > before / burst {
            thread::sleep(pause);
        }
    }
}
