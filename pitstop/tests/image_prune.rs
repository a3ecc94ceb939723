//! `pitstop image prune` and `list` with images of several times.

mod common;
#[path = "../../transport/src/share/s3/faults.rs"]
mod faults;
mod store_common;

use common::{Server, everything_in, pitstop, run};
use faults::{Fault, Faults, proxy};
use pitstop_protocol::image_version::dated;
use pitstop_testing::moto::{Moto, exchange};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

/// An image of another tool, `days` old: what tells its time is the file.
fn image(root: &Path, path: &str, days: u64) {
    let path = root.join("share").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(&path).unwrap();
    file.write_all(b"image").unwrap();
    let time = SystemTime::now() - Duration::from_secs(days * 86_400 + 7200);
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
    fs::write(
        path.with_file_name(format!("{}.toml", path.file_name().unwrap().display())),
        "",
    )
    .unwrap();
}

fn kept(root: &Path, folder: &str, days: u64) {
    let made = jiff::Timestamp::now()
        - jiff::SignedDuration::from_hours(24 * i64::try_from(days).unwrap());
    image(root, &dated(&format!("{folder}/sda.raw.gz"), made), days);
}

fn folder(root: &Path, folder: &str) {
    image(root, &format!("{folder}/sda.raw.gz"), 1);
    image(root, &format!("{folder}/sda.raw.gz.old"), 2);
    for days in [3, 4, 100] {
        kept(root, folder, days);
    }
}

/// What a description adds to the name of its image.
const TOLD: &str = ".toml";

fn left(root: &Path, folder: &str) -> usize {
    let names = everything_in(&root.join("share").join(folder));
    let images = names.iter().filter(|name| !name.ends_with(TOLD));
    let images = images.count();
    assert_eq!(names.len(), 2 * images, "{names:?}");
    images
}

#[test]
fn what_nobody_keeps_is_removed_and_who_is_at_work_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for name in ["10.0.2.15", "10.0.2.16", "golden/lab3"] {
        folder(root, name);
    }
    fs::create_dir_all(root.join("hosts")).unwrap();
    let at = root.to_str().unwrap();
    let prune = |arguments: &[&str]| {
        let output = run(&[&["image", "prune", "--root", at], arguments].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, error)
    };
    // Nothing is removed by a command that says not what to keep.
    assert_eq!(prune(&[]).0, Some(2));
    let (status, said, error) = prune(&["--keep-last", "2", "--dry-run"]);
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(said.matches("would be removed").count(), 10, "{said}");
    assert_eq!(left(root, "10.0.2.15"), 5);

    let set = run(&[
        "host",
        "set",
        "10.0.2.16",
        "backup-again",
        "--root",
        at,
        "--url",
        "http://10.0.2.2:8080",
    ]);
    assert!(set.status.success(), "{set:?}");
    let jobs = root.join("jobs");
    let job = everything_in(&jobs).into_iter().find(|name| {
        let is_file = Path::new(name).extension().is_some_and(|it| it == "toml");
        is_file && !name.starts_with('.')
    });
    let job = jobs.join(job.unwrap());
    let text = fs::read_to_string(&job).unwrap();
    assert!(text.contains("state = \"waiting\""), "{text}");
    let running = text.replace("state = \"waiting\"", "state = \"running\"");
    // A machine that is known by its card alone has the folder that its address tells: any.
    let somewhere = running.replace("folder = \"10.0.2.16\"\n", "");
    assert_ne!(somewhere, running);
    fs::write(&job, somewhere).unwrap();
    let (_, said, _) = prune(&["--keep-last", "2"]);
    assert!(said.contains("0 of 15 images are removed"), "{said}");
    fs::write(&job, running).unwrap();
    let (status, said, error) = prune(&["--keep-last", "2"]);
    assert_eq!(status, Some(0), "{error}");
    assert!(said.contains("is at work"), "{said}");
    assert!(said.contains("6 of 15 images are removed"), "{said}");
    for (folder, images) in [("10.0.2.15", 2), ("10.0.2.16", 5), ("golden/lab3", 2)] {
        assert_eq!(left(root, folder), images, "{folder}");
    }
    let list = run(&["image", "list", "--root", at]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let dated = list
        .lines()
        .filter(|line| line.starts_with("10.0.2.16/sda.raw.gz.20"));
    assert_eq!(dated.count(), 3, "{list}");

    // Machines and folders by name; a backup that is being written.
    fs::write(&job, text).unwrap();
    fs::write(root.join("share/10.0.2.15/sda.raw.gz.new.part"), "x").unwrap();
    let (_, said, _) = prune(&["10.0.2.15", "golden", "--keep-last", "1"]);
    assert!(said.contains("a backup is being written"), "{said}");
    assert!(said.contains("1 of 4 images are removed"), "{said}");
    let (status, _, error) = prune(&["no-such-thing", "--keep-last", "1"]);
    assert_eq!(status, Some(1), "{error}");
}

