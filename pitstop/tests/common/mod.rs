//! The real program, as a child process, and a client that can misbehave.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use pitstop_testing::running::Running;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that takes no time, on a computer that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub fn pitstop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
    for name in [
        "PITSTOP_ROOT",
        "PITSTOP_SERVER",
        "PITSTOP_TOKEN",
        "PITSTOP_CA",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs `pitstop` with these arguments.
pub fn run(arguments: &[&str]) -> Output {
    pitstop().args(arguments).output().unwrap()
}

/// `pitstop serve` on ports of its own.
pub struct Server {
    child: Running,
    root: PathBuf,
    pub http: SocketAddr,
    pub tftp: SocketAddr,
    /// With `--tls`.
    pub https: Option<SocketAddr>,
    folder: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(folder.path(), &[]);
        server.folder = Some(folder);
        server
    }

    pub fn start_in(root: &Path, arguments: &[&str]) -> Self {
        Self::start_at(root, "127.0.0.1", arguments)
    }

    pub fn start_at(root: &Path, ip: &str, arguments: &[&str]) -> Self {
        Self::start_by(pitstop(), root, ip, arguments)
    }

    /// A server that may have so many handles and no more.
    pub fn start_limited(root: &Path, handles: u32) -> Self {
        let mut command = Command::new("sh");
        command
            .env_remove("PITSTOP_ROOT")
            .args(["-c", &format!("ulimit -n {handles}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_pitstop"));
        Self::start_by(command, root, "127.0.0.1", &[])
    }

    /// A server that logs to this file.
    pub fn start_logging(root: &Path, log: File) -> Self {
        let mut command = pitstop();
        command.stderr(log);
        Self::start_by(command, root, "127.0.0.1", &[])
    }

    /// A server that trusts this certificate authority and no other.
    pub fn start_trusting(root: &Path, authority: &Path, arguments: &[&str]) -> Self {
        let mut command = pitstop();
        command.env("SSL_CERT_FILE", authority);
        Self::start_by(command, root, "127.0.0.1", arguments)
    }

    fn start_by(mut command: Command, root: &Path, ip: &str, arguments: &[&str]) -> Self {
        let child = command
            .args(["serve", "--quiet", "--root"])
            .arg(root)
            .args(["--listen", &format!("{ip}:0"), "--tftp", &format!("{ip}:0")])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running::new(child);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |before: &str| -> SocketAddr {
            let line = lines.next().unwrap().unwrap();
            let (_, address) = line.split_once(before).unwrap_or_else(|| panic!("{line}"));
            address.parse().unwrap()
        };
        let http = address(" on http://");
        let tftp = address("TFTP on ");
        let line = lines.next().unwrap().unwrap();
        let https = line.split_once(" on https://");
        let https = https.map(|(_, address)| address.parse().unwrap());
        Self {
            child,
            root: root.to_path_buf(),
            http,
            tftp,
            https,
            folder: None,
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for the end and tells its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not end");
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request, its headers as lines, on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length = match method {
            "PUT" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{length}{headers}\r\n",
            self.http
        )
        .unwrap();
        // A server that refuses may close while the body is still being sent.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    pub fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.request("PUT", path, "", body)
    }
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(
                    reader.read_line(&mut head).unwrap() > 0,
                    "no answer: {head:?}"
                );
            }
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            if status == 100 {
                continue;
            }
            let mut body = Vec::new();
            // A refusal may come with a reset behind it.
            let _ = reader.read_to_end(&mut body);
            return Self { status, head, body };
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Every file and folder below, hidden ones too.
pub fn everything_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until `done`.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a command said that did its work.
pub fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Why a command says that it could not.
pub fn fails(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}
