//! A store, a server that has keys for it, and a machine that has none.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use crate::common::{Answer, Server, pitstop};
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
use pitstop_imaging::render::sentence;
use pitstop_payload::run::{Options, run};
use pitstop_protocol::fake::lease;
use pitstop_testing::moto::{Moto, exchange};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const HOST_FILE: &str = "hosts/0A00020F.toml";

const KEYS: &str =
    "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cretkey\n";

/// A server that signs.
pub struct Signing {
    pub server: Server,
    /// Where machines reach the store: a proxy may be in between.
    pub store: u16,
    _folder: tempfile::TempDir,
}

/// A file with keys in `folder`, as `--store-keys` wants it.
pub fn keys(folder: &Path) -> PathBuf {
    let file = folder.join("store.keys");
    fs::write(&file, KEYS).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A server before the store on this port, with a root of its own.
pub fn before(store: u16, folder: &Path) -> Server {
    let file = keys(folder);
    let root = folder.join("root");
    fs::create_dir(&root).unwrap();
    let url = format!("s3://lab/room?endpoint=http://127.0.0.1:{store}&region=us-east-1");
    let arguments = ["--share", &url, "--store-keys", file.to_str().unwrap()];
    let server = Server::start_in(&root, &arguments);
    as_loopback(&server);
    server
}

/// The server takes itself for what QEMU's machines reach: here they are on the loopback.
pub fn as_loopback(server: &Server) {
    let file = server.path("server.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("10.0.2.2"), "{text}");
    fs::write(&file, text.replace("10.0.2.2", "127.0.0.1")).unwrap();
}

impl Signing {
    pub fn start(moto: &Moto, arguments: &[&str]) -> Self {
        Self::before(moto.port, arguments)
    }

    /// For a store on this port.
    pub fn before(store: u16, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = keys(folder.path());
        let keys = ["--store-keys", file.to_str().unwrap()];
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let server = Server::start_in(&root, &[&keys[..], arguments].concat());
        as_loopback(&server);
        Self {
            server,
            store,
            _folder: folder,
        }
    }

    pub fn without_keys(moto: &Moto) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_in(folder.path(), &[]);
        as_loopback(&server);
        Self {
            server,
            store: moto.port,
            _folder: folder,
        }
    }

    pub fn share(&self, prefix: &str) -> String {
        let port = self.store;
        format!(
            "s3://lab/{prefix}?endpoint=http://127.0.0.1:{port}&region=us-east-1&path-style=true"
        )
    }

    /// Sets a job of the machine.
    pub fn set(&self, words: &[&str]) {
        self.set_on("room", words);
    }

    pub fn set_on(&self, prefix: &str, words: &[&str]) {
        let output = pitstop()
            .args(["host", "set", "10.0.2.15"])
            .args(words)
            .args([
                "--share",
                &self.share(prefix),
                "--retry-for",
                "60s",
                "--root",
            ])
            .arg(self.server.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The same by hand.
    pub fn write(&self, text: &str) {
        fs::write(self.server.path(HOST_FILE), text).unwrap();
    }

    pub fn has_job(&self) -> bool {
        self.server.path(HOST_FILE).exists()
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        let mut stream = self.server.connect();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Answer::read(stream)
    }
}

#[derive(Default)]
struct Console(Mutex<String>);

impl Reporter for Console {
    fn event(&self, event: &Event) {
        if let Some((level, text)) = sentence(event) {
            let line = format!("{}: {text}\n", level.word());
            self.0.lock().unwrap().push_str(&line);
        }
    }
}

/// A machine on plain files.
pub struct Machine {
    fake: FakeMachine,
    mounts: tempfile::TempDir,
}

pub struct Ended {
    pub line: String,
    pub console: String,
}

impl Machine {
    pub fn new() -> Self {
        let fake = FakeMachine::new();
        fake.write_proc("cpuinfo", "model name: Test\n");
        fake.write_proc("meminfo", "MemTotal: 1 kB\n");
        Self {
            fake,
            mounts: tempfile::tempdir().unwrap(),
        }
    }

    pub fn disk(&self, content: &[u8]) -> PathBuf {
        let disk = FakeDisk::new("sda", content.len() as u64)
            .model("QEMU HARDDISK")
            .serial("QM00001");
        self.fake.add_with(&disk, content)
    }

    /// Boots, and does what its server has for it.
    pub fn run(&self, at: &Signing) -> Ended {
        self.run_at(&at.server)
    }

    pub fn run_at(&self, server: &Server) -> Ended {
        self.run_from(server.http)
    }

    /// The same, of a server that may go away meanwhile.
    pub fn run_from(&self, server: SocketAddr) -> Ended {
        self.run_by(&format!("http://{server}/hosts/"))
    }

    /// The same, with host files at this URL.
    pub fn run_by(&self, hosts: &str) -> Ended {
        let mut machine = self.fake.machine();
        machine.command_line = format!("quiet pitstop.host={hosts}");
        let console = Arc::new(Console::default());
        let options = Options {
            disk_patience: Duration::from_millis(30),
            mounts: self.mounts.path().to_owned(),
            ..Options::default()
        };
        let finish = run(&machine, &lease(), console.clone(), &options);
        let console = console.0.lock().unwrap().clone();
        Ended {
            line: finish.result_line,
            console,
        }
    }

    pub fn succeeds(&self, at: &Signing, action: &str) -> Ended {
        self.succeeds_at(&at.server, action)
    }

    pub fn succeeds_at(&self, server: &Server, action: &str) -> Ended {
        let ended = self.run_at(server);
        let ok = format!("pitstop: result ok {action}");
        assert_eq!(ended.line, ok, "{}", ended.console);
        ended
    }
}

/// Bytes that do not compress away.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The keys of all objects.
pub fn objects(moto: &Moto) -> Vec<String> {
    let request = b"GET /lab?list-type=2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let listed = String::from_utf8(exchange(moto.port, request)).unwrap();
    let keys = listed.split("<Key>").skip(1);
    keys.map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect()
}

/// An object as text.
pub fn text(moto: &Moto, key: &str) -> String {
    let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let request = format!("GET /lab/{key}?X-Amz-Signature=none {head}");
    String::from_utf8_lossy(&exchange(moto.port, request.as_bytes())).into_owned()
}
