//! Machines that lie. The liar here speaks what `docs/many.md` says of peers, written anew, so that the document is held
//! against the program; it does its part well as far as the server can see, and spoils what it sends.

mod common;
mod relay_common;

use common::{Server, run, wait_until};
use pitstop_testing::ports::free_port;
use relay_common::{Program, TREE, has_tree, here, image, restore, serve, tree, unpack};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const DATA: usize = 12;
const MAGIC: &[u8; 8] = b"PITRELA1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Members with a wrong bit.
    FlipsBits,
    /// Other bytes than any peer sends.
    Rubbish,
    /// It says that it lives and sends nothing, and tells the server that it gets on well.
    Claims,
    /// It says nothing at all.
    Hangs,
    /// A member that never ends, a byte now and then.
    Trickles,
    /// It says at once that all was sent.
    SaysEnd,
}

/// What all get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Disk,
    Tree,
}

impl What {
    /// Below the root.
    fn image(self) -> &'static str {
        match self {
            Self::Disk => "share/golden/sda.raw.gz",
            Self::Tree => TREE,
        }
    }

    fn make(self, root: &Path) -> Vec<u8> {
        match self {
            Self::Disk => image(root, DATA),
            Self::Tree => tree(root, DATA),
        }
    }

    fn get(self, url: &str, to: &Path) -> Program {
        match self {
            Self::Disk => restore(here, url, to),
            Self::Tree => unpack(here, url, to),
        }
    }

    fn is_right(self, at: &Path, raw: &[u8]) -> bool {
        match self {
            Self::Disk => fs::read(at).unwrap() == raw,
            Self::Tree => has_tree(at, raw),
        }
    }
}

/// A machine that takes part.
struct Liar {
    server: SocketAddr,
    what: What,
    digest: String,
    listener: TcpListener,
    lie: Lie,
    stop: AtomicBool,
    came: AtomicU64,
}

