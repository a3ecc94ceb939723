//! Backups that die half-way, with the level that looks at the clock: the next run sends the rest.

mod common;
mod passing_common;
mod store_common;

use common::{Server, everything_in, pitstop, wait_until};
use flate2::read::MultiGzDecoder;
use passing_common::Passing;
use pitstop_testing::moto::{Moto, exchange};
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use store_common::{HOST_FILE, Machine, objects};

const MIB: u64 = 1 << 20;
/// Of the image, when the first run is killed.
const HALF: u64 = 16 * MIB;
const RATE: &str = "2MiB/s";

/// Bytes of which each level makes something else: words, by chance. After a while they come again, farther away than any level
/// looks back.
fn words(seed: u64) -> Vec<u8> {
    let length = 4 << 20;
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<Vec<u8>> = (0..3000)
        .map(|_| {
            (0..random.usize(2..9))
                .map(|_| random.u8(b'a'..=b'z'))
                .collect()
        })
        .collect();
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        text.extend_from_slice(&words[random.usize(..words.len())]);
        text.push(b' ');
    }
    text.truncate(length);
    text.repeat(18)
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

fn backup(disk: &Path, image: &str, more: &[&str]) -> Child {
    let mut command = pitstop();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
    command.env("AWS_SECRET_ACCESS_KEY", "s3cretkey");
    command.args(["backup", "--exact", disk.to_str().unwrap(), image]);
    command.args(more).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn well(child: Child) {
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A backup by `passing` with the usual level, so slow that there is time for the highest of its levels, that has come half its
/// way. Ends when `is_half` says so.
fn slow(disk: &Path, image: &str, passing: &Passing, is_half: impl Fn() -> bool) {
    passing.hold_at(HALF + 4 * MIB);
    let child = backup(disk, image, &["--rate-limit", RATE]);
    wait_until("half of the backup", is_half);
    killed(child);
    passing.go_on();
}

fn inflated(image: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(image).read_to_end(&mut bytes).unwrap();
    bytes
}

struct Bench {
    folder: tempfile::TempDir,
    content: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            content: words(1),
        };
        fs::write(bench.disk(), &bench.content).unwrap();
        bench
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

#[test]
fn a_command_that_was_killed_goes_on_whatever_the_clock_chose() {
    let mut bench = Bench::new();
    let server = Server::start();
    let passing = Passing::to(server.http);
    let url = format!("http://{}/share/m/sda.raw.gz", passing.address);
    let at = |name: &str| server.path("share/m").join(name);
    let (part, note) = (at("sda.raw.gz.part"), at("sda.raw.gz.levels"));
    slow(&bench.disk(), &url, &passing, || {
        length(&part) >= HALF && note.exists()
    });
    let noted = fs::read_to_string(&note).unwrap();
    let letters = noted.lines().nth(1).unwrap();
    let harder = letters.chars().any(|letter| letter.is_ascii_digit());
    assert!(harder, "no chunk was compressed harder: {letters}");
    let left = length(&part);
    let saved = bench.folder.path().join("saved");
    fs::create_dir(&saved).unwrap();
    for file in [&part, &note] {
        fs::copy(file, saved.join(file.file_name().unwrap())).unwrap();
    }

    passing.sent();
    well(backup(&bench.disk(), &url, &[]));
    let whole = length(&at("sda.raw.gz"));
    let sent = passing.sent();
    // The note is up to a few MiB behind, or a second.
    assert!(
        sent < whole - left * 3 / 8,
        "{sent} of {whole}, {left} left"
    );
    assert!(inflated(&fs::read(at("sda.raw.gz")).unwrap()) == bench.content);
    let names = ["sda.raw.gz", "sda.raw.gz.toml"];
    assert_eq!(everything_in(&server.path("share/m")), names);

    // Changed since: what is before that is there, what is behind it is not taken from the old one.
    bench.content[10 << 20..(10 << 20) + 7].copy_from_slice(b"changed");
    fs::write(bench.disk(), &bench.content).unwrap();
    fs::remove_file(at("sda.raw.gz")).unwrap();
    for file in [&part, &note] {
        fs::copy(saved.join(file.file_name().unwrap()), file).unwrap();
    }
    well(backup(&bench.disk(), &url, &[]));
    assert!(passing.sent() < whole - 2 * MIB);
    assert!(inflated(&fs::read(at("sda.raw.gz")).unwrap()) == bench.content);
    assert_eq!(everything_in(&server.path("share/m")), names);
}

#[test]
fn an_upload_to_a_store_goes_on_whatever_the_clock_chose() {
    let bench = Bench::new();
    let moto = Moto::start();
    let address = SocketAddr::from(([127, 0, 0, 1], moto.port));
    let passing = Passing::to(address);
    let url = format!(
        "s3://lab/m/sda.raw.gz?endpoint=http://{}&region=us-east-1",
        passing.address
    );
    let ask = |what: &str| {
        let request = format!("GET /lab{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        String::from_utf8_lossy(&exchange(moto.port, request.as_bytes())).into_owned()
    };
    slow(&bench.disk(), &url, &passing, || {
        let uploads = ask("?uploads");
        let id = uploads
            .split("<UploadId>")
            .nth(1)
            .and_then(|it| it.split('<').next());
        let parts = id.map(|id| ask(&format!("/m/sda.raw.gz?uploadId={id}")));
        parts.is_some_and(|parts| parts.matches("<Part>").count() >= 2)
            && objects(&moto).contains(&"m/sda.raw.gz.levels".to_owned())
    });
    passing.sent();
    well(backup(&bench.disk(), &url, &[]));
    let image = ask("/m/sda.raw.gz");
    let size = image.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<u64>().unwrap())
    });
    let (sent, whole) = (passing.sent(), size.unwrap());
    assert!(sent < whole - 7 * MIB, "{sent} of {whole}");
    let names = objects(&moto);
    assert_eq!(names, ["m/sda.raw.gz", "m/sda.raw.gz.toml"]);
    let target = bench.folder.path().join("target");
    fs::write(&target, vec![0xff; bench.content.len()]).unwrap();
    let mut restore = pitstop();
    restore.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
    restore.env("AWS_SECRET_ACCESS_KEY", "s3cretkey");
    let restored = restore
        .args(["restore", &url])
        .arg(&target)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    assert!(fs::read(&target).unwrap() == bench.content);
}

