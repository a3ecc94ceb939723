//! A server that fails: a TCP relay before the real server which, when told to, answers instead of it, cuts a
//! transfer in the middle or dies.

mod relay;

use anyhow::{Context, Result, ensure};
use relay::relay;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes after so many bytes of the request's body, and the server does not come back.
    DieDuringUpload(u64),
    /// The connection closes after so many bytes of the answer, its head included, and the server does not come back.
    DieDuringDownload(u64),
    /// Nothing more is read after so many bytes of the request's body, and nothing is said.
    StallUpload(u64),
    /// Nothing more comes after so many bytes of the answer, and the connection stays open.
    StallDownload(u64),
    /// One bit of the answer's byte at this offset, its head included, is another.
    FlipDownload(u64),
    /// So many bytes come at once, in either direction, and then none for so long.
    Bursts(u64, Duration),
}

/// Which requests a fault befalls.
#[derive(Debug, Clone)]
struct Rule {
    method: String,
    path: String,
    /// So many requests pass before one meets the fault.
    spare: usize,
    fault: Fault,
}

struct Shared {
    upstream: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    dead: AtomicBool,
    closed: AtomicBool,
    stalled: AtomicBool,
    requests: Mutex<Vec<(Instant, String)>>,
}

/// A relay on a port of its own. Stops when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

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
            stalled: AtomicBool::new(false),
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
        self.break_requests_after(0, method, path, fault);
    }

    /// The same once `spare` such requests have passed.
    pub fn break_requests_after(&self, spare: usize, method: &str, path: &str, fault: Fault) {
        let rule = Rule {
            method: method.into(),
            path: path.into(),
            spare,
            fault,
        };
        locked(&self.shared.rules).push(rule);
    }

    /// From now on such requests meet `fault` and no others do. What has stalled stays so.
    pub fn break_only(&self, method: &str, path: &str, fault: Fault) {
        *locked(&self.shared.rules) = vec![Rule {
            method: method.into(),
            path: path.into(),
            spare: 0,
            fault,
        }];
    }

    /// Waits until a transfer stalls as a fault said.
    pub fn wait_for_stall(&self, patience: Duration) -> Result<()> {
        self.wait_until(&self.shared.stalled, "no transfer stalled", patience)
    }

    /// Waits until the server dies as a fault said.
    pub fn wait_for_death(&self, patience: Duration) -> Result<()> {
        self.wait_until(&self.shared.dead, "the server did not die", patience)
    }

    fn wait_until(&self, state: &AtomicBool, missed: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !state.load(Ordering::SeqCst) {
            ensure!(
                Instant::now() < deadline,
                "{missed} within {patience:?}; the requests were {:?}",
                self.requests()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// No request meets a fault any more; a server that is dead stays so.
    pub fn forget_faults(&self) {
        locked(&self.shared.rules).clear();
        self.shared.stalled.store(false, Ordering::SeqCst);
    }

    /// A server that died takes requests again, and what still breaks them breaks them.
    pub fn revive(&self) {
        self.shared.dead.store(false, Ordering::SeqCst);
    }

    /// The server works again.
    pub fn heal(&self) {
        self.forget_faults();
        self.revive();
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

#[cfg(test)]
mod tests {
    use super::relay::read_head;
    use super::*;
    use std::io::{ErrorKind, Read, Write};

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
    fn a_server_that_died_during_a_download_stays_dead() {
        let (port, _server) = server(&[b'x'; 5000]);
        let proxy = Proxy::start(port).unwrap();
        proxy.break_requests("GET", "", Fault::DieDuringDownload(100));
        assert_eq!(ask(proxy.port(), "GET / HTTP/1.1\r\n\r\n"), "");
        assert_eq!(ask(proxy.port(), "GET / HTTP/1.1\r\n\r\n"), "");
        assert_eq!(proxy.requests().len(), 1);
    }
}