#[test]
fn what_somebody_reads_without_a_job_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_in(root.path(), &[]);
    let root = root.path();
    for name in ["golden", "lab"] {
        folder(root, name);
    }
    let earlier = root.join("share/golden/sda.raw.gz.old");
    fs::write(&earlier, "image").unwrap();
    fs::write(root.join("share/golden/sda.raw.gz.old.toml.minisig"), "x").unwrap();
    let prune = || {
        let at = root.to_str().unwrap();
        let done = run(&["image", "prune", "--keep-last", "1", "--root", at]);
        assert!(done.status.success(), "{done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let head = server.request("HEAD", "/share/golden/sda.raw.gz.old", "", b"");
    assert_eq!(head.status, 200);
    let part = "Range: bytes=1-2\r\n";
    let got = server.request("GET", "/share/golden/sda.raw.gz.old", part, b"");
    assert_eq!(got.body, b"ma");
    let said = prune();
    assert!(
        said.contains("the server gave golden/sda.raw.gz.old to somebody"),
        "{said}"
    );
    assert!(said.contains("4 of 10 images are removed"), "{said}");
    assert_eq!(left(root, "lab"), 1);
    was_a_while_ago(root);
    assert!(prune().contains("4 of 6 images are removed"));
    // The signature goes with what it signs.
    assert_eq!(left(root, "golden"), 1);
}

#[test]
fn what_is_cut_short_stands_for_no_image() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    folder(root, "golden");
    let share = root.join("share/golden");
    fs::write(root.join("disk"), vec![7; 5 << 20]).unwrap();
    let image = root.join("sda.raw.gz");
    let paths = [root.join("disk"), image.clone()];
    let [disk, made] = paths.each_ref().map(|path| path.to_str().unwrap());
    assert!(run(&["backup", disk, made]).status.success());
    let whole = fs::read(&image).unwrap();
    let at = root.to_str().unwrap();
    let prune = || run(&["image", "prune", "--keep-last", "1", "--root", at]);
    // The last one is a copy that broke off: the one before it is the last that is whole, and stays.
    fs::write(share.join("sda.raw.gz"), &whole[..whole.len() / 2]).unwrap();
    fs::write(share.join("sda.raw.gz.old"), &whole).unwrap();
    let said = String::from_utf8(prune().stdout).unwrap();
    assert!(said.contains("kept: not whole"), "{said}");
    assert!(said.contains("3 of 5 images are removed"), "{said}");
    assert!(share.join("sda.raw.gz.old").exists(), "{said}");
    // An empty file, as a power cut leaves it, is none either.
    fs::write(share.join("sda.raw.gz"), "").unwrap();
    let said = String::from_utf8(prune().stdout).unwrap();
    assert!(said.contains("0 of 2 images are removed"), "{said}");
    fs::write(share.join("sda.raw.gz"), &whole).unwrap();
    let said = String::from_utf8(prune().stdout).unwrap();
    assert!(said.contains("1 of 2 images are removed"), "{said}");
}

#[test]
fn images_of_a_group_are_where_its_layers_put_them() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(
        root.join("fleet.toml"),
        "version = 1\n[network.\"10.0.0.0/24\"]\n[group.room]\nimage = \"{group}/{hostname}\"\n\
         [host.\"pc-[1-2]\"]\nip = \"10.0.0.[11-12]\"\ngroups = [\"room\"]\n",
    )
    .unwrap();
    for name in ["room/pc-1", "room/pc-2", "10.0.0.12", "golden"] {
        folder(root, name);
    }
    let at = root.to_str().unwrap();
    let done = run(&["image", "prune", "@room", "--keep-last", "1", "--root", at]);
    assert!(done.status.success(), "{done:?}");
    for (folder, images) in [
        ("room/pc-1", 1),
        ("room/pc-2", 1),
        ("10.0.0.12", 1),
        ("golden", 5),
    ] {
        assert_eq!(left(root, folder), images, "{folder}");
    }
}

