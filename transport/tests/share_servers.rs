//! The share and the fetching of host files against the servers that people have: nginx, Apache, dnsmasq.
//! Needs nginx, apache2-bin and dnsmasq-base; a missing program fails the test.

mod servers_common;

use pitstop_imaging::event::Silent;
use pitstop_protocol::job::DeleteTarget;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::{self, FetchError, HttpClient, Roots, Settings};
use pitstop_transport::share::{Carriers, Share, Stick, connect, delete};
use servers_common::{Server, apache, dnsmasq, nginx};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};
use url::Url;

fn carriers() -> Carriers {
    let settings = Settings {
        first_wait: Duration::from_millis(20),
        roots: Roots::Folder("/nonexistent".into()),
        ..Settings::default()
    };
    Carriers {
        http: HttpClient::new(settings).unwrap(),
        mounts: std::env::temp_dir(),
        address: "127.0.0.1".parse().unwrap(),
        sign_at: None,
        stick: Stick::at(Path::new("/nonexistent")),
    }
}

fn share(server: &Server) -> Box<dyn Share> {
    let url: ShareUrl = server.url("share").parse().unwrap();
    connect(&url, &carriers()).unwrap()
}

/// Bytes that differ from place to place.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Servers clean up after a broken upload in their own time.
fn wait_for_names(folder: &Path, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        if names == expected || Instant::now() > deadline {
            assert_eq!(names, expected);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All that a run does with a share, in its order.
fn works_as_a_share(server: &Server) {
    let share = share(server);
    assert!(share.stat("pitstop-share").unwrap().is_some());
    let bytes = noise(20_000_000);
    for version in 0..2 {
        let mut pending = share.create("10.0.2.15/sub/sda.raw.gz").unwrap();
        pending.write_all(&bytes[version..]).unwrap();
        pending.finish().unwrap();
    }
    share
        .rename("10.0.2.15/sub/sda.raw.gz", "10.0.2.15/sda.raw.gz.old")
        .unwrap();
    let image = share.image("10.0.2.15/sda.raw.gz.old").unwrap();
    assert_eq!(image.size(), 19_999_999);
    let mut part = vec![0; 1_000_000];
    image.read_exact_at(&mut part, 7_000_000).unwrap();
    assert_eq!(part, bytes[7_000_001..8_000_001]);
    let mut rest = Vec::new();
    image
        .stream_from(19_000_000)
        .unwrap()
        .read_to_end(&mut rest)
        .unwrap();
    assert_eq!(rest, bytes[19_000_001..]);
    let mut dropped = share.create("10.0.2.15/sdb.raw.gz").unwrap();
    dropped.write_all(&bytes).unwrap();
    drop(dropped);
    wait_for_names(
        &server.root().join("share/10.0.2.15"),
        &["sda.raw.gz.old", "sub"],
    );
    share.remove("10.0.2.15/sda.raw.gz.old").unwrap();
    share.remove("10.0.2.15/sda.raw.gz.old").unwrap();
    for line in ["one\n", "two\n", "three\n"] {
        share.append("10.0.2.15/maintenance.log", line).unwrap();
    }
    let log = fs::read_to_string(server.root().join("share/10.0.2.15/maintenance.log")).unwrap();
    assert_eq!(log, "one\ntwo\nthree\n");
}

/// What a run does with its own configuration.
fn deletes_a_configuration(server: &Server) {
    let path = server.root().join("share/0A00020F.toml");
    let target: DeleteTarget = server.url("share/0A00020F.toml").parse().unwrap();
    let missing = delete::check(std::slice::from_ref(&target), &carriers()).unwrap_err();
    assert!(
        format!("{missing:#}").contains("it does not exist"),
        "{missing:#}"
    );
    fs::write(&path, "version = 1\n").unwrap();
    delete::check(std::slice::from_ref(&target), &carriers()).unwrap();
    delete::delete(&[target], &carriers()).unwrap();
    assert!(!path.exists());
    fs::write(server.root().join("plain/x.toml"), "").unwrap();
    let fixed: DeleteTarget = server.url("plain/x.toml").parse().unwrap();
    let refused = delete::check(&[fixed], &carriers()).unwrap_err();
    assert!(
        format!("{refused:#}").contains("does not allow DELETE (HTTP 40"),
        "{refused:#}"
    );
}

#[test]
fn nginx_is_a_share() {
    let server = nginx();
    works_as_a_share(&server);
    deletes_a_configuration(&server);
}

#[test]
fn apache_is_a_share() {
    let server = apache();
    works_as_a_share(&server);
    deletes_a_configuration(&server);
}

#[test]
fn an_upload_that_is_too_large_for_nginx_is_refused_in_words() {
    let server = nginx();
    let url: ShareUrl = server.url("small").parse().unwrap();
    let share = connect(&url, &carriers()).unwrap();
    let mut pending = share.create("x").unwrap();
    let bytes = noise(30_000_000);
    let outcome = pending.write_all(&bytes).map_err(anyhow::Error::from);
    let error = match outcome {
        Ok(()) => pending.finish().unwrap_err(),
        Err(error) => error,
    };
    let error = format!("{error:#}");
    assert!(
        error.contains("client_max_body_size 0) (HTTP 413)")
            || error.contains("closed the connection"),
        "{error}"
    );
    wait_for_names(&server.root().join("small"), &[]);
}

#[test]
fn dnsmasq_serves_host_files_over_tftp() {
    let server = dnsmasq();
    let carriers = carriers();
    for length in [0, 3, 1428, 5000, 300_000] {
        // dnsmasq goes on serving what a name held until its last transfer is forgotten.
        let name = format!("{length}.toml");
        fs::write(server.root().join(&name), noise(length)).unwrap();
        let url = Url::parse(&server.url(&name)).unwrap();
        let bytes = fetch::file(&url, 1 << 20, &carriers.http, &Silent).unwrap();
        assert_eq!(bytes, noise(length));
    }
    let missing = Url::parse(&server.url("hosts/none.toml")).unwrap();
    let error = fetch::file(&missing, 1 << 20, &carriers.http, &Silent).unwrap_err();
    assert_eq!(error, FetchError::NotFound);
    fs::write(server.root().join("x.toml"), noise(2 << 20)).unwrap();
    let large = Url::parse(&server.url("x.toml")).unwrap();
    let error = fetch::file(&large, 1 << 20, &carriers.http, &Silent).unwrap_err();
    assert!(error.to_string().contains("larger than 1.0 MiB"), "{error}");
}
