//! S3 servers that keep objects in memory: moto.

use crate::daemon::{Daemon, PATIENCE};
use crate::ports::free_port;
use std::io::{PipeWriter, Read as _, Write as _, pipe};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Python needs most of a second to read all of moto: it is read once for each program of tests, and copies of that process are
/// the servers. They end when they are told to, and with it at the latest.
const COPIES: &str = r#"
import ctypes, os, signal, sys
from moto.moto_server.werkzeug_app import create_backend_app
from moto.server import main
create_backend_app("s3")
servers = {}
for line in sys.stdin:
    what, port = line.split()
    if what == "end":
        server = servers.pop(port)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        continue
    server = os.fork()
    if server == 0:
        try:
            PR_SET_PDEATHSIG = 1
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            sys.stdin.close()
            main(["-H", "127.0.0.1", "-p", port])
        finally:
            os._exit(1)
    servers[port] = server
"#;

/// The process that is copied, and where it is told of what.
struct Original {
    process: Daemon,
    orders: PipeWriter,
}

impl Original {
    fn new() -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/moto/bin/python3");
        assert!(program.exists(), "moto is missing: run .ci/setup test");
        let (told, orders) = pipe().unwrap();
        let process = Daemon::fed(Command::new(program).args(["-c", COPIES]), told);
        Self { process, orders }
    }

    fn order(&mut self, what: &str, port: u16) -> std::io::Result<()> {
        // One write: a line of its own, whoever else orders something.
        self.orders.write_all(format!("{what} {port}\n").as_bytes())
    }
}

fn original() -> MutexGuard<'static, Option<Original>> {
    static ORIGINAL: Mutex<Option<Original>> = Mutex::new(None);
    ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server with a bucket `lab`.
pub struct Moto {
    pub port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let port = free_port();
        {
            let mut original = original();
            let original = original.get_or_insert_with(Original::new);
            original.order("begin", port).unwrap();
            original
                .process
                .wait_until("moto", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        let moto = Self { port };
        let answer = exchange(
            port,
            b"PUT /lab HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
        assert!(answer.starts_with(b"HTTP/1.1 200"), "no bucket");
        moto
    }

    /// Puts an object into the bucket.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        put(self.port, key, bytes);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        if let Some(original) = original().as_mut() {
            // It fails only when the original has ended, and this one with it.
            let _ = original.order("end", self.port);
        }
    }
}

/// Puts an object into the bucket of the store at `port`.
pub fn put(port: u16, key: &str, bytes: &[u8]) {
    // moto lets only who seems to have signed replace something.
    let mut request = format!(
        "PUT /lab/{key}?X-Amz-Signature=none HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len()
    )
    .into_bytes();
    request.extend_from_slice(bytes);
    let answer = exchange(port, &request);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{key} is not there");
}

/// Sends a request and reads the answer to its end.
pub fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // A server that hangs is a test that fails, not one that never ends.
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[cfg(test)]
mod tests {
    use super::{Moto, exchange};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    fn get(port: u16) -> Vec<u8> {
        exchange(
            port,
            b"GET /lab/one?X-Amz-Signature=none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
    }

    #[test]
    fn each_has_objects_of_its_own_and_ends_with_its_value() {
        let [first, second] = [Moto::start(), Moto::start()];
        first.put("one", b"of the first");
        assert!(get(first.port).ends_with(b"of the first"));
        assert!(get(second.port).starts_with(b"HTTP/1.1 404"));
        let port = first.port;
        drop(first);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(60), "it goes on");
        }
        second.put("one", b"of the second");
        assert!(get(second.port).ends_with(b"of the second"));
    }
}