/// What the server of this root gave to somebody.
fn was_a_while_ago(root: &Path) {
    for name in everything_in(&root.join("given")) {
        let file = File::open(root.join("given").join(name)).unwrap();
        let time = SystemTime::now() - Duration::from_secs(3600);
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

/// `pitstop image prune` with the keys in this folder, and what it says.
fn prune_in_store(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = pitstop();
    command.args(["image", "prune", "--keep-last", "1"]);
    command.args(words).arg("--store-keys");
    let done: Output = command.arg(folder.join("store.keys")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn earlier_images_leave_a_store_and_no_other() {
    let moto = Moto::start();
    let faults = Faults::default();
    let folder = tempfile::tempdir().unwrap();
    store_common::keys(folder.path());
    for key in [
        "golden/sda.raw.gz",
        "golden/sda.raw.gz.20260101T000000Z",
        "golden/sda.raw.gz.20260101T000000Z.toml",
        "golden/sda.raw.gz.old",
        "golden/sda.raw.gz.old.toml",
        "golden/sda.raw.gz.old.toml.minisig",
        "lab/sda.raw.gz",
        "lab/sda.raw.gz.old",
        "lab/sda.raw.gz.old.toml",
    ] {
        moto.put(&format!("room/{key}"), key.as_bytes());
    }
    let port = proxy(moto.port, &faults);
    let share = format!("s3://lab/room?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    // There need be no server.
    let nowhere = folder.path().join("nowhere");
    let at = ["--share", &share, "--root", nowhere.to_str().unwrap()];
    let all = store_common::objects(&moto);
    let (status, said, error) = prune_in_store(folder.path(), &[&at[..], &["--dry-run"]].concat());
    assert_eq!(status, Some(0), "{error}");
    assert!(said.contains("3 of 5 images would be removed"), "{said}");
    assert!(error.contains("there are no jobs in"), "{error}");
    assert_eq!(store_common::objects(&moto), all);

    let another = Fault::Replaces("room/lab/sda.raw.gz.old");
    faults.lock().unwrap().extend([
        ("list-type=2", Fault::SlowDown),
        ("DELETE /lab/room/golden/sda.raw.gz.old?", Fault::AnswerLost),
        ("DELETE /lab/room/lab/sda.raw.gz.old?", another),
    ]);
    let (status, said, error) = prune_in_store(folder.path(), &at);
    assert_eq!(status, Some(1), "{said}{error}");
    assert!(faults.lock().unwrap().is_empty());
    assert!(said.contains("2 of 5 images are removed"), "{said}");
    assert!(error.contains("removing lab/sda.raw.gz.old: "), "{error}");
    assert!(error.contains("somebody else changed it"), "{error}");
    let left = [
        "golden/sda.raw.gz",
        "lab/sda.raw.gz",
        "lab/sda.raw.gz.old",
        "lab/sda.raw.gz.old.toml",
    ];
    let left = left.map(|key| format!("room/{key}"));
    assert_eq!(store_common::objects(&moto), left);
    let kept = store_common::text(&moto, &left[2]);
    assert!(kept.ends_with("another writer's"), "{kept}");
}

#[test]
fn who_reads_or_writes_in_a_store_is_left_alone() {
    let moto = Moto::start();
    let folder = tempfile::tempdir().unwrap();
    let server = store_common::before(moto.port, folder.path());
    for key in ["golden/sda.raw.gz", "lab/sda.raw.gz"] {
        moto.put(&format!("room/{key}"), b"image");
        moto.put(&format!("room/{key}.old"), b"image");
    }
    let got = server.get("/share/golden/sda.raw.gz.old");
    assert_eq!(got.body, b"image");
    // A machine is half-way.
    let ask = |method: &str, query: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{method} /lab/room/lab/sda.raw.gz.new?{query}&X-Amz-Signature=none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        String::from_utf8(exchange(moto.port, request.as_bytes())).unwrap()
    };
    let begun = ask("POST", "uploads", "");
    let (_, id) = begun.split_once("<UploadId>").expect("an upload");
    let id = format!("uploadId={}", id.split('<').next().unwrap());
    ask("PUT", &format!("partNumber=1&{id}"), "part");
    let root = server.path("");
    let at = ["--root", root.to_str().unwrap()];
    let (status, said, error) = prune_in_store(folder.path(), &at);
    assert_eq!(status, Some(0), "{error}");
    let given = "the server gave golden/sda.raw.gz.old to somebody";
    for why in [given, "a backup is being written"] {
        assert!(said.contains(why), "{why}: {said}");
    }
    assert!(said.contains("0 of 4 images are removed"), "{said}");

    was_a_while_ago(&root);
    ask("DELETE", &id, "");
    let (status, said, error) = prune_in_store(folder.path(), &at);
    assert_eq!(status, Some(0), "{error}");
    assert!(said.contains("2 of 4 images are removed"), "{said}");
    let left = ["golden/sda.raw.gz", "lab/sda.raw.gz", "pitstop-share"];
    let left = left.map(|key| format!("room/{key}"));
    assert_eq!(store_common::objects(&moto), left);
}
