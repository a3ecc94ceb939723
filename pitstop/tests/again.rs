//! A disk backed up again to the embedded server: what travels, what comes out, and what is in the way.

mod common;

use common::{Server, everything_in, pitstop};
use flate2::read::MultiGzDecoder;
use pitstop_protocol::pieces::{Composer, Member};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const MIB: usize = 1 << 20;
/// Of the disk: what is written, then zeros.
const DATA: usize = 60;
const DISK: usize = 80;

/// What happens to a request whose body is pieces, by its number from 1. Where the server is from then on may change.
type Hook = dyn Fn(usize, &Mutex<SocketAddr>) -> Then + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Pass,
    /// The server gets it, and the client no answer.
    LoseTheAnswer,
}

/// Between client and server: counts what goes up, and knows requests that are pieces when it sees them.
struct Between {
    address: SocketAddr,
    up: Arc<AtomicU64>,
    pieces: Arc<AtomicUsize>,
}

impl Between {
    fn new(
        server: SocketAddr,
        hook: impl Fn(usize, &Mutex<SocketAddr>) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Self {
            address: listener.local_addr().unwrap(),
            up: Arc::default(),
            pieces: Arc::default(),
        };
        let hook: Arc<Hook> = Arc::new(hook);
        let (up, pieces) = (Arc::clone(&between.up), Arc::clone(&between.pieces));
        let at = Arc::new(Mutex::new(server));
        // It goes on until the program ends, and so does what the hook holds.
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let (up, pieces, hook) = (Arc::clone(&up), Arc::clone(&pieces), Arc::clone(&hook));
                let at = Arc::clone(&at);
                thread::spawn(move || {
                    let to = *at.lock().unwrap();
                    if let Ok(server) = TcpStream::connect(to) {
                        carry(client, server, &up, &pieces, &|number| hook(number, &at));
                    }
                });
            }
        });
        between
    }

    fn image(&self) -> String {
        format!("http://{}/share/m/sda.raw.gz", self.address)
    }
}

fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    up: &AtomicU64,
    pieces: &AtomicUsize,
    hook: &dyn Fn(usize) -> Then,
) {
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let lost = Arc::new(AtomicUsize::new(0));
    let answers = Arc::clone(&lost);
    let down = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0
                || answers.load(Ordering::SeqCst) > 0
                || to.write_all(&buffer[..count]).is_err()
            {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        up.fetch_add(count as u64, Ordering::SeqCst);
        let head = String::from_utf8_lossy(&buffer[..count]).to_ascii_lowercase();
        if head.starts_with("put ") && head.contains("pitstop-pieces: ") {
            let number = pieces.fetch_add(1, Ordering::SeqCst) + 1;
            if hook(number) == Then::LoseTheAnswer {
                lost.store(1, Ordering::SeqCst);
            }
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
    let _ = down.join();
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A disk of which half compresses well.
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let disk = File::create(bench.disk()).unwrap();
        disk.set_len((DISK * MIB) as u64).unwrap();
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut chunk = vec![0; MIB];
        for at in 0..DATA {
            noise.fill(&mut chunk[..MIB / 2]);
            chunk[MIB / 2..].fill(u8::try_from(at).unwrap() | 1);
            disk.write_all_at(&chunk, (at * MIB) as u64).unwrap();
        }
        bench
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Writes a few bytes into some chunks.
    fn change(&self, chunks: &[usize]) {
        let disk = OpenOptions::new().write(true).open(self.disk()).unwrap();
        for chunk in chunks {
            disk.write_all_at(b"changed", (chunk * MIB + 4242) as u64)
                .unwrap();
        }
    }

    fn back_up(&self, image: &str) -> Output {
        let disk = self.disk();
        let mut command = pitstop();
        command.args([
            "backup",
            disk.to_str().unwrap(),
            image,
            "--exact",
            "--force",
            "--level",
            "fast",
        ]);
        command.output().unwrap()
    }

    /// The image is of the disk, by a gunzip that knows nothing of it, and by its own hashes.
    fn is_in(&self, image: &Path) {
        let mut bytes = Vec::new();
        let mut decoder = MultiGzDecoder::new(File::open(image).unwrap());
        decoder.read_to_end(&mut bytes).unwrap();
        assert!(bytes == fs::read(self.disk()).unwrap(), "the image differs");
        let verify = pitstop().arg("verify").arg(image).output().unwrap();
        assert!(verify.status.success(), "{verify:?}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn well(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn five_percent_changed_are_less_than_eight_percent_sent() {
    let bench = Bench::new();
    let server = Server::start();
    let between = Between::new(server.http, |_, _| Then::Pass);
    well(&bench.back_up(&between.image()));
    let full = between.up.swap(0, Ordering::SeqCst);
    let image = server.path("share/m/sda.raw.gz");
    bench.is_in(&image);

    bench.change(&[3, 29, 55]);
    let told = well(&bench.back_up(&between.image()));
    let sent = between.up.swap(0, Ordering::SeqCst);
    assert!(sent * 100 < full * 8, "{sent} of {full}");
    assert!(
        told.contains("the rest is as in the image before"),
        "{told}"
    );
    let requests = between.pieces.swap(0, Ordering::SeqCst);
    assert!((2..=8).contains(&requests), "{requests}");
    bench.is_in(&image);
    // What a full backup says of the disk, by chunks and place.
    let whole = bench.folder.path().join("whole.raw.gz");
    well(&bench.back_up(whole.to_str().unwrap()));
    let (again, whole) = (fs::read(&image).unwrap(), fs::read(&whole).unwrap());
    let data = whole.len() - 4096;
    assert!(again[..data] == whole[..data], "the members differ");

    // Nothing changed; and the image of an image made so is as good as any to begin with.
    well(&bench.back_up(&between.image()));
    let sent = between.up.swap(0, Ordering::SeqCst);
    assert!(sent * 100 < full, "{sent} of {full}");
    bench.is_in(&image);
    assert_eq!(
        everything_in(&server.path("share/m")),
        ["sda.raw.gz", "sda.raw.gz.toml"]
    );
}

#[test]
fn chunks_that_moved_are_known_and_an_image_without_an_index_is_not_used() {
    let bench = Bench::new();
    let server = Server::start();
    let between = Between::new(server.http, |_, _| Then::Pass);
    well(&bench.back_up(&between.image()));
    let full = between.up.swap(0, Ordering::SeqCst);
    let mut bytes = fs::read(bench.disk()).unwrap();
    bytes.copy_within(0..30 * MIB, 40 * MIB);
    fs::write(bench.disk(), &bytes).unwrap();
    well(&bench.back_up(&between.image()));
    assert!(between.up.swap(0, Ordering::SeqCst) * 20 < full);
    let image = server.path("share/m/sda.raw.gz");
    bench.is_in(&image);

    let mut foreign = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    foreign.write_all(&bytes).unwrap();
    fs::write(&image, foreign.finish().unwrap()).unwrap();
    let told = well(&bench.back_up(&between.image()));
    assert!(told.contains("all of it is sent"), "{told}");
    bench.is_in(&image);
}

#[test]
fn what_an_upload_left_is_gone_on_from_where_the_image_before_tells_nothing() {
    let bench = Bench::new();
    let server = Server::start();
    let between = Between::new(server.http, |_, _| Then::Pass);
    well(&bench.back_up(&between.image()));
    let full = between.up.swap(0, Ordering::SeqCst);
    let image = server.path("share/m/sda.raw.gz");
    // The power failed half-way, and what is there is no image.
    let whole = fs::read(&image).unwrap();
    fs::write(
        server.path("share/m/sda.raw.gz.part"),
        &whole[..whole.len() / 2],
    )
    .unwrap();
    fs::write(&image, b"no image").unwrap();
    well(&bench.back_up(&between.image()));
    assert!(between.up.swap(0, Ordering::SeqCst) * 3 < full * 2);
    bench.is_in(&image);
}

#[test]
fn damage_of_the_image_before_does_not_go_on_into_the_new_one() {
    let bench = Bench::new();
    let server = Server::start();
    let between = Between::new(server.http, |_, _| Then::Pass);
    well(&bench.back_up(&between.image()));
    let full = between.up.swap(0, Ordering::SeqCst);
    let image = server.path("share/m/sda.raw.gz");
    // One bit of a member in the middle; the index is whole.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    bench.change(&[1]);
    let told = well(&bench.back_up(&between.image()));
    assert!(told.contains("the image before is damaged"), "{told}");
    assert!(between.up.swap(0, Ordering::SeqCst) >= full, "all is sent");
    bench.is_in(&image);
    assert_eq!(
        everything_in(&server.path("share/m")),
        ["sda.raw.gz", "sda.raw.gz.toml"]
    );
}

#[test]
fn an_image_that_is_replaced_meanwhile_is_not_mixed_into_the_new_one() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]);
    let image = folder.path().join("share/m/sda.raw.gz");
    let other = folder.path().join("other");
    let (at, from) = (image.clone(), other.clone());
    let between = Between::new(server.http, move |number, _| {
        if number == 2 {
            fs::rename(&from, &at).unwrap();
        }
        Then::Pass
    });
    well(&bench.back_up(&between.image()));
    // A whole image, of the same chunks in other places.
    fs::copy(&image, &other).unwrap();
    let told = well(&bench.back_up(&between.image()));
    assert!(told.contains("the image before was replaced"), "{told}");
    bench.is_in(&image);
}

#[test]
fn a_server_that_dies_in_the_middle_is_waited_for_and_the_upload_goes_on() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Mutex::new(Some(Server::start_in(folder.path(), &[]))));
    let address = server.lock().unwrap().as_ref().unwrap().http;
    // What passes things on outlives the test, and must not keep a server.
    let dies = Arc::downgrade(&server);
    let root = folder.path().to_owned();
    let between = Between::new(address, move |number, at| match number {
        // Taken, and not answered: the client cannot know.
        2 => Then::LoseTheAnswer,
        4 => {
            let server = dies.upgrade().unwrap();
            let mut server = server.lock().unwrap();
            drop(server.take());
            let again = Server::start_in(&root, &[]);
            *at.lock().unwrap() = again.http;
            *server = Some(again);
            Then::Pass
        }
        _ => Then::Pass,
    });
    well(&bench.back_up(&between.image()));
    bench.change(&[7, 40]);
    let told = well(&bench.back_up(&between.image()));
    assert!(
        told.contains("the rest is as in the image before"),
        "{told}"
    );
    assert!(between.pieces.load(Ordering::SeqCst) >= 6);
    bench.is_in(&folder.path().join("share/m/sda.raw.gz"));
}

