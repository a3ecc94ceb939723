//! A small HTTP server in memory that can be told to misbehave. For tests only.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use url::Url;

use super::{HttpClient, Roots, Settings};

/// What goes wrong, for the next requests of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// This status, after the body was read.
    Status(u16),
    /// 503, and that it may be asked again soon.
    Busy,
    /// The answer's body ends after so many bytes, and so does the connection.
    Cut(usize),
    /// The answer stops coming after so many bytes of its body, the connection stays.
    Stall(usize),
    /// An upload is answered and hung up on after so many bytes.
    Early(usize, u16),
    /// An upload is hung up on after so many bytes, without an answer.
    HangUp(usize),
    /// An upload is not read beyond so many bytes, the connection stays.
    Deaf(usize),
    /// The answer says that it was done, and it was not.
    Lie,
    /// What is asked is done, but the answer is lost with the connection.
    Mute,
    /// A MOVE is done, and the answer is this status, as of a proxy that has lost the server's.
    Moved(u16),
    /// Somebody else takes away what was to be moved, and the connection ends.
    Robbed,
    /// It is done after so long, and answered then.
    Late(Duration),
    /// The whole file is sent although a part was asked for.
    NoRange,
    /// So many bytes at most of the part that was asked for, and the answer says so.
    Less(usize),
    /// The same path on another port of this machine.
    Redirect(u16),
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What takes the place of files once they were sent.
    later: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<Vec<(String, Fault)>>,
    log: Mutex<Vec<String>>,
    /// Methods that the server does not have.
    missing: Mutex<Vec<String>>,
    no_tags: AtomicBool,
    /// Appends as the embedded server does.
    appends: AtomicBool,
    /// Has folders, and makes none that is not asked for.
    nested: AtomicBool,
    /// Every request is hung up on.
    down: AtomicBool,
    /// The headers of all requests.
    headers: Mutex<Vec<(String, String)>>,
    stop: AtomicBool,
}

pub struct FakeServer {
    address: SocketAddr,
    state: Arc<State>,
}

struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

impl FakeServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream.unwrap()));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut files = self.state.files.lock().unwrap();
        files.insert(path.to_owned(), bytes.to_owned());
    }

    /// As soon as what is at `path` was sent, this takes its place.
    pub fn replaced_by(&self, path: &str, bytes: &[u8]) {
        let mut later = self.state.later.lock().unwrap();
        later.insert(path.to_owned(), bytes.to_owned());
    }

    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.state.files.lock().unwrap().get(path).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.state.files.lock().unwrap().keys().cloned().collect()
    }

    /// The next request of `method` goes wrong; those after it by what is added later. A path may follow
    /// the method: `PUT /share/file`.
    pub fn fail(&self, method: &str, fault: Fault) {
        let mut faults = self.state.faults.lock().unwrap();
        faults.push((method.to_owned(), fault));
    }

    /// Nothing more goes wrong.
    pub fn behave(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    pub fn lack(&self, method: &str) {
        self.state.missing.lock().unwrap().push(method.to_owned());
    }

    pub fn without_tags(&self) {
        self.state.no_tags.store(true, Ordering::SeqCst);
    }

    pub fn appending(&self) {
        self.state.appends.store(true, Ordering::SeqCst);
    }

    /// Has folders, each with a `/` behind its name, and makes none by itself.
    pub fn with_folders(&self) {
        self.state.nested.store(true, Ordering::SeqCst);
    }

    /// Hangs up on every request, as a server does that restarts, or no longer.
    pub fn down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Every value so far of a header, by its name in lower case.
    pub fn seen(&self, name: &str) -> Vec<String> {
        let headers = self.state.headers.lock().unwrap();
        let found = headers.iter().filter(|(header, _)| header == name);
        found.map(|(_, value)| value.clone()).collect()
    }

    /// `METHOD /path` of each request so far.
    pub fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// A client for whatever ends well: it waits for as long as a computer may let it that has much else to do.
pub fn patient() -> HttpClient {
    client(LONG, LONG)
}

/// A client that soon takes silence for a failure, and then tries again for long. On a busy computer that may be once more than
/// the server made it.
pub fn wary() -> HttpClient {
    client(SOON, LONG)
}

/// A client for what never ends well: it gives up quickly.
pub fn impatient() -> HttpClient {
    client(SOON, Duration::from_millis(400))
}

const LONG: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_millis(1500);

fn client(stall: Duration, retry_for: Duration) -> HttpClient {
    HttpClient::new(Settings {
        connect: LONG,
        stall,
        settle: LONG,
        first_wait: Duration::from_millis(5),
        retry_for,
        roots: Roots::Folder("/nonexistent".into()),
        ..Settings::default()
    })
    .unwrap()
}

fn serve(state: &State, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(asked) = head(&mut reader) {
        let line = format!("{} {}", asked.method, asked.path);
        state.log.lock().unwrap().push(line.clone());
        state.headers.lock().unwrap().extend(asked.headers.clone());
        if state.down.load(Ordering::SeqCst) {
            return;
        }
        let fault = {
            let mut faults = state.faults.lock().unwrap();
            let at = faults
                .iter()
                .position(|(which, _)| *which == asked.method || *which == line);
            at.map(|at| faults.remove(at).1)
        };
        let Some(body) = body(&mut reader, &asked, fault, &mut writer, state) else {
            return;
        };
        if fault == Some(Fault::Mute) {
            let _ = writer.shutdown(Shutdown::Both);
        }
        if let Some(Fault::Late(wait)) = fault {
            thread::sleep(wait);
        }
        if !answer(state, &asked, body, fault, &mut writer) {
            return;
        }
    }
}

fn head(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Asked {
        method,
        path,
        headers,
    })
}

