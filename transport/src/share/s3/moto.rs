//! An S3 server that keeps objects in memory: moto, for the tests of this crate and of the command.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// With a bucket `lab`.
pub struct Moto {
    process: Child,
    pub port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/moto/bin/moto_server");
        assert!(program.exists(), "moto is missing: run .ci/setup test");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "moto does not start"
            );
            thread::sleep(Duration::from_millis(100));
        }
        let answer = exchange(
            port,
            b"PUT /lab HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
        assert!(answer.starts_with(b"HTTP/1.1 200"), "no bucket");
        moto
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request and reads the answer to its end.
pub fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
