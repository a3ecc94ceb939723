//! A machine's own client against a server that wants the token of its run.

mod common;

use common::{Server, pitstop};
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_protocol::pieces::{Composer, Member};
use pitstop_transport::fetch::{HttpClient, Settings};
use pitstop_transport::share::{HttpShare, Share};
use std::io::{Read, Write};
use url::Url;

/// The token of a job of 10.0.2.15.
fn token(server: &Server) -> String {
    let output = pitstop()
        .args(["host", "set", "10.0.2.15", "backup", "--root"])
        .arg(server.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(server.path("hosts/0A00020F.toml")).unwrap();
    let file: toml::Table = toml::from_str(&text).unwrap();
    file["token"].as_str().unwrap().to_owned()
}

/// The share as the machine of that job reaches it.
fn share(server: &Server) -> HttpShare {
    let token = token(server);
    let url: Url = format!("http://{}/share", server.http).parse().unwrap();
    let access = Access::new(Credentials::Bearer { token }, [&url]);
    let settings = Settings {
        access: Some(access),
        ..Settings::default()
    };
    HttpShare::new(&url, &HttpClient::new(settings).unwrap())
}

fn put(share: &dyn Share, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = share.create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

#[test]
fn a_machines_own_client_does_all_that_a_backup_needs() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--machine-access", "token"]);
    let share = share(&server);
    let share: &dyn Share = &share;
    assert!(share.stat("pitstop-share").unwrap().is_some());
    assert_eq!(share.stat("a-name-that-nobody-gives-a-file").unwrap(), None);
    // Larger than a segment: it goes up piece by piece.
    let image: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    put(share, "10.0.2.15/sda.raw.gz.new", &image).unwrap();
    share
        .rename("10.0.2.15/sda.raw.gz.new", "10.0.2.15/sda.raw.gz")
        .unwrap();
    let mut read = Vec::new();
    let mut reader = share.open("10.0.2.15/sda.raw.gz").unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == image);
    for number in 0..2 {
        let line = format!("2026-11-29T12:00:0{number}+00:00: 10.0.2.15: info: hi\n");
        share.append("maintenance.log", &line).unwrap();
        share.append("10.0.2.15/maintenance.log", &line).unwrap();
    }
    for log in ["share/maintenance.log", "share/10.0.2.15/maintenance.log"] {
        let text = std::fs::read_to_string(server.path(log)).unwrap();
        assert_eq!(text.lines().count(), 2, "{log}: {text}");
    }
    share.remove("10.0.2.15/sda.raw.gz").unwrap();
    for refused in [
        put(share, "10.0.2.16/sda.raw.gz", b"x"),
        share.rename("10.0.2.15/maintenance.log", "10.0.2.16/x"),
        share.remove("maintenance.log"),
    ] {
        let error = format!("{:#}", refused.unwrap_err());
        assert!(error.contains("HTTP 403"), "{error}");
    }
}

#[test]
fn nothing_is_taken_from_an_image_that_the_machine_may_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--machine-access", "token"]);
    let token = token(&server);
    std::fs::create_dir_all(server.path("share/10.0.2.16")).unwrap();
    std::fs::write(server.path("share/10.0.2.16/sda.raw.gz"), [7; 500]).unwrap();
    let mut composer = Composer::default();
    let hash = [0; 32];
    composer.member(0, Member { size: 100, hash });
    let (body, _) = composer.take();
    let put = |base: &str| {
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Range: bytes 0-99/*\r\nPitstop-Pieces: 100\r\n\
             Pitstop-Base: {base}\r\nPitstop-Base-Match: \"x\"\r\n"
        );
        server.request("PUT", "/share/10.0.2.15/sda.raw.gz.part", &headers, &body)
    };
    for (base, status) in [
        ("/share/10.0.2.16/sda.raw.gz", 403),
        ("/share/10.0.2.15/%2e%2e/10.0.2.16/sda.raw.gz", 400),
        ("/hosts/0A000210.toml", 403),
        ("http://elsewhere/share/10.0.2.15/sda.raw.gz", 502),
    ] {
        let answer = put(base);
        assert_eq!(answer.status, status, "{base}: {answer:?}");
    }
    // What is its own is not there.
    let answer = put("/share/10.0.2.15/sda.raw.gz");
    assert_eq!(answer.status, 412, "{answer:?}");
    assert_eq!(answer.header("pitstop-base-match"), Some("changed"));
    assert!(!server.path("share/10.0.2.15").exists());
}
