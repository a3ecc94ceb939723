//! A share behind a proxy that ends TLS. Needs nginx and openssl.

mod common;

use common::pitstop;
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A `WebDAV` server that knows nothing of TLS, and a proxy in front of it that does.
fn start(folder: &Path, proxied: &str) -> (Daemon, u16) {
    let (plain, tls) = (free_port(), free_port());
    let at = folder.display();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
        ])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("ca.pem"))
        .output()
        .expect("this test needs openssl");
    assert!(made.status.success(), "{made:?}");
    fs::create_dir_all(folder.join("root/share")).unwrap();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
           access_log off; client_body_temp_path {at}/tmp; proxy_temp_path {at}/proxy; client_max_body_size 0;\n\
           fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
           server {{ listen 127.0.0.1:{plain}; root {at}/root;\n\
             location / {{ dav_methods PUT DELETE MOVE MKCOL; }} }}\n\
           server {{ listen 127.0.0.1:{tls} ssl;\n\
             ssl_certificate {at}/ca.pem; ssl_certificate_key {at}/key.pem;\n\
             location / {{ proxy_pass http://127.0.0.1:{plain}; proxy_set_header Host $http_host;\n\
               proxy_request_buffering off; proxy_http_version 1.1; {proxied} }} }}\n\
         }}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf"));
    (Daemon::listening(&mut command, tls), tls)
}

fn backup(folder: &Path, url: &str) -> std::process::Output {
    let disk = folder.join("disk");
    fs::write(&disk, vec![7; 3 << 20]).unwrap();
    let mut command = pitstop();
    command.arg("backup").arg(&disk).arg(url);
    command.env("SSL_CERT_FILE", folder.join("ca.pem"));
    command.output().unwrap()
}

#[test]
fn an_image_goes_to_a_share_behind_a_tls_proxy_and_into_folders_that_were_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let (_nginx, port) = start(temp.path(), "");
    let done = backup(
        temp.path(),
        &format!("https://localhost:{port}/share/lab/row/pc/disk.gz"),
    );
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(temp.path().join("root/share/lab/row/pc/disk.gz").is_file());
}

#[test]
fn a_move_that_the_proxy_spoils_is_told_in_the_servers_words_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let (_nginx, port) = start(temp.path(), "proxy_set_header Destination ftp://nowhere/x;");
    let done = backup(
        temp.path(),
        &format!("https://localhost:{port}/share/disk.gz"),
    );
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    for part in [
        "MOVE https://localhost",
        "400 Bad Request",
        "has to pass the header Host on",
        "/share/disk.gz alone",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
