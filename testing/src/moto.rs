//! An S3 server that keeps objects in memory: moto.

use crate::daemon::{Daemon, PATIENCE};
use crate::ports::free_port;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// With a bucket `lab`.
pub struct Moto {
    _process: Daemon,
    pub port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/moto/bin/moto_server");
        assert!(program.exists(), "moto is missing: run .ci/setup test");
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let moto = Self {
            _process: Daemon::listening(&mut command, port),
            port,
        };
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
