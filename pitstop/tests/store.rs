//! Images in an S3 store, by the real program against moto.

mod common;

use common::pitstop;
use pitstop_testing::moto::Moto;
use std::fs;
use std::process::Output;

fn url(moto: &Moto, key: &str) -> String {
    let port = moto.port;
    format!("s3://lab/{key}?endpoint=http://127.0.0.1:{port}&region=us-east-1&path-style=true")
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
    // Larger than a part of an upload, and not to be compressed.
    let mut disk = vec![0; 20 << 20];
    fastrand::Rng::with_seed(3).fill(&mut disk);
    fs::write(path("disk"), &disk).unwrap();
    let image = url(&moto, "room/10.0.2.15/sda.raw.gz");

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
        .args(["restore", &url(&moto, "x.gz"), disk])
        .output()
        .unwrap();
    assert!(
        told(&none).contains("there are no keys for s3://lab"),
        "{}",
        told(&none)
    );
    let output = with_keys(&["restore", &url(&moto, "none.raw.gz"), disk]);
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
