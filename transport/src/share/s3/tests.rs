//! Against moto, an S3 server that keeps objects in memory, with a proxy before it that breaks what the test orders.

use super::moto::{Moto, exchange};
use super::sign::Signer;
use super::*;
use crate::fetch::Settings;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Larger than a part, so that it goes in two.
const LARGE: usize = 9 << 20;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// 503 `SlowDown`.
    SlowDown,
    /// The connection ends before the store hears of it.
    Cut,
    /// The store does it, and its answer is lost.
    AnswerLost,
    /// The answer has another tag.
    WrongTag,
}

/// Faults for requests whose first line has the text, the first of the list first.
type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

/// A proxy before `port`, and the port it listens on.
fn proxy(port: u16, faults: &Faults) -> u16 {
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
        Some(Fault::SlowDown) => {
            let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            let head = format!(
                "HTTP/1.1 503 Slow\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            return client
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
        _ => {}
    }
    let mut request = head.into_bytes();
    request.extend_from_slice(b"connection: close\r\n\r\n");
    request.extend_from_slice(&body);
    let answer = exchange(port, &request);
    let _ = match fault {
        Some(Fault::AnswerLost) => client.shutdown(Shutdown::Both),
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

fn share(port: u16) -> S3Share {
    let url = format!("s3://lab/room?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let url = S3Url::from_url(&Url::parse(&url).unwrap()).unwrap();
    let settings = Settings {
        first_wait: Duration::from_millis(10),
        ..Settings::default()
    };
    let signer = Signer::with_keys(&url, "AKID", "s3cret").unwrap();
    S3Share::new(&url, &HttpClient::new(settings).unwrap(), Arc::new(signer))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}

fn put(share: &S3Share, path: &str, data: &[u8]) -> anyhow::Result<()> {
    let mut pending = share.create(path)?;
    pending.write_all(data)?;
    pending.finish()
}

fn get(share: &S3Share, path: &str) -> Vec<u8> {
    let mut data = Vec::new();
    share.open(path).unwrap().read_to_end(&mut data).unwrap();
    data
}

#[test]
fn a_store_is_a_share() {
    let moto = Moto::start();
    let share = share(moto.port);
    assert_eq!(share.stat("a/sda.raw.gz").unwrap(), None);
    let (small, large) = (bytes(1000), bytes(LARGE));
    put(&share, "a/sda.raw.gz", &small).unwrap();
    assert_eq!(get(&share, "a/sda.raw.gz"), small);
    put(&share, "a/b c+d.gz", &large).unwrap();
    assert_eq!(
        share.stat("a/b c+d.gz").unwrap().unwrap().size,
        LARGE as u64
    );
    let image = share.image("a/b c+d.gz").unwrap();
    let mut part = [0; 100];
    image.read_exact_at(&mut part, 8_999_000).unwrap();
    assert_eq!(part, large[8_999_000..8_999_100]);
    share.rename("a/b c+d.gz", "a/b c+d.gz.old").unwrap();
    assert_eq!(share.stat("a/b c+d.gz").unwrap(), None);
    assert_eq!(get(&share, "a/b c+d.gz.old"), large);
    share.remove("a/b c+d.gz.old").unwrap();
    share.remove("a/b c+d.gz.old").unwrap();
    put(&share, "empty", b"").unwrap();
    assert_eq!(share.stat("empty").unwrap().unwrap().size, 0);
    let error = share.image("none").err().unwrap().to_string();
    assert!(
        error.contains("there is no such file") && !error.contains("Signature"),
        "{error}"
    );
}

#[test]
fn nothing_appears_of_what_was_not_finished() {
    let moto = Moto::start();
    let share = share(moto.port);
    let mut pending = share.create("sda.raw.gz").unwrap();
    pending.write_all(&bytes(LARGE + PART_AND_MORE)).unwrap();
    drop(pending);
    assert_eq!(share.stat("sda.raw.gz").unwrap(), None);
    let open = share
        .store
        .ask(&Ask::Uploads, "room/sda.raw.gz", &Bytes::new())
        .unwrap();
    assert_eq!(
        answer::newest_upload(open, "room/sda.raw.gz").unwrap(),
        None
    );
}

const PART_AND_MORE: usize = 9 << 20;

#[test]
fn an_upload_goes_on_where_a_run_that_died_stopped() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(2 * LARGE);
    let mut pending = share.create("sda.raw.gz").unwrap();
    pending.write_all(&data[..LARGE + PART_AND_MORE]).unwrap();
    // As when the machine loses its power: nobody takes the upload back.
    faults.lock().unwrap().push_back(("DELETE", Fault::Cut));
    drop(pending);
    // What the store has already would be broken if it were sent again.
    for _ in 0..20 {
        faults
            .lock()
            .unwrap()
            .push_back(("partNumber=1&", Fault::Cut));
    }
    put(&share, "sda.raw.gz", &data).unwrap();
    assert_eq!(faults.lock().unwrap().len(), 20, "part 1 was sent again");
    assert_eq!(get(&share, "sda.raw.gz"), data);
}

#[test]
fn whatever_breaks_on_the_way_the_object_is_whole() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(2 * LARGE);
    for fault in [Fault::SlowDown, Fault::Cut, Fault::AnswerLost] {
        for step in [
            "uploads",
            "partNumber=1&",
            "partNumber=2&",
            "partNumber=3&",
            "POST /lab/room/x?X-Amz",
            "HEAD",
        ] {
            faults.lock().unwrap().push_back((step, fault));
            put(&share, "x", &data).unwrap_or_else(|e| panic!("{fault:?} at {step}: {e:#}"));
            assert_eq!(get(&share, "x"), data, "{fault:?} at {step}");
            faults.lock().unwrap().clear();
            share.remove("x").unwrap();
        }
    }
    faults
        .lock()
        .unwrap()
        .push_back(("partNumber=2&", Fault::WrongTag));
    put(&share, "x", &data).unwrap();
    assert_eq!(get(&share, "x"), data);
    for _ in 0..5 {
        faults
            .lock()
            .unwrap()
            .push_back(("partNumber=2&", Fault::WrongTag));
    }
    share.remove("x").unwrap();
    let error = put(&share, "x", &data).unwrap_err().to_string();
    assert!(error.contains("part 2 of room/x: its tag is"), "{error}");
    assert_eq!(share.stat("x").unwrap(), None);
}

#[test]
fn each_run_has_its_own_object_of_a_log() {
    let moto = Moto::start();
    let (one, two) = (share(moto.port), share(moto.port));
    one.append("maintenance.log", "a\n").unwrap();
    two.append("maintenance.log", "b\n").unwrap();
    one.append("maintenance.log", "c\n").unwrap();
    let request =
        b"GET /lab?prefix=room/maintenance.log.d/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let listed = String::from_utf8(exchange(moto.port, request)).unwrap();
    let keys: Vec<&str> = listed
        .split("<Key>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap())
        .collect();
    let mut logs: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| get(&one, key.strip_prefix("room/").unwrap()))
        .collect();
    logs.sort();
    assert_eq!(logs, [b"a\nc\n".to_vec(), b"b\n".to_vec()]);
}