#[test]
fn a_machine_whose_server_died_goes_on_with_the_next_one_whatever_the_clock_chose() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let first = Server::start_in(root, &[]);
    let machine = Machine::new();
    let content = words(2);
    machine.disk(&content);
    let job = |at: SocketAddr, more: &str| {
        let text = format!(
            "version = 1\naction = \"backup\"\nexact = true\nshare = \"http://{at}/share\"\n{more}"
        );
        fs::write(root.join(HOST_FILE), text).unwrap();
    };
    let passing = Passing::to(first.http);
    passing.hold_at(HALF + 4 * MIB);
    job(
        passing.address,
        &format!("rate-limit = \"{RATE}\"\nretry-for = \"1s\"\n"),
    );
    let part = root.join("share/10.0.2.15/sda.raw.gz.new.part");
    let note = root.join("share/10.0.2.15/sda.raw.gz.new.levels");
    let failed = thread::scope(|scope| {
        let at = first.http;
        let machine = &machine;
        let run = scope.spawn(move || machine.run_from(at));
        wait_until("half of the backup", || {
            length(&part) >= HALF && note.exists()
        });
        drop(first);
        passing.go_on();
        run.join().unwrap()
    });
    assert!(failed.line.contains("result failed"), "{}", failed.line);
    // As a power cut leaves it: nobody was there to clean up.
    let left = length(&part);

    let second = Server::start_in(root, &[]);
    let passing = Passing::to(second.http);
    job(passing.address, "");
    let ended = machine.succeeds_at(&second, "backup");
    assert!(
        ended.console.contains("there from an interrupted run"),
        "{}",
        ended.console
    );
    let image = root.join("share/10.0.2.15/sda.raw.gz");
    let (sent, whole) = (passing.sent(), length(&image));
    assert!(
        sent < whole - left * 3 / 8,
        "{sent} of {whole}, {left} left"
    );
    let mut bytes = Vec::new();
    File::open(&image).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(inflated(&bytes) == content);
    assert!(!part.exists() && !note.exists());
}

#[test]
fn of_two_that_write_one_image_the_later_one_makes_it_and_neither_takes_the_others_away() {
    let bench = Bench::new();
    let server = Server::start();
    let at = |address: SocketAddr| format!("http://{address}/share/m/sda.raw.gz");
    let part = server.path("share/m/sda.raw.gz.part");
    let passing = Passing::to(server.http);
    passing.hold_at(3 * MIB);
    let first = backup(&bench.disk(), &at(passing.address), &[]);
    wait_until("the first to have begun", || length(&part) >= 2 * MIB);
    // By a level that the first never takes, so that it goes on with nothing of the other's: that one is still at it.
    well(backup(
        &bench.disk(),
        &at(server.http),
        &["--level", "small"],
    ));
    passing.go_on();
    let first = first.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&first.stderr).into_owned();
    assert_eq!(first.status.code(), Some(1), "{told}");
    assert!(told.contains("somebody else wrote to it"), "{told}");
    let image = fs::read(server.path("share/m/sda.raw.gz")).unwrap();
    assert!(inflated(&image) == bench.content);
    let names = ["sda.raw.gz", "sda.raw.gz.toml"];
    assert_eq!(everything_in(&server.path("share/m")), names);
}
