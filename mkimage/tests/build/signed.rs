//! Images that do signed jobs alone.

use crate::bench::{Bench, unpack};
use crate::common::run;
use std::path::Path;
use std::process::Command;

/// Keys are minisign's own.
fn minisign(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("minisign");
    run(command.current_dir(folder).args(arguments));
}

#[test]
fn keys_of_jobs_are_in_the_image_and_what_goes_with_them_is_signed() {
    let bench = Bench::new();
    let folder = bench.folder.path().to_owned();
    for name in ["lab", "other"] {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.sec"));
        minisign(&folder, &["-G", "-W", "-p", &public, "-s", &secret]);
    }
    let key = bench.path("lab.pub").display().to_string();
    let other = bench.path("other.pub").display().to_string();
    let job = bench.file("job.toml", b"version = 1\naction = \"rescue\"\n");
    let job = job.display().to_string();
    let image = bench.path("never.img").display().to_string();
    let refused = |more: &[&str], why: &str| {
        let output = bench.mkimage(&[&["--drivers", "nic", "-o", &image], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    };
    refused(&["--job-key", &job], "no public key of minisign's");
    refused(&["--image-key", &job], "no public key of minisign's");
    refused(
        &["--job-key", &key, "--host-file", &job],
        "has to be signed",
    );
    minisign(&folder, &["-S", "-W", "-s", "other.sec", "-m", "job.toml"]);
    refused(
        &["--job-key", &key, "--host-file", &job],
        "signed with another key",
    );
    refused(
        &["--job-key", &key, "--param", "pitstop.action=rescue"],
        "no parameter says what is done",
    );

    minisign(&folder, &["-S", "-W", "-s", "lab.sec", "-m", "job.toml"]);
    let more = ["--job-key", &key, "--job-key", &other, "--host-file", &job];
    let more = [&more[..], &["--image-key", &other]].concat();
    let root = bench.path("unpacked");
    unpack(&bench.nic_image("signed.img", &more), &root, "zstd -dc");
    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    assert_eq!(
        read("etc/pitstop/job-keys/00.pub"),
        std::fs::read(&key).unwrap()
    );
    assert_eq!(
        read("etc/pitstop/image-keys/00.pub"),
        std::fs::read(&other).unwrap()
    );
    assert_eq!(
        read("etc/pitstop/job-keys/01.pub"),
        std::fs::read(&other).unwrap()
    );
    let signature = std::fs::read(bench.path("job.toml.minisig")).unwrap();
    assert_eq!(read("etc/pitstop/host.toml.minisig"), signature);

    let root = bench.path("unpacked-without");
    unpack(&bench.nic_image("plain.img", &[]), &root, "zstd -dc");
    assert!(!root.join("etc/pitstop/job-keys").exists());
}