fn digest_of(image: &[u8]) -> String {
    // The footer ends the file: 64 bytes of it before the CRC, the hash at 32, in an EXTRA field of the last member.
    let magic = image.windows(8).rposition(|it| it == b"PITSTOPF");
    let at = magic.unwrap_or_else(|| panic!("no footer"));
    let bytes: [u8; 32] = image[at + 32..at + 64].try_into().unwrap();
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

impl Liar {
    fn post(&self, body: &Value) -> Option<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.server).ok()?;
        write!(
            stream,
            "POST /relay HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    fn report(&self) -> Option<Value> {
        self.post(&json!({
            "version": 1, "image": format!("/{}", self.what.image()), "digest": self.digest,
            "node": "0123456789abcdef0123456789abcdef",
            "port": self.listener.local_addr().unwrap().port(), "stage": "working",
            "chunks": 1000, "done": 1, "received": self.came.fetch_add(8 << 20, Ordering::Relaxed),
            "sent": 0, "source": null, "complaints": [],
        }))
    }

    /// Reports until it is told to stop.
    fn live(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.report();
            thread::sleep(Duration::from_millis(400));
        }
    }

    fn serve(&self, key: [u8; 32]) {
        self.listener.set_nonblocking(true).unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    // The other side hangs up as soon as it has seen enough.
                    let _ = self.answer(&mut stream, key);
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, key: [u8; 32]) -> io::Result<()> {
        let mut hello = [0; 40];
        stream.read_exact(&mut hello)?;
        assert_eq!(&hello[..8], MAGIC);
        let mine = [7; 32];
        stream.write_all(&[&MAGIC[..], &mine].concat())?;
        let digest = blake3::Hash::from_hex(&self.digest).unwrap();
        let proof = |who: &str| {
            let said: [&[u8]; 5] = [
                who.as_bytes(),
                digest.as_bytes(),
                &hello[8..],
                &mine,
                &[0; 32],
            ];
            blake3::keyed_hash(&key, &said.concat())
        };
        let mut asked = [0; 32 + 1 + 8];
        stream.read_exact(&mut asked)?;
        assert_eq!(asked[..32], *proof("child").as_bytes());
        let count = u64::from_le_bytes(asked[33..].try_into().unwrap());
        let mut wanted = vec![0; usize::try_from(count.div_ceil(8)).unwrap()];
        stream.read_exact(&mut wanted)?;
        stream.write_all(proof("parent").as_bytes())?;
        let first =
            (0..count).find(|it| wanted[usize::try_from(it / 8).unwrap()] >> (it % 8) & 1 == 1);
        self.lie(stream, first.unwrap())
    }

    fn lie(&self, stream: &mut TcpStream, chunk: u64) -> io::Result<()> {
        let frame = |chunk: u64, kind: u8, length: u32| {
            [
                &chunk.to_le_bytes()[..],
                &[kind, 0, 0, 0],
                &length.to_le_bytes(),
            ]
            .concat()
        };
        match self.lie {
            Lie::FlipsBits => {
                let mut member = vec![0x5a; 4000];
                member[..4].copy_from_slice(&[0x1f, 0x8b, 8, 4]);
                stream.write_all(&frame(chunk, 1, 4000))?;
                stream.write_all(&member)?;
                self.wait(stream)
            }
            Lie::Rubbish => {
                stream.write_all(&[0xee; 100])?;
                self.wait(stream)
            }
            Lie::SaysEnd => stream.write_all(&frame(0, 3, 0)),
            Lie::Hangs => self.wait(stream),
            Lie::Claims => loop {
                stream.write_all(&frame(0, 2, 0))?;
                thread::sleep(Duration::from_millis(200));
            },
            Lie::Trickles => {
                stream.write_all(&frame(chunk, 1, 900_000))?;
                loop {
                    stream.write_all(&[1])?;
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    fn wait(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        while !self.stop.load(Ordering::Relaxed) {
            match stream.read(&mut [0; 1]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Both machines behind the liar end well, with the right bytes, and it is told. On a busy computer the plan may have given it up
/// before they came, as it said nothing for some seconds: then they never meet it.
fn is_survived(what: What, lie: Lie, told: &str) {
    let said: Vec<String> = (0..5)
        .map(|_| said_of(what, lie))
        .take_while(|said| !said.contains(told))
        .collect();
    assert!(said.len() < 5, "{told:?} is not in:\n{}", said.join("\n"));
}

/// The liar is first in the chain, two others are behind it. Both end well, with the right bytes; what the server said.
fn said_of(what: What, lie: Lie) -> String {
    let root = tempfile::tempdir().unwrap();
    let raw = what.make(root.path());
    let port = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = serve(here, root.path(), &port.to_string());
    let stored = fs::read(root.path().join(what.image())).unwrap();
    let liar = Arc::new(Liar {
        server: port,
        what,
        digest: digest_of(&stored),
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        lie,
        stop: AtomicBool::new(false),
        came: AtomicU64::new(0),
    });
    let first = liar.report().unwrap();
    assert_eq!(first["standing"]["source"], "server", "{first}");
    let key = blake3::Hash::from_hex(first["key"].as_str().unwrap()).unwrap();
    let threads = [
        thread::spawn({
            let liar = Arc::clone(&liar);
            move || liar.live()
        }),
        thread::spawn({
            let liar = Arc::clone(&liar);
            move || liar.serve(*key.as_bytes())
        }),
    ];
    let url = format!("http://{port}/{}", what.image());
    let mut machines: Vec<_> = (0..2)
        .map(|number| {
            let disk = root.path().join(format!("target-{number}"));
            (what.get(&url, &disk), disk)
        })
        .collect();
    for (program, disk) in &mut machines {
        assert!(program.ends_well(), "{}\n{}", program.said(), server.said());
        assert!(what.is_right(disk, &raw));
    }
    liar.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    server.said()
}

#[test]
fn flipped_bits_are_not_written_and_who_sent_them_is_named() {
    is_survived(What::Disk, Lie::FlipsBits, "lied to 127.0.0.1");
}

#[test]
fn flipped_bits_of_a_tree_become_no_file_and_who_sent_them_is_named() {
    is_survived(What::Tree, Lie::FlipsBits, "lied to 127.0.0.1");
}

#[test]
fn rubbish_is_as_bad() {
    is_survived(What::Disk, Lie::Rubbish, "lied to 127.0.0.1");
}

#[test]
fn a_machine_that_has_nothing_of_what_it_says_is_left() {
    is_survived(What::Disk, Lie::Claims, "gave 127.0.0.1 nothing more");
}

#[test]
fn a_machine_that_hangs_is_left() {
    is_survived(What::Disk, Lie::Hangs, "gave 127.0.0.1 nothing more");
}

#[test]
fn a_machine_that_trickles_is_left() {
    is_survived(What::Disk, Lie::Trickles, "gave 127.0.0.1 nothing more");
}

#[test]
fn a_machine_that_says_it_sent_all_is_left() {
    is_survived(What::Disk, Lie::SaysEnd, "lied to 127.0.0.1");
}

#[test]
fn an_image_without_an_index_is_refused_with_what_to_type() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("share")).unwrap();
    fs::write(root.path().join("share/disk.raw"), vec![7; 1 << 20]).unwrap();
    let port = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _server = serve(here, root.path(), &port.to_string());
    let url = format!("http://{port}/share/disk.raw");
    let disk = root.path().join("target");
    let swarm = |extra: &[&str]| {
        let mut arguments = vec!["restore", &url, disk.to_str().unwrap()];
        arguments.extend(extra);
        run(&arguments)
    };
    let refused = swarm(&["--distribute", "swarm"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        errors.contains(&format!("pitstop convert {url} NEW.raw.gz")),
        "{errors}"
    );
    assert!(!disk.exists());
    assert!(swarm(&[]).status.success());
    let both = swarm(&["--distribute", "swarm", "--rate-limit", "80MiB/s"]);
    let errors = String::from_utf8_lossy(&both.stderr);
    assert!(
        !both.status.success() && errors.contains("does not go with rate-limit"),
        "{errors}"
    );
}

#[test]
fn the_server_says_how_many_are_to_get_an_image() {
    let server = Server::start();
    let root = server.path("");
    image(&root, 1);
    let url = format!("http://{}", server.http);
    let set = |machine: &str, folder: &str, more: &[&str]| {
        let mut words = vec![
            "host",
            "set",
            machine,
            "restore",
            "--root",
            root.to_str().unwrap(),
        ];
        words.extend(["--image", folder, "--yes", "--force"]);
        words.extend(more);
        let set = run(&words);
        assert!(
            set.status.success(),
            "{}",
            String::from_utf8_lossy(&set.stderr)
        );
    };
    let told = || {
        let answer = server.request("HEAD", "/share/golden/sda.raw.gz", "", b"");
        let header = |name: &str| answer.header(name).map(str::to_owned);
        (header("pitstop-relay"), header("pitstop-relay-wanted"))
    };
    let says = |wanted: &str| (Some("/relay".to_owned()), Some(wanted.to_owned()));
    assert_eq!(told(), says("0"), "{url}");
    set("10.0.2.15", "golden", &[]);
    set("10.0.2.16", "golden", &[]);
    set("10.0.2.17", "golden-2", &[]);
    wait_until("two jobs are known", || told() == says("2"));

    let folder = tempfile::tempdir().unwrap();
    let plans_none = Server::start_in(folder.path(), &["--chains", "0"]);
    image(folder.path(), 1);
    let answer = plans_none.request("HEAD", "/share/golden/sda.raw.gz", "", b"");
    assert_eq!(answer.header("pitstop-relay"), None);
    assert_eq!(plans_none.request("POST", "/relay", "", b"").status, 404);
}
