//! Receivers that are real: a mail server of another project, and one for HTTP that can be told to misbehave.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use pitstop_notify::{Event, Notice, Notifier, Tell};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(180);

/// A notice of its own number.
pub fn notice(number: u32, event: Event) -> Notice {
    let now = jiff::Timestamp::now();
    let id = pitstop_protocol::id::Id::new(now, number);
    Notice {
        event,
        reason: format!("reason {number}"),
        ..Notice::test(id, "https://srv:8443".into())
    }
}

/// A root with a configuration, and what the journal was told.
pub struct Scene {
    pub root: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    pub fn new(config: &str) -> Self {
        let scene = Self {
            root: tempfile::tempdir().unwrap(),
            told: Arc::default(),
        };
        scene.write(config);
        scene
    }

    pub fn write(&self, config: &str) {
        // In one step, as editors do it.
        let beside = self.root.path().join("notify.new");
        fs::write(&beside, format!("version = 1\n{config}")).unwrap();
        fs::rename(beside, self.root.path().join("notify.toml")).unwrap();
    }

    pub fn start(&self) -> Notifier {
        let told = Arc::clone(&self.told);
        let tell: Tell = Arc::new(move |line| told.lock().unwrap().push(line));
        Notifier::start(self.root.path(), tell).unwrap()
    }

    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    pub fn wait_for(&self, what: &str) {
        let began = Instant::now();
        while !self.told().iter().any(|line| line.contains(what)) {
            assert!(
                began.elapsed() < PATIENCE,
                "no {what:?} in {:?}",
                self.told()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_until_none_waits(&self, receiver: &str) {
        let folder = self.root.path().join("notices").join(receiver);
        let began = Instant::now();
        while fs::read_dir(&folder).is_ok_and(|notices| notices.count() > 0) {
            assert!(began.elapsed() < PATIENCE, "notices are left");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A request that a webhook made.
#[derive(Debug)]
pub struct Post {
    pub head: String,
    pub body: String,
}

impl Post {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// An HTTP server that answers each request by the next of `answers`, the last one again and again. 0: none at all.
pub fn receiver(answers: &[u16]) -> (u16, Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (posts, received) = channel();
    let answers = answers.to_vec();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
            let length = head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                let is_length = key.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse().unwrap())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            let status = answers[at.min(answers.len() - 1)];
            if status == 0 {
                silent.push(stream);
                continue;
            }
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let body = String::from_utf8(body).unwrap();
            if posts.send(Post { head, body }).is_err() {
                return;
            }
        }
    });
    (port, received)
}

/// Debian's aiosmtpd, as a process.
pub struct MailServer {
    child: Child,
    pub port: u16,
    pub mails: Receiver<serde_json::Value>,
    folder: tempfile::TempDir,
}

impl MailServer {
    pub fn start(mode: &str, login: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(mode)
            .arg(folder.path().join("server.pem"))
            .arg(folder.path().join("server.key"))
            .args(login)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("python3-aiosmtpd is not installed");
        let port = first.unwrap().parse().unwrap();
        let (sender, mails) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mail = serde_json::from_str(&line).unwrap();
                if sender.send(mail).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            port,
            mails,
            folder,
        }
    }

    /// The authority that its certificate is of.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}
