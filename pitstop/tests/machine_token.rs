//! A machine's own client against a server that wants the token of its run.

mod common;

use common::{Server, pitstop};
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_transport::fetch::{HttpClient, Settings};
use pitstop_transport::share::{HttpShare, Share};
use std::io::{Read, Write};
use url::Url;

/// The job of 10.0.2.15, and the share as its machine reaches it.
fn share(server: &Server) -> HttpShare {
    let output = pitstop()
        .args(["host", "set", "10.0.2.15", "backup", "--root"])
        .arg(server.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(server.path("hosts/0A00020F.toml")).unwrap();
    let file: toml::Table = toml::from_str(&text).unwrap();
    let token = file["token"].as_str().unwrap().to_owned();
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
        assert!(error.contains("is good for 10.0.2.15, not for"), "{error}");
    }
}
