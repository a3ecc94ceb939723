//! `pitstop serve --mirror-of`: what it keeps, what it passes on, and what it never does.

mod common;
mod mirrors_common;

use common::{Server, everything_in, run, wait_until};
use mirrors_common::{Image, MIB, PATH, fake, mirror_of, root, url};
use pitstop_imaging::image::ImageSource as _;
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use pitstop_transport::fetch::{HttpClient, Settings};
use pitstop_transport::share::HttpImage;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::thread;

fn whole(folder: &Path, image: &Image) -> bool {
    let file = format!("{}.image", image.digest);
    everything_in(&root(folder).join("mirror")).contains(&file)
}

/// Ranges of the data that were asked for: what ends at the index, or at the end.
fn data_requests(origin: &FakeServer) -> Vec<String> {
    let mut ranges = origin.seen("range");
    ranges.retain(|range| range.starts_with("bytes=") && first(range) < 8 * MIB as u64);
    ranges
}

fn first(range: &str) -> u64 {
    let first = range["bytes=".len()..].split('-').next().unwrap();
    first.parse().unwrap()
}

#[test]
fn machines_that_come_at_once_are_fed_by_one_fetch_and_the_origin_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 1, 8);
    let origin = fake(&image.by_digest(), &image.file);
    let token = folder.path().join("token");
    fs::write(&token, "tok3n\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let arguments = ["--token-file", token.to_str().unwrap()];
    let mirror = mirror_of(&url(&origin), folder.path(), &arguments);
    let from = format!("http://{}{}", mirror.http, image.by_digest());
    thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let at = folder.path().join(name);
            fs::create_dir(&at).unwrap();
            let (image, from) = (&image, &from);
            scope.spawn(move || image.restore(from, &at, &[]));
        }
    });
    assert_eq!(
        data_requests(&origin).len(),
        1,
        "{:?}",
        origin.seen("range")
    );
    // Its index crosses the line once, too: the footer says where it is.
    let ranges = origin.seen("range");
    let ends = ranges.iter().filter(|it| first(it) >= 8 * MIB as u64);
    assert_eq!(ends.count(), 2, "{ranges:?}");
    let seen = origin.seen("authorization");
    assert!(!seen.is_empty() && seen.iter().all(|it| it == "Bearer tok3n"));
    wait_until("the image to be whole", || whole(folder.path(), &image));
    origin.down(true);
    let asked = origin.log().len();
    image.restore(&from, folder.path(), &[]);
    assert_eq!(origin.log().len(), asked);
    // It tells what it has, and nothing of the token.
    let health = mirror.get("/healthz").text();
    assert!(health.starts_with("ok\na mirror: 1 image, "), "{health}");
    let held = mirror.get("/mirror").text();
    assert!(
        held.contains(&image.digest[..16]) && held.contains("all of it here"),
        "{held}"
    );
    // Where the origin wants a token, the whole digest would be as good as one.
    assert!(!held.contains(&image.digest[..17]), "{held}");
    // And so it does after a restart.
    drop(mirror);
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    let from = format!("http://{}{}", mirror.http, image.by_digest());
    image.restore(&from, folder.path(), &[]);
    let asked = mirror.request("HEAD", &image.by_digest(), "", b"");
    assert!(asked.header("cache-control").unwrap().contains("immutable"));
    // What it does not have, it cannot get now.
    let other = Image::new(folder.path(), 2, 1);
    wait_until("it to give up", || {
        let lacks = mirror.get(&other.by_digest());
        // As long as it tries, it says when to come again.
        assert!(
            lacks.status == 502 || lacks.header("retry-after").is_some(),
            "{}",
            lacks.text()
        );
        lacks.status == 502
    });
}

#[test]
fn what_a_restart_finds_is_proven_before_it_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 3, 8);
    let origin = fake(&image.by_digest(), &image.file);
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    assert_eq!(
        mirror.request("HEAD", &image.by_digest(), "", b"").status,
        200
    );
    // It breaks off behind the fourth MiB, and the origin is none any more.
    origin.fail("GET", Fault::Cut(4 * MIB + 5000));
    origin.fail("GET", Fault::Status(404));
    let broken = mirror.get(&image.by_digest());
    assert!(broken.body.len() < image.file.len());
    assert!(image.file.starts_with(&broken.body));
    drop(mirror);
    // Power went, and the disk has not all that it said it had.
    let half = root(folder.path()).join(format!("mirror/{}.part", image.digest));
    let file = OpenOptions::new().write(true).open(&half).unwrap();
    file.write_all_at(&[0; 512], 1_500_000).unwrap();
    drop(file);
    let before = data_requests(&origin).len();
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    let got = mirror.get(&image.by_digest());
    assert!(got.body == image.file);
    wait_until("the image to be whole", || whole(folder.path(), &image));
    // The damaged piece, and what had not come: the rest was here.
    let asked: Vec<u64> = data_requests(&origin)[before..]
        .iter()
        .map(|it| first(it))
        .collect();
    assert!(
        asked[0] > MIB as u64 / 2 && asked[0] < 2 * MIB as u64,
        "{asked:?}"
    );
    assert!(
        asked.len() == 2 && asked[1] >= 4 * MIB as u64 - 100_000,
        "{asked:?}"
    );
}

