//! A server that answers check-ins from a script, for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers its clients line by line of the script; the last line goes on for ever.
pub struct Script {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Each line is a status and a body.
    pub fn start(lines: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let script: Vec<(u16, String)> = lines.iter().map(|(s, b)| (*s, (*b).to_owned())).collect();
        let notes = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.unwrap(), &script, &notes);
            }
        });
        Self { address, heard }
    }

    pub fn url(&self) -> url::Url {
        format!("http://{}/check-in/20261128-213000-ab1234", self.address)
            .parse()
            .unwrap()
    }

    /// The bodies that came.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many messages had this state.
    pub fn count(&self, state: &str) -> usize {
        let wanted = format!("\"state\":\"{state}\"");
        self.heard()
            .iter()
            .filter(|body| body.contains(&wanted))
            .count()
    }
}

fn answer(stream: &TcpStream, script: &[(u16, String)], notes: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut notes = notes.lock().unwrap();
    let (status, text) = &script[notes.len().min(script.len() - 1)];
    notes.push(String::from_utf8(body).unwrap());
    drop(notes);
    // A client that has gone away is its own business.
    let _ = write!(
        &mut &*stream,
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
}
