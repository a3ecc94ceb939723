//! Images in an S3 store, by the real program against moto.

mod common;

use common::pitstop;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/moto/bin/moto_server");
        assert!(program.exists(), "moto is missing: run .ci/setup test");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "moto does not start"
            );
            thread::sleep(Duration::from_millis(100));
        }
        moto.make_bucket();
        moto
    }

    fn make_bucket(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request =
            "PUT /lab HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn url(&self, key: &str) -> String {
        format!(
            "s3://lab/{key}?endpoint=http://127.0.0.1:{}&region=us-east-1&path-style=true",
            self.port
        )
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_keys(arguments: &[&str]) -> Output {
    let mut command = pitstop();
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
    command.env("AWS_SECRET_ACCESS_KEY", "s3cretkey");
    command.args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !text.contains("s3cretkey") && !text.contains("Signature="),
        "{text}"
    );
    text
}

#[test]
fn a_disk_goes_to_a_store_and_comes_back() {
    let moto = Moto::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut random = fastrand::Rng::with_seed(3);
    // Larger than a part of an upload, and not to be compressed.
    let disk: Vec<u8> = (0..20 << 20).map(|_| random.u8(..)).collect();
    fs::write(path("disk"), &disk).unwrap();
    let image = moto.url("room/10.0.2.15/sda.raw.gz");

    let output = with_keys(&["backup", "--exact", &path("disk"), &image]);
    assert!(output.status.success(), "{}", told(&output));
    let output = with_keys(&["backup", "--exact", &path("disk"), &image]);
    assert!(
        told(&output).contains("is there already"),
        "{}",
        told(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    for command in ["verify", "inspect"] {
        let output = with_keys(&[command, &image]);
        assert!(output.status.success(), "{command}: {}", told(&output));
    }
    fs::write(path("target"), vec![0xff; disk.len()]).unwrap();
    let output = with_keys(&["restore", "--verify", &image, &path("target")]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(fs::read(path("target")).unwrap() == disk);
}

#[test]
fn without_keys_or_an_image_nothing_is_touched() {
    let moto = Moto::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, [7; 4096]).unwrap();
    let disk = disk.to_str().unwrap();
    let mut command = pitstop();
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("HOME", folder.path());
    let none = command
        .args(["restore", &moto.url("x.gz"), disk])
        .output()
        .unwrap();
    assert!(
        told(&none).contains("there are no keys for s3://lab"),
        "{}",
        told(&none)
    );
    let output = with_keys(&["restore", &moto.url("none.raw.gz"), disk]);
    assert!(
        told(&output).contains("there is no such file"),
        "{}",
        told(&output)
    );
    let output = with_keys(&["restore", "s3://lab?endpoint=http://127.0.0.1:1", disk]);
    assert!(
        told(&output).contains("name the image in it"),
        "{}",
        told(&output)
    );
    assert_eq!(fs::read(disk).unwrap(), [7; 4096]);
}
