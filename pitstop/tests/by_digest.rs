//! Images by their digest, and a real nginx as a cache of slices before the server.

mod common;

use common::{Server, pitstop, run};
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// An image on the share, and its digest.
fn image(server: &Server, disk: &Path) -> String {
    let mut content = vec![0; 12 << 20];
    fastrand::Rng::with_seed(11).fill(&mut content);
    fs::write(disk, content).unwrap();
    fs::create_dir_all(server.path("share/golden")).unwrap();
    let path = server.path("share/golden/sda.raw.gz");
    let done = run(&[
        "backup",
        "--exact",
        disk.to_str().unwrap(),
        path.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{done:?}");
    let told = run(&["inspect", "--json", path.to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let digest = told["digest"].as_str().unwrap();
    digest.strip_prefix("blake3:").unwrap_or(digest).to_owned()
}

#[test]
fn an_image_has_a_url_by_its_digest_that_never_means_another() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let digest = image(&server, &folder.path().join("disk"));
    let url = format!("/images/blake3/{digest}/sda.raw.gz");
    let whole = server.get(&url);
    assert_eq!(whole.status, 200, "{}", whole.text());
    let file = fs::read(server.path("share/golden/sda.raw.gz")).unwrap();
    assert!(whole.body == file);
    assert_eq!(whole.header("etag"), Some(format!("\"{digest}\"").as_str()));
    assert!(whole.header("cache-control").unwrap().contains("immutable"));
    let part = server.request("GET", &url, "Range: bytes=1000-1999\r\n", b"");
    assert_eq!(part.status, 206);
    assert!(part.body == file[1000..2000]);
    let tag = format!("If-None-Match: \"{digest}\"\r\n");
    assert_eq!(server.request("GET", &url, &tag, b"").status, 304);
    assert_eq!(server.request("PUT", &url, "", b"x").status, 405);
    // Another name of the file is the same image; another image there is not.
    fs::create_dir(server.path("share/lab3")).unwrap();
    fs::rename(
        server.path("share/golden/sda.raw.gz"),
        server.path("share/lab3/vda.raw.gz"),
    )
    .unwrap();
    assert_eq!(server.get(&url).status, 200);
    fs::write(server.path("share/lab3/vda.raw.gz"), b"another").unwrap();
    assert_eq!(server.get(&url).status, 404);
    assert_eq!(server.get("/images/blake3/none/sda.raw.gz").status, 404);
}

/// nginx with a cache of slices of 1 MiB before `origin`, as docs/store.md has it.
fn nginx(origin: SocketAddr, folder: &Path) -> (Daemon, u16) {
    let port = free_port();
    let at = folder.display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {at}/body;\nproxy_temp_path {at}/temp;\nfastcgi_temp_path {at}/f;\n\
         uwsgi_temp_path {at}/u;\nscgi_temp_path {at}/s;\n\
         proxy_cache_path {at}/cache keys_zone=images:10m max_size=10g inactive=30d;\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation /images/blake3/ {{\nslice 1m;\nproxy_cache images;\n\
         proxy_cache_key $uri$slice_range;\nproxy_set_header Range $slice_range;\nproxy_http_version 1.1;\n\
         proxy_cache_valid 200 206 30d;\nproxy_cache_lock on;\nproxy_pass http://{origin};\n}}\n}}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    (Daemon::listening(command.arg("-c").arg(&file), port), port)
}

#[test]
fn behind_a_cache_the_second_machine_takes_nothing_from_the_origin() {
    let mut server = Some(Server::start());
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let origin = server.as_ref().unwrap();
    let digest = image(origin, &disk);
    let (_nginx, port) = nginx(origin.http, folder.path());
    let url = format!("http://127.0.0.1:{port}/images/blake3/{digest}/sda.raw.gz");
    for round in ["first", "second"] {
        let target = folder.path().join(round);
        fs::write(&target, vec![0xee; 12 << 20]).unwrap();
        let done = pitstop()
            .args(["restore", "--delta=false", &url])
            .arg(&target)
            .output()
            .unwrap();
        assert!(done.status.success(), "{round}: {done:?}");
        assert!(fs::read(&target).unwrap() == fs::read(&disk).unwrap());
        // The origin is gone before the second one comes.
        drop(server.take());
    }
}
