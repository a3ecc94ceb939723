//! A share that fills up. Needs root: the share is a small filesystem of its own.

mod common;
mod mirrors_common;

use common::{Answer, Server, everything_in, run, wait_until};
use mirrors_common::{Image, fake, mirror_of, root, url};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A small tmpfs.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("size={size}").as_str()),
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
    let _small = Small::mount(&root.path().join("share"), "1m");
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

#[test]
fn a_backup_in_segments_that_does_not_fit_leaves_nothing_of_itself() {
    let root = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _small = Small::mount(&root.path().join("share"), "5m");
    let server = Server::start_in(root.path(), &[]);
    let mut noise = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let disk = folder.path().join("disk");
    fs::write(&disk, noise).unwrap();
    let url = format!("http://{}/share/m/sda.raw.gz", server.http);
    let disk = disk.to_str().unwrap();
    let made = run(&["backup", "--exact", "--level", "fast", disk, &url]);
    let told = String::from_utf8_lossy(&made.stderr);
    assert_eq!(made.status.code(), Some(1), "{told}");
    assert!(told.contains("the share is full"), "{told}");
    assert_eq!(everything_in(&server.path("share/m")), [""; 0]);
}

/// `--mirror-size` says more than the disk has.
#[test]
fn a_mirror_whose_disk_is_full_makes_room_or_refuses_before_the_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let kept = root(folder.path()).join("mirror");
    let _small = Small::mount(&kept, "6m");
    let first = Image::new(folder.path(), 1, 4);
    let second = Image::new(folder.path(), 2, 4);
    let large = Image::new(folder.path(), 3, 8);
    let origin = fake(&first.by_digest(), &first.file);
    for image in [&second, &large] {
        origin.put(&image.by_digest(), &image.file);
    }
    let mirror = mirror_of(&url(&origin), folder.path(), &[]);
    let whole = |image: &Image| {
        let file = format!("{}.image", image.digest);
        // The one before is in use for a moment after its last byte.
        let got = || mirror.get(&image.by_digest()).body == image.file;
        wait_until("the mirror to have room", got);
        wait_until("the image to be whole", || {
            everything_in(&kept) == [file.as_str()]
        });
    };
    whole(&first);
    whole(&second);
    let refused = mirror.get(&large.by_digest());
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(
        refused.text().contains("No space left"),
        "{}",
        refused.text()
    );
    // What is too large altogether drives nothing out, and leaves nothing half made.
    let second_s = format!("{}.image", second.digest);
    assert_eq!(everything_in(&kept), [second_s]);
    whole(&first);
}
