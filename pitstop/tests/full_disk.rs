//! A share that fills up. Needs root: the share is a small filesystem of its own.

mod common;

use common::{Answer, Server, everything_in};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A tmpfs of one MiB.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=1m"),
        )
        .expect("mounting a tmpfs: this test needs root");
        Self(path.to_path_buf())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_share_is_507_and_the_old_image_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let _small = Small::mount(&root.path().join("share"));
    let server = Server::start_in(root.path(), &[]);
    assert_eq!(server.put("/share/ip/sda.raw.gz", b"old").status, 201);

    // Too long by its Content-Length: refused before anything is written.
    let announced = server.put("/share/ip/sda.raw.gz", &vec![1; 3 << 20]);
    assert_eq!(announced.status, 507);
    assert!(
        announced.text().contains("3.0 MiB do not fit"),
        "{}",
        announced.text()
    );

    // Chunked, it is found out in the middle.
    let mut stream = server.connect();
    write!(
        stream,
        "PUT /share/new/sda.raw.gz.part HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for _ in 0..48 {
        // 48 times 64 KiB: the answer comes after a third of it.
        let chunk = [b"10000\r\n".as_slice(), &vec![2; 65536], b"\r\n"].concat();
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let full = Answer::read(stream);
    assert_eq!(full.status, 507, "{full:?}");
    assert_eq!(full.header("connection"), Some("close"));
    assert!(
        full.text().starts_with("writing new/sda.raw.gz.part at "),
        "{}",
        full.text()
    );
    assert!(full.text().contains("No space left"), "{}", full.text());

    assert_eq!(server.get("/share/ip/sda.raw.gz").body, b"old");
    assert_eq!(
        everything_in(&server.path("share")),
        ["ip", "pitstop-share"]
    );
    assert_eq!(everything_in(&server.path("share/ip")), ["sda.raw.gz"]);
    let free = nix::sys::statvfs::statvfs(&server.path("share")).unwrap();
    assert!(free.blocks_available() * free.fragment_size() > 900 << 10);
    // And there is room for what fits.
    assert_eq!(
        server
            .put("/share/ip/maintenance.log", &vec![3; 500 << 10])
            .status,
        201
    );
}