/// The request's body; `None` when the connection ends with it.
fn body(
    reader: &mut impl BufRead,
    asked: &Asked,
    fault: Option<Fault>,
    writer: &mut TcpStream,
    state: &State,
) -> Option<Vec<u8>> {
    let chunked = asked.headers.contains_key("transfer-encoding");
    let mut body = Vec::new();
    let mut left: usize = match asked.headers.get("content-length") {
        Some(length) => length.parse().unwrap(),
        None => 0,
    };
    loop {
        match fault {
            Some(Fault::Early(after, status)) if body.len() >= after => {
                write!(
                    writer,
                    "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                .ok()?;
                // Reads on, as servers do lest the answer be lost.
                let _ = writer.set_read_timeout(Some(LONG));
                let _ = std::io::copy(reader, &mut std::io::sink());
                return None;
            }
            Some(Fault::HangUp(after)) if body.len() >= after => return None,
            Some(Fault::Deaf(after)) if body.len() >= after => {
                while !state.stop.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(20));
                }
                return None;
            }
            _ => {}
        }
        if left == 0 && chunked {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            left = usize::from_str_radix(size.trim(), 16).ok()?;
            if left == 0 {
                reader.read_line(&mut size).ok()?;
                return Some(body);
            }
        } else if left == 0 {
            return Some(body);
        }
        let mut piece = vec![0; left.min(16 << 10)];
        reader.read_exact(&mut piece).ok()?;
        left -= piece.len();
        body.extend(piece);
        if left == 0 && chunked {
            reader.read_line(&mut String::new()).ok()?;
        }
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(bytes).to_hex()[..12])
}

/// What is posted to a path is collected there.
fn collect(files: &mut BTreeMap<String, Vec<u8>>, path: &str, body: &[u8]) -> u16 {
    files.entry(path.to_owned()).or_default().extend(body);
    204
}

/// Gives a file the name that was asked for.
fn moved(files: &mut BTreeMap<String, Vec<u8>>, asked: &Asked, fault: Option<Fault>) -> u16 {
    let base = Url::parse("http://fake").unwrap();
    let to = base.join(&asked.headers["destination"]).unwrap();
    if asked.headers["overwrite"] == "F" && files.contains_key(to.path()) {
        return 412;
    }
    let Some(bytes) = files.remove(&asked.path) else {
        return 404;
    };
    files.insert(to.path().to_owned(), bytes);
    match fault {
        Some(Fault::Moved(told)) => told,
        _ => 201,
    }
}