#[test]
fn what_its_disk_loses_comes_again_and_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 10, 4);
    let origin = fake(&image.by_digest(), &image.file);
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    assert!(mirror.get(&image.by_digest()).body == image.file);
    wait_until("the image to be whole", || whole(folder.path(), &image));
    let path = root(folder.path()).join(format!("mirror/{}.image", image.digest));
    let rot = |at: u64| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 512], at).unwrap();
    };
    // While it runs, and while it does not.
    rot(2_500_000);
    assert!(mirror.get(&image.by_digest()).body == image.file);
    assert!(fs::read(&path).unwrap() == image.file);
    drop(mirror);
    rot(1_500_000);
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    assert!(mirror.get(&image.by_digest()).body == image.file);
    assert!(fs::read(&path).unwrap() == image.file);
    // All is well again: the origin is not needed, until it is.
    origin.down(true);
    assert!(mirror.get(&image.by_digest()).body == image.file);
    assert!(mirror.get("/mirror").text().contains(&image.digest));
    rot(3_500_000);
    let broken = mirror.get(&image.by_digest());
    assert!(broken.body.len() < 3_500_000);
    assert!(image.file.starts_with(&broken.body));
}

#[test]
fn what_the_origin_has_wrong_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 4, 4);
    let other = Image::new(folder.path(), 5, 4);
    let origin = fake(&image.by_digest(), &image.flipped());
    origin.put(&other.by_digest(), &image.file);
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    let got = mirror.get(&image.by_digest());
    assert!(got.body.len() < image.file.len() / 2 + MIB);
    assert!(image.file.starts_with(&got.body));
    assert!(!whole(folder.path(), &image));
    let another = mirror.get(&other.by_digest());
    assert_eq!(another.status, 404);
    assert!(
        another.text().contains("it is another image"),
        "{}",
        another.text()
    );
    // With the share behind it, a machine gets its image all the same.
    let server = Server::start();
    image.onto(&server);
    let from = format!("http://{}/share/{PATH}", server.http);
    let near = format!("http://{}", mirror.http);
    let said = image.restore(&from, folder.path(), &["--mirror", &near]);
    assert!(said.contains("it is left out"), "{said}");
    // Once the origin has it right, so has the mirror.
    origin.put(&image.by_digest(), &image.file);
    assert!(mirror.get(&image.by_digest()).body == image.file);
}

#[test]
fn a_full_mirror_drops_what_was_not_asked_for_and_nothing_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (6..9)
        // Larger than what connections take while nobody reads.
        .map(|seed| Image::new(folder.path(), seed, 7))
        .collect();
    let large = Image::new(folder.path(), 9, 16);
    let origin = FakeServer::start();
    for image in images.iter().chain([&large]) {
        origin.put(&image.by_digest(), &image.file);
    }
    let mirror = mirror_of(&url(&origin), folder.path(), &["--mirror-size", "15MiB"]);
    let has = |image: &Image| whole(folder.path(), image);
    for image in &images[..2] {
        assert!(mirror.get(&image.by_digest()).body == image.file);
        wait_until("it to be whole", || has(image));
    }
    // The first was asked for again: the second goes.
    assert_eq!(
        mirror
            .request("HEAD", &images[0].by_digest(), "", b"")
            .status,
        200
    );
    assert!(mirror.get(&images[2].by_digest()).body == images[2].file);
    wait_until("it to be whole", || has(&images[2]));
    assert!(has(&images[0]) && !has(&images[1]));
    assert_eq!(mirror.get(&large.by_digest()).status, 507);
    assert!(has(&images[0]) && has(&images[2]));
    // A machine says so, and goes on to the share.
    let server = Server::start();
    large.onto(&server);
    let from = format!("http://{}/share/{PATH}", server.http);
    let near = format!("http://{}", mirror.http);
    let said = large.restore(&from, folder.path(), &["--mirror", &near]);
    assert!(said.contains("(HTTP 507)"), "{said}");
    // Two are being read: a third finds no room, and leaves them alone.
    let mut readers = Vec::new();
    for image in [&images[0], &images[2]] {
        let mut stream = mirror.connect();
        let line = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", image.by_digest());
        std::io::Write::write_all(&mut stream, line.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        readers.push(stream);
    }
    let refused = mirror.get(&images[1].by_digest());
    assert_eq!(refused.status, 507);
    assert!(
        refused.text().contains("--mirror-size"),
        "{}",
        refused.text()
    );
    drop(readers);
    wait_until("room", || {
        mirror.get(&images[1].by_digest()).body == images[1].file
    });
}

