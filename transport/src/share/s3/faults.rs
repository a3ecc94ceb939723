//! A proxy before a store that breaks what the test orders.
#![allow(dead_code, reason = "each test program breaks what it is about")]

use pitstop_testing::moto::{exchange, put};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503 `SlowDown`.
    SlowDown,
    /// 412: the condition does not hold.
    Unmet,
    /// 501: of a store that knows no conditions.
    Unknown,
    /// The connection ends before the store hears of it.
    Cut,
    /// The store does it, and its answer is lost.
    AnswerLost,
    /// The store does it, and 500 is answered.
    DoneInTrouble,
    /// The answer has another tag.
    WrongTag,
    /// 200, and behind it that the store gave up.
    LateError,
    /// Before the store hears of it somebody else puts another object under this key.
    Replaces(&'static str),
    /// 403 `RequestTimeTooSkewed`: the clock of who signed is wrong.
    Skewed,
}

/// Faults for requests whose first line has the text, the first of the list first.
pub type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

/// A proxy before `port`, and the port it listens on.
pub fn proxy(port: u16, faults: &Faults) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let faults = Arc::clone(faults);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let faults = Arc::clone(&faults);
            thread::spawn(move || relay(stream.unwrap(), port, &faults));
        }
    });
    own
}

fn relay(mut client: TcpStream, port: u16, faults: &Faults) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let first = head.lines().next().unwrap().to_owned();
    let fault = {
        let mut faults = faults.lock().unwrap();
        let at = faults.iter().position(|(text, _)| first.contains(text));
        at.and_then(|at| faults.remove(at)).map(|(_, fault)| fault)
    };
    match fault {
        Some(Fault::Cut) => return client.shutdown(Shutdown::Both).unwrap(),
        Some(Fault::LateError) => {
            let words = "<Code>InternalError</Code><Message>Please try again.</Message>";
            return refuse(&mut client, "200 OK", words);
        }
        Some(Fault::Replaces(key)) => put(port, key, b"another writer's"),
        Some(Fault::SlowDown) => {
            let words = "<Code>SlowDown</Code><Message>Please reduce your request rate.</Message>";
            return refuse(&mut client, "503 Slow", words);
        }
        Some(Fault::Unmet) => {
            let words = "<Code>PreconditionFailed</Code><Message>Not so.</Message>";
            return refuse(&mut client, "412 Precondition Failed", words);
        }
        Some(Fault::Unknown) => {
            let words = "<Code>NotImplemented</Code><Message>A header is not known.</Message>";
            return refuse(&mut client, "501 Not Implemented", words);
        }
        Some(Fault::Skewed) => {
            let words =
                "<Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message>";
            return refuse(&mut client, "403 Forbidden", words);
        }
        _ => {}
    }
    let mut request = head.into_bytes();
    request.extend_from_slice(b"connection: close\r\n\r\n");
    request.extend_from_slice(&body);
    let answer = exchange(port, &request);
    let _ = match fault {
        Some(Fault::AnswerLost) => client.shutdown(Shutdown::Both),
        Some(Fault::DoneInTrouble) => {
            let words = "<Code>InternalError</Code><Message>Please try again.</Message>";
            return refuse(&mut client, "500 Internal Server Error", words);
        }
        Some(Fault::WrongTag) => client.write_all(&with_another_tag(&answer)),
        _ => client.write_all(&answer),
    };
}

fn with_another_tag(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let at = text.to_ascii_lowercase().find("etag: \"").expect("a tag") + 7;
    let other = if text[at..].starts_with('0') {
        "1"
    } else {
        "0"
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
}

fn refuse(client: &mut TcpStream, status: &str, words: &str) {
    let body = format!("<Error>{words}</Error>");
    let head = format!(
        "HTTP/1.1 {status}\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
}