/// Answers; `false` when the connection ends.
fn answer(
    state: &State,
    asked: &Asked,
    body: Vec<u8>,
    fault: Option<Fault>,
    writer: &mut TcpStream,
) -> bool {
    let mut files = state.files.lock().unwrap();
    let held = files.get(&asked.path).cloned();
    let tags = !state.no_tags.load(Ordering::SeqCst);
    let failed = held.as_deref().map_or_else(
        || asked.headers.contains_key("if-match"),
        |held| {
            let wanted = asked.headers.get("if-match");
            wanted.is_some_and(|wanted| *wanted != tag(held))
                || asked.headers.contains_key("if-none-match")
        },
    );
    let mkcol = asked.method == "MKCOL" && state.nested.load(Ordering::SeqCst);
    let (folder, above) = (
        asked.path.trim_end_matches('/'),
        asked.path.trim_end_matches('/').rsplit_once('/'),
    );
    let lacks_parent = above
        .is_some_and(|(above, _)| !above.is_empty() && !files.contains_key(&format!("{above}/")));
    let status = |writer: &mut TcpStream, status: u16| {
        write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").is_ok()
    };
    if fault == Some(Fault::Lie) {
        return status(writer, 201);
    }
    if let Some(Fault::Status(code)) = fault {
        return status(writer, code);
    }
    if fault == Some(Fault::Busy) {
        let busy = "HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        return writer.write_all(busy.as_bytes()).is_ok();
    }
    if let Some(Fault::Redirect(port)) = fault {
        return write!(
            writer,
            "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:{port}{}\r\nContent-Length: 0\r\n\r\n",
            asked.path
        )
        .is_ok();
    }
    if state.missing.lock().unwrap().contains(&asked.method) {
        return status(writer, 405);
    }
    if tags && failed {
        return status(writer, 412);
    }
    if state.nested.load(Ordering::SeqCst)
        && lacks_parent
        && matches!(asked.method.as_str(), "PUT" | "MKCOL")
    {
        return status(writer, 409);
    }
    match asked.method.as_str() {
        "MKCOL" if mkcol => {
            let was_there = files.insert(format!("{folder}/"), Vec::new()).is_some();
            status(writer, if was_there { 405 } else { 201 })
        }
        "OPTIONS" if state.appends.load(Ordering::SeqCst) => write!(
            writer,
            "HTTP/1.1 204 X\r\nPitstop-Append: 4194304\r\nContent-Length: 0\r\n\r\n"
        )
        .is_ok(),
        "PUT" if asked.headers.contains_key("content-range") => {
            let file = files.entry(asked.path.clone()).or_default();
            file.truncate(first_byte(&asked.headers["content-range"]).0);
            file.extend(body);
            let tag = tag(file);
            write!(
                writer,
                "HTTP/1.1 204 X\r\nETag: {tag}\r\nContent-Length: 0\r\n\r\n"
            )
            .is_ok()
        }
        "PUT" => {
            files.insert(asked.path.clone(), body);
            status(writer, 201)
        }
        "POST" => status(writer, collect(&mut files, &asked.path, &body)),
        "DELETE" => {
            let found = files.remove(&asked.path).is_some();
            status(writer, if found { 204 } else { 404 })
        }
        "MOVE" if fault == Some(Fault::Robbed) => {
            files.remove(&asked.path);
            false
        }
        "MOVE" => status(writer, moved(&mut files, asked, fault)),
        "GET" | "HEAD" => match held {
            None => status(writer, 404),
            Some(held) => {
                if asked.method == "GET"
                    && let Some(later) = state.later.lock().unwrap().remove(&asked.path)
                {
                    files.insert(asked.path.clone(), later);
                }
                drop(files);
                send_file(state, asked, &held, fault, writer)
            }
        },
        _ => status(writer, 405),
    }
}

/// First byte and the byte behind the last of `bytes 0-99/*` or `bytes=0-99`.
fn first_byte(range: &str) -> (usize, usize) {
    let bounds = range[6..].trim_end_matches("/*").split_once('-').unwrap();
    let (first, last): (usize, usize) = (bounds.0.parse().unwrap(), bounds.1.parse().unwrap());
    (first, last + 1)
}

fn send_file(
    state: &State,
    asked: &Asked,
    held: &[u8],
    fault: Option<Fault>,
    writer: &mut TcpStream,
) -> bool {
    let range = asked
        .headers
        .get("range")
        .filter(|_| fault != Some(Fault::NoRange));
    let (line, bytes) = match range {
        None => ("200 OK".to_owned(), held),
        Some(range) => {
            let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let last = match fault {
                Some(Fault::Less(most)) => last.min(first + most - 1),
                _ => last.min(held.len() - 1),
            };
            let line = format!(
                "206 Partial\r\nContent-Range: bytes {first}-{last}/{}",
                held.len()
            );
            (line, &held[first..=last])
        }
    };
    let tags = !state.no_tags.load(Ordering::SeqCst);
    let tag = if tags {
        format!("ETag: {}\r\n", tag(held))
    } else {
        String::new()
    };
    let digest = asked.headers.get("pitstop-digest").map(|range| {
        let (first, end) = first_byte(range);
        let hash = blake3::hash(&held[first..end]).to_hex();
        format!("Pitstop-Digest: {hash}\r\n")
    });
    let tag = tag + &digest.unwrap_or_default();
    let length = bytes.len();
    if write!(
        writer,
        "HTTP/1.1 {line}\r\n{tag}Content-Length: {length}\r\n\r\n"
    )
    .is_err()
    {
        return false;
    }
    if asked.method == "HEAD" {
        return true;
    }
    match fault {
        Some(Fault::Cut(after)) => {
            let _ = writer.write_all(&bytes[..after]);
            false
        }
        Some(Fault::Stall(after)) => {
            let _ = writer.write_all(&bytes[..after]);
            while !state.stop.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            false
        }
        _ => writer.write_all(bytes).is_ok(),
    }
}