#[test]
fn an_origin_with_https_is_trusted_as_the_computer_trusts_others() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 11, 1);
    let at = folder.path().join("origin");
    fs::create_dir(&at).unwrap();
    let origin = Server::start_in(&at, &["--tls", "--tls-listen", "127.0.0.1:0"]);
    image.onto(&origin);
    let from = format!("https://{}", origin.https.unwrap());
    let root = root(folder.path());
    let arguments = ["--mirror-of", from.as_str()];
    let stranger = Server::start_in(&root, &arguments);
    assert!(stranger.get(&image.by_digest()).status >= 400);
    drop(stranger);
    let mirror = Server::start_trusting(&root, &at.join("tls/ca.pem"), &arguments);
    assert!(mirror.get(&image.by_digest()).body == image.file);
}

#[test]
fn a_mirror_takes_nothing_and_says_who_does() {
    let folder = tempfile::tempdir().unwrap();
    let origin = FakeServer::start();
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    let put = mirror.put("/share/x.raw.gz", &vec![7; 3 * MIB]);
    assert_eq!(put.status, 403);
    let told = format!("send it to {}", url(&origin));
    assert!(put.text().contains(&told), "{}", put.text());
    let disk = folder.path().join("disk");
    fs::write(&disk, vec![7; MIB]).unwrap();
    let to = format!("http://{}/share/x.raw.gz", mirror.http);
    let done = run(&["backup", disk.to_str().unwrap(), &to]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains(&told), "{said}");
    assert_eq!(origin.log(), Vec::<String>::new());
    assert_eq!(
        everything_in(&root(folder.path()).join("share")),
        ["pitstop-share"]
    );
    let wrong = run(&["serve", "--root", "/nonexistent", "--mirror-size", "1GiB"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_mirror_keeps_trees_and_passes_on_none_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("system")).unwrap();
    let mut noise = vec![0; 5 * MIB];
    fastrand::Rng::with_seed(4).fill(&mut noise);
    fs::write(at("system/noise"), noise).unwrap();
    let origin = Server::start();
    let root = origin.path("").to_str().unwrap().to_owned();
    let done = run(&["tree", "capture", &at("system"), "web@1", "--root", &root]);
    assert!(done.status.success(), "{done:?}");
    let image = fs::read(origin.path("share/trees/web/1.tar.gz")).unwrap();
    let about = fs::read_to_string(origin.path("share/trees/web/1.toml")).unwrap();
    let (_, digest) = about.split_once("blake3:").unwrap();
    let path = format!("/images/blake3/{}/1.tar.gz", &digest[..64]);
    let get = |from: &str| {
        let from = from.parse().unwrap();
        let http = HttpClient::new(Settings::default())?;
        let image = HttpImage::open(&http, &from)?;
        let mut bytes = Vec::new();
        image.stream_from(0)?.read_to_end(&mut bytes)?;
        anyhow::Ok(bytes)
    };
    let near = folder.path().join("near");
    fs::create_dir(&near).unwrap();
    let mirror = mirror_of(&format!("http://{}", origin.http), &near, &[]);
    let from = format!("http://{}{path}", mirror.http);
    assert!(get(&from).unwrap() == image);
    drop(origin);
    assert!(get(&from).unwrap() == image, "it has it by now");
    let mut wrong = image.clone();
    wrong[image.len() / 2] ^= 1;
    let lies = fake(&path, &wrong);
    let far = folder.path().join("far");
    fs::create_dir(&far).unwrap();
    let mirror = mirror_of(&url(&lies), &far, &[]);
    let told = get(&format!("http://{}{path}", mirror.http));
    assert!(told.is_err(), "a wrong byte was passed on");
}
