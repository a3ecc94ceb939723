//! A server that fails: a TCP relay before the real server which, when told to, answers instead of it, cuts a
//! transfer in the middle or dies.

use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status at once; the server never hears of the request.
    Answer(u16),
    /// This status after so many bytes of the request's body, then the connection closes.
    AnswerAfter(u64, u16),
    /// The connection closes after so many bytes of the request's body.
    CutUpload(u64),
    /// The connection closes after so many bytes of the answer, its head included.
    CutDownload(u64),
    /// As `CutUpload`, and the server does not come back.
    DieDuringUpload(u64),
    /// As `CutDownload`, and the server does not come back.
    DieDuringDownload(u64),
    /// Nothing more is read after so many bytes of the request's body, and nothing is said.
    StallUpload(u64),
}

/// Which requests a fault befalls.
#[derive(Debug, Clone)]
struct Rule {
    method: String,
    path: String,
    fault: Fault,
}

struct Shared {
    upstream: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    dead: AtomicBool,
    closed: AtomicBool,
    requests: Mutex<Vec<(Instant, String)>>,
}

/// A relay on a port of its own. Stops when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Longest request head that is read.
const HEAD_LIMIT: usize = 64 << 10;

impl Proxy {
    /// Relays to the server on this port of the loopback.
    pub fn start(upstream_port: u16) -> Result<Proxy> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).context("binding a port for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from(([127, 0, 0, 1], upstream_port)),
            rules: Mutex::default(),
            dead: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            requests: Mutex::default(),
        });
        let for_listener = Arc::clone(&shared);
        thread::Builder::new()
            .name("proxy".into())
            .spawn(move || listen(&listener, &for_listener))?;
        Ok(Proxy { address, shared })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, requests of this method whose path contains `path` meet `fault`.
    pub fn break_requests(&self, method: &str, path: &str, fault: Fault) {
        let rule = Rule {
            method: method.into(),
            path: path.into(),
            fault,
        };
        locked(&self.shared.rules).push(rule);
    }

    /// The server works again.
    pub fn heal(&self) {
        locked(&self.shared.rules).clear();
        self.shared.dead.store(false, Ordering::SeqCst);
    }

    /// The request lines so far, oldest first.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests)
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// When the first request came whose line has this text.
    pub fn time_of(&self, text: &str) -> Option<Instant> {
        let requests = locked(&self.shared.requests);
        requests
            .iter()
            .find(|(_, line)| line.contains(text))
            .map(|(time, _)| *time)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees that it is over; if it is gone already, that is as well.
        let _ = TcpStream::connect(self.address);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.dead.load(Ordering::SeqCst) {
            continue;
        }
        let shared = Arc::clone(shared);
        // A broken connection is what this is for: the client tells what it made of it.
        thread::spawn(move || relay(client, &shared));
    }
}