#[test]
fn pieces_that_make_no_sense_are_refused_and_change_nothing() {
    let server = Server::start();
    let base = server.put("/share/m/base", &[7; 1000]);
    let tag = base.header("etag").unwrap().to_owned();
    let first = server.request(
        "PUT",
        "/share/m/x.part",
        "Content-Range: bytes 0-9/*\r\n",
        b"0123456789",
    );
    let mine = first.header("etag").unwrap().to_owned();
    let member = |offset: u64, size: u32| {
        let mut composer = Composer::default();
        let hash = [0; 32];
        composer.member(offset, Member { size, hash });
        composer.take().0
    };
    let bytes = |count: usize| {
        let mut composer = Composer::default();
        composer.bytes(&vec![b'a'; count]);
        composer.take().0
    };
    let with = format!("Pitstop-Base: /share/m/base\r\nPitstop-Base-Match: {tag}\r\n");
    let old = "Pitstop-Base: /share/m/base\r\nPitstop-Base-Match: \"old\"\r\n";
    let untold = "Pitstop-Base: /share/m/base\r\n";
    for (what, base, body, status, word) in [
        ("rubbish", "", vec![9; 10], 400, None),
        ("too few", "", bytes(99), 400, None),
        ("no base", "", member(0, 100), 400, None),
        ("no tag", untold, member(0, 100), 428, None),
        ("another tag", old, member(0, 100), 412, Some("changed")),
        ("no member", &*with, member(0, 100), 412, Some("damaged")),
        (
            "beyond the end",
            &*with,
            member(950, 100),
            412,
            Some("damaged"),
        ),
    ] {
        let headers = format!(
            "Content-Range: bytes 10-109/*\r\nIf-Match: {mine}\r\nPitstop-Pieces: 1\r\n{base}"
        );
        let answer = server.request("PUT", "/share/m/x.part", &headers, &body);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.header("pitstop-base-match"), word, "{what}");
        assert_eq!(server.get("/share/m/x.part").body, b"0123456789", "{what}");
    }
    let headers =
        format!("Content-Range: bytes 10-109/*\r\nIf-Match: {mine}\r\nPitstop-Pieces: 1\r\n");
    let answer = server.request("PUT", "/share/m/x.part", &headers, &bytes(100));
    assert_eq!(answer.status, 204, "{answer:?}");
    let digest = blake3::hash(&[b'a'; 100]).to_hex();
    assert_eq!(answer.header("pitstop-digest"), Some(digest.as_str()));
}
