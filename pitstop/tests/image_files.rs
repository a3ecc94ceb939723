//! Single files of images over HTTP.

mod common;

use common::{Server, run};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;

const MIB: u64 = 1 << 20;

/// Runs a program that must succeed.
fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): see .ci/setup"));
    assert!(output.status.success(), "{program}: {output:?}");
}

/// A server with the image of a disk that has a GPT and an ext4 with files in partition 2.
fn served() -> Server {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    let path = disk.to_str().unwrap();
    tool("sgdisk", &["-n", "1:2M:+4M", "-n", "2:8M:+48M", path]);
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/host\"name ü"), "pitstop\n").unwrap();
    fs::write(tree.join("big"), vec![7; 9 << 20]).unwrap();
    symlink("../../../../../etc/passwd", tree.join("out")).unwrap();
    let options = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-d",
        tree.to_str().unwrap(),
        "-E",
        "offset=8388608",
        path,
        "49152k",
    ];
    tool("mke2fs", &options);
    fs::create_dir_all(server.path("share/10.0.2.15")).unwrap();
    let image = server.path("share/10.0.2.15/sda.raw.gz");
    let output = run(&["backup", path, image.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    server
}

#[test]
fn folders_are_listed_and_files_come_out_whole() {
    let server = served();
    let json = |path: &str| -> serde_json::Value {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    };
    let base = "/api/v1/images/10.0.2.15/sda.raw.gz/files";
    let volumes = json(base);
    assert_eq!(volumes["volumes"][1]["filesystem"], "ext4", "{volumes}");
    assert_eq!(volumes["volumes"][1]["readable"], true);
    assert_eq!(volumes["volumes"][0]["readable"], false);
    let root = json(&format!("{base}/2/"));
    let names: Vec<&str> = root["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["etc", "lost+found", "big", "out"]);
    let file = server.get(&format!("{base}/2/etc/host%22name%20%C3%BC"));
    assert_eq!((file.status, file.text().as_str()), (200, "pitstop\n"));
    assert_eq!(
        file.header("content-disposition"),
        Some("attachment; filename*=UTF-8''host%22name%20%C3%BC")
    );
    let big = server.get(&format!("{base}/2/big"));
    assert_eq!(big.header("content-length"), Some("9437184"));
    assert!(big.body == vec![7; 9 << 20]);
}

#[test]
fn nothing_but_the_image_is_read() {
    let server = served();
    fs::write(server.path("share/10.0.2.15/notes.txt"), "mine").unwrap();
    symlink("/etc", server.path("share/10.0.2.15/etc")).unwrap();
    let status = |path: &str| {
        server
            .get(&format!("/api/v1/images/10.0.2.15/{path}"))
            .status
    };
    let base = "sda.raw.gz/files";
    // A link that leads far up stays within the filesystem, which has no such file.
    assert_eq!(status(&format!("{base}/2/out")), 404);
    assert_eq!(status(&format!("{base}/2/etc/nothing")), 404);
    assert_eq!(status(&format!("{base}/2/..%2f..%2f..%2fetc/passwd")), 400);
    assert_eq!(status(&format!("{base}/7/")), 404);
    assert_eq!(status(&format!("{base}/x/")), 404);
    // No filesystem is there.
    assert_eq!(status(&format!("{base}/1/")), 409);
    assert_eq!(status("notes.txt/files"), 404);
    assert_eq!(status("sdb.raw.gz/files"), 404);
    fs::write(server.path("share/10.0.2.15/sdc.raw.gz"), "no image").unwrap();
    assert_eq!(status("sdc.raw.gz/files"), 409);
}