/// Deals with the one request of a connection.
fn relay(mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let (head, body_start) = read_head(&mut client)?;
    let request_line = head.lines().next().unwrap_or_default().to_owned();
    locked(&shared.requests).push((Instant::now(), request_line.clone()));
    let fault = fault_for(&locked(&shared.rules), &request_line);
    if let Some(Fault::Answer(status)) = fault {
        return refuse(&mut client, status);
    }
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
fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
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

fn fault_for(rules: &[Rule], request_line: &str) -> Option<Fault> {
    let mut words = request_line.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    rules
        .iter()
        .find(|rule| rule.method == method && path.contains(&rule.path))
        .map(|rule| rule.fault)
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

fn refuse(client: &mut TcpStream, status: u16) -> io::Result<()> {
    let reason = match status {
        403 => "Forbidden",
        405 => "Method Not Allowed",
        507 => "Insufficient Storage",
        _ => "Broken On Purpose",
    };
    write!(
        client,
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )?;
    client.shutdown(Shutdown::Write)?;
    // Closing with unread bytes would reset the connection and take the answer with it.
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut rest = [0; 4096];
    while matches!(client.read(&mut rest), Ok(1..)) {}
    Ok(())
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
            Some(Fault::AnswerAfter(limit, status)) if self.sent > limit => {
                // The answer first: when the server's side ends, so does the way back to the client.
                let refused = refuse(&mut self.client, status);
                self.upstream.shutdown(Shutdown::Both)?;
                return refused.map(|()| false);
            }
            Some(Fault::CutUpload(limit) | Fault::DieDuringUpload(limit)) if self.sent > limit => {
                if matches!(self.fault, Some(Fault::DieDuringUpload(_))) {
                    self.shared.dead.store(true, Ordering::SeqCst);
                }
                self.upstream.shutdown(Shutdown::Both)?;
                self.client.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Some(Fault::StallUpload(limit)) if self.sent > limit => {
                while !self.shared.closed.load(Ordering::SeqCst)
                    && !locked(&self.shared.rules).is_empty()
                {
                    thread::sleep(Duration::from_millis(50));
                }
                self.upstream.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            _ => self.upstream.write_all(bytes)?,
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
        Some(Fault::CutDownload(limit) | Fault::DieDuringDownload(limit)) => limit,
        _ => u64::MAX,
    };
    let mut received: u64 = 0;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = upstream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        received = received.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if received > limit {
            if matches!(fault, Some(Fault::DieDuringDownload(_))) {
                shared.dead.store(true, Ordering::SeqCst);
            }
            upstream.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A server that reads one request and answers it with `answer`; returns what it read.
    fn server(answer: &'static [u8]) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let handle = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, _) = read_head(&mut stream).unwrap();
            stream.write_all(answer).unwrap();
            head
        });
        (port, handle)
    }

    /// What is answered before the connection ends, with a FIN or, as a server that died may, with a reset.
    fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut answer = Vec::new();
        let result = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_end(&mut answer));
        if let Err(error) = result {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error}"
            );
        }
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn a_request_passes_with_its_connection_closed() {
        let (port, server) = server(b"HTTP/1.1 200 OK\r\n\r\nhi");
        let proxy = Proxy::start(port).unwrap();
        let answer = ask(
            proxy.port(),
            "GET /a HTTP/1.1\r\nConnection: keep-alive\r\nHost: b\r\n\r\n",
        );
        assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nhi");
        assert_eq!(
            server.join().unwrap(),
            "GET /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(proxy.requests(), ["GET /a HTTP/1.1"]);
    }

    #[test]
    fn a_broken_request_is_answered_without_the_server() {
        let proxy = Proxy::start(1).unwrap();
        proxy.break_requests("DELETE", "/hosts/", Fault::Answer(405));
        let answer = ask(proxy.port(), "DELETE /hosts/x HTTP/1.1\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn an_upload_is_refused_in_the_middle_and_the_client_hears_of_it() {
        // A server that is still listening: one that ends its side ends the way back to the client.
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Proxy::start(silent.local_addr().unwrap().port()).unwrap();
        proxy.break_requests("PUT", "", Fault::AnswerAfter(10, 507));
        let request = format!("PUT / HTTP/1.1\r\n\r\n{}", "x".repeat(100));
        let answer = ask(proxy.port(), &request);
        assert!(
            answer.starts_with("HTTP/1.1 507 Insufficient Storage\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn a_server_that_died_during_a_download_stays_dead() {
        let (port, _server) = server(&[b'x'; 5000]);
        let proxy = Proxy::start(port).unwrap();
        proxy.break_requests("GET", "", Fault::DieDuringDownload(100));
        assert_eq!(ask(proxy.port(), "GET / HTTP/1.1\r\n\r\n"), "");
        assert_eq!(ask(proxy.port(), "GET / HTTP/1.1\r\n\r\n"), "");
        assert_eq!(proxy.requests().len(), 1);
    }
}
