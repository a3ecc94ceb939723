//! Torrents of images, taken by a real client: libtorrent.

mod common;
mod mirrors_common;

use common::{Server, pitstop, run};
use mirrors_common::{Image, PATH};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Prints what the torrent says, and has the file by it.
const CLIENT: &str = r"
import sys, time, libtorrent as lt
torrent, folder = sys.argv[1:]
session = lt.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False})
info = lt.torrent_info(torrent)
print(info.info_hash(), info.piece_length(), info.num_pieces(), [t.url for t in info.trackers()])
handle = session.add_torrent({'ti': info, 'save_path': folder})
end = time.time() + 300
while not handle.status().is_seeding:
    if time.time() > end:
        sys.exit('it did not come: %s' % handle.status().state)
    time.sleep(0.05)
";

fn client(torrent: &Path, folder: &Path) -> Output {
    // Debian's own: the package is of no other Python.
    let client = Command::new("/usr/bin/python3")
        .args(["-c", CLIENT])
        .arg(torrent)
        .arg(folder)
        .output();
    client.unwrap()
}

#[test]
fn a_client_gets_the_image_from_the_server_by_its_torrent() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 1, 2);
    let server = Server::start();
    image.onto(&server);
    let path = server.path("share").join(PATH);
    let url = format!("http://{}/share/{PATH}", server.http);
    let made = pitstop()
        .args(["torrent", "--url", &url, "--piece-size", "128KiB"])
        .args([
            "--tracker",
            "http://127.0.0.1:1/announce",
            "--tracker",
            "udp://127.0.0.1:1",
        ])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let torrent = path.with_file_name("sda.raw.gz.torrent");
    let got = folder.path().join("got");
    fs::create_dir(&got).unwrap();
    let ended = client(&torrent, &got);
    assert!(ended.status.success(), "{ended:?}");
    assert!(fs::read(got.join("sda.raw.gz")).unwrap() == image.file);
    let said = String::from_utf8(ended.stdout).unwrap();
    let pieces = image.file.len().div_ceil(128 << 10);
    let told = format!("131072 {pieces} ['http://127.0.0.1:1/announce', 'udp://127.0.0.1:1']");
    assert!(said.contains(&told), "{said}");
    let hash = said.split(' ').next().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(made.contains(hash), "{made} {said}");
    // Of a URL, it is its own seed.
    let out = folder.path().join("x.torrent");
    let made = run(&["torrent", &url, "-o", out.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let bytes = fs::read(&out).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(
        text.contains(&format!("8:url-listl{}:{url}e", url.len())),
        "{text}"
    );
}

#[test]
fn what_would_be_of_no_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 2, 1);
    let path = folder.path().join("made.raw.gz");
    let path = path.to_str().unwrap();
    let seed = ["--url", "http://server/made.raw.gz"];
    let refused = |arguments: &[&str], why: &str| {
        let done = run(&[&["torrent", path], arguments].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(why), "{said}");
    };
    refused(&[], "--url URL, or a --tracker URL");
    refused(
        &["--url", "http://me:s3cret@server/x"],
        "the name and the password",
    );
    refused(
        &[&seed[..], &["--piece-size", "3MiB"]].concat(),
        "a power of two",
    );
    assert!(
        run(&[&["torrent", path], &seed[..]].concat())
            .status
            .success()
    );
    refused(&seed, "is there already");
    fs::write(path, &image.file[..image.file.len() - 9]).unwrap();
    refused(&[&seed[..], &["--force"]].concat(), "is not whole");
}
