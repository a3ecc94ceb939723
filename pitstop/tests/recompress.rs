//! `serve --recompress`: what becomes of images that are restored often, and of those that are not.

mod common;

use common::{Server, run, text, wait_until};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Words of a few hundred: how hard they are compressed makes a difference.
fn words() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(17);
    let words: Vec<String> = (0..400)
        .map(|_| format!("{:x} ", random.u32(..) >> random.u8(..24)))
        .collect();
    let mut content = Vec::new();
    while content.len() < 3 << 20 {
        content.extend(words[random.usize(..words.len())].as_bytes());
    }
    content.truncate(3 << 20);
    content
}

fn image(root: &Path, folder: &str, content: &[u8]) {
    let disk = root.join(folder);
    fs::write(&disk, content).unwrap();
    let path = root.join("share").join(folder).join("sda.raw.gz");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (disk, path) = (disk.to_str().unwrap(), path.to_str().unwrap());
    let done = run(&["backup", "--exact", "--level", "fast", disk, path]);
    text(&done);
}

/// A machine's run that used an image, as its server keeps it.
fn used(root: &Path, number: u32, folder: &str, action: &str) {
    let id = format!("20991128-2130{number:02}-aaaa");
    let runs = root.join("runs").join(&id);
    fs::create_dir_all(&runs).unwrap();
    let summary = format!(
        "version = 1\nrun = \"{id}\"\nmachine = \"lab{number}\"\naction = \"{action}\"\nbegan = \"2099-11-28T21:30:00Z\"\n\
         ended = \"2099-11-28T21:31:00Z\"\nverdict = \"ok\"\n\n[[disks]]\ndisk = \"sda\"\nsize = 1\nwill = \"restore\"\n\
         image = \"{folder}/sda.raw.gz\"\n"
    );
    fs::write(runs.join("run.toml"), summary).unwrap();
}

fn digest(root: &Path, folder: &str) -> String {
    let path = root.join("share").join(folder).join("sda.raw.gz");
    let told = run(&["inspect", "--json", path.to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    told["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("blake3:")
        .to_owned()
}

/// A job that waits for its machine, and names an image by its digest.
fn job(root: &Path, digest: &str) {
    let jobs = root.join("jobs");
    fs::create_dir_all(&jobs).unwrap();
    let file = format!(
        r#"version = 1
id = "20261128-213000-aaaa"
machine = "10.0.2.15"
action = "restore"
host-file = "0A00020F.toml"
state = "scheduled"
set = "2026-11-28T21:30:00Z"
set-by = "root@server"
changed = "2026-11-28T21:30:00Z"
at = "2099-11-28T21:30:00Z"
batch = "20261128-213000-aaaa"
text = "version = 1\nimage = \"named\"\n# {digest}\n"
"#
    );
    fs::write(jobs.join("20261128-213000-aaaa.toml"), file).unwrap();
}

#[test]
fn what_is_restored_often_becomes_small_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let content = words();
    let names = ["named", "once", "backed-up", "often"];
    for name in names {
        image(root, name, &content);
    }
    let file = |name: &str| fs::read(root.join("share").join(name).join("sda.raw.gz")).unwrap();
    let described = || fs::read(root.join("share/often/sda.raw.gz.toml")).unwrap();
    let (before, description) = (names.map(file), described());
    // The one that must stay for its job comes first, as it is used most.
    for number in 0..4 {
        used(root, number, "named", "restore");
    }
    used(root, 4, "once", "restore");
    for number in 5..9 {
        used(root, number, "backed-up", "backup");
    }
    for number in 9..11 {
        used(root, number, "often", "restore");
    }
    job(root, &digest(root, "named"));
    let server = Server::start_in(root, &["--recompress", "1s"]);
    wait_until("the image is smaller", || {
        file("often").len() < before[3].len()
    });
    for (name, before) in names[..3].iter().zip(&before) {
        assert!(file(name) == *before, "{name} has changed");
    }
    assert!(described() == description);
    let back = root.join("back");
    let url = format!("http://{}/share/often/sda.raw.gz", server.http);
    let done = run(&["restore", &url, back.to_str().unwrap()]);
    text(&done);
    assert!(fs::read(back).unwrap() == content);
    // It is not tried again, and the next one's turn comes when its job is gone.
    let small = file("often");
    fs::remove_file(root.join("jobs/20261128-213000-aaaa.toml")).unwrap();
    wait_until("the other image is smaller", || {
        file("named").len() < before[0].len()
    });
    assert!(file("often") == small);
}

#[test]
fn a_store_is_no_place_to_put_images_together() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let done = run(&[
        "serve",
        "--root",
        root,
        "--recompress",
        "--share",
        "s3://lab/images",
    ]);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
}
