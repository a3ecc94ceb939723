//! `mkimage uki` and `mkimage iso`, checked with the tools that read and sign such images.

mod common;

use common::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Makes `name` of a kernel and an initramfs that are none.
fn make(folder: &Path, kind: &str, name: &str, more: &[&str]) -> (PathBuf, Output) {
    let (kernel, initramfs) = (folder.join("vmlinuz"), folder.join("initramfs.img"));
    let mut bytes = vec![0; 4096];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(&kernel, bytes).unwrap();
    fs::write(&initramfs, [9; 5000]).unwrap();
    let image = folder.join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkimage"));
    command.arg(kind).arg("--kernel").arg(kernel);
    command.arg("--initramfs").arg(initramfs);
    command.args(more).arg("-o").arg(&image);
    let output = command
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    (image, output)
}

fn must(made: (PathBuf, Output)) -> PathBuf {
    let said = String::from_utf8_lossy(&made.1.stderr);
    assert!(made.1.status.success(), "{said}");
    made.0
}

#[test]
fn a_medium_has_the_same_bytes_a_second_later_and_its_host_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let host = folder.join("host.toml");
    fs::write(&host, "version = 1\naction = \"rescue\"\n").unwrap();
    let more = ["--host-file", host.to_str().unwrap()];
    let first = must(make(folder, "iso", "one.iso", &more));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let again = must(make(folder, "--iso", "two.iso", &more));
    assert!(fs::read(&first).unwrap() == fs::read(&again).unwrap());
    let out = folder.join("extracted.toml");
    run(Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(&first)
        .args(["-extract", "/pitstop/host.toml"])
        .arg(&out));
    assert_eq!(fs::read(&out).unwrap(), fs::read(&host).unwrap());
}

#[test]
fn a_unified_image_is_signed_by_the_key_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    run(Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=Pitstop tests", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let more = ["--sign-key", key, "--sign-cert", certificate];
    let signed = must(make(folder, "uki", "signed.efi", &more));
    let verify = |image: &Path| {
        let mut command = Command::new("sbverify");
        let done = command.args(["--cert", certificate]).arg(image).output();
        done.unwrap().status.success()
    };
    assert!(verify(&signed));
    assert!(!verify(&must(make(folder, "--uki", "plain.efi", &[]))));
    let (image, refused) = make(folder, "uki", "half.efi", &["--sign-key", key]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!image.exists());
}
