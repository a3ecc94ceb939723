//! A disk backed up again to a store: what travels from the machine, what the store copies, and what is in the way.

mod common;
mod passing_common;
mod store_common;

use common::pitstop;
use flate2::read::MultiGzDecoder;
use passing_common::Passing;
use pitstop_testing::moto::{Moto, exchange};
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store_common::{before, objects};

const MIB: usize = 1 << 20;
const KEY: &str = "room/m/sda.raw.gz";

struct Bench {
    folder: tempfile::TempDir,
    moto: Arc<Moto>,
    content: Vec<u8>,
}

impl Bench {
    /// A disk of so many chunks that do not compress, a sixth of them zeros, before the middle.
    fn new(chunks: usize) -> Self {
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut content = vec![0; chunks * MIB];
        for (at, chunk) in content.chunks_exact_mut(MIB).enumerate() {
            if !(chunks / 3..chunks / 2).contains(&at) {
                noise.fill(chunk);
            }
        }
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            moto: Arc::new(Moto::start()),
            content,
        };
        bench.write();
        bench
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn write(&self) {
        fs::write(self.disk(), &self.content).unwrap();
    }

    fn change(&mut self, chunks: impl IntoIterator<Item = usize>) {
        for chunk in chunks {
            let at = chunk * MIB + 4242;
            self.content[at] ^= 0x55;
        }
        self.write();
    }

    fn store(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.moto.port))
    }

    fn back_up(&self, by: &Passing) -> String {
        let store = by.address;
        self.back_up_to(&format!(
            "s3://lab/{KEY}?endpoint=http://{store}&region=us-east-1"
        ))
    }

    fn back_up_to(&self, url: &str) -> String {
        let mut command = pitstop();
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
        command.env("AWS_SECRET_ACCESS_KEY", "s3cretkey");
        command.args(["backup", "--exact", "--force", "--level", "fast"]);
        let output: Output = command.arg(self.disk()).arg(url).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        told
    }

    fn image(&self) -> Vec<u8> {
        let request = format!("GET /lab/{KEY} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = exchange(self.moto.port, request.as_bytes());
        let head = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        answer[head + 4..].to_vec()
    }

    /// The image is of the disk, by a gunzip that knows nothing of it, and by its own hashes; and nothing else is there.
    fn is_whole(&self) {
        self.is_of_the_disk(self.image());
    }

    fn is_of_the_disk(&self, image: Vec<u8>) {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(&image[..])
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes == self.content, "the image differs");
        let file = self.folder.path().join("image.raw.gz");
        fs::write(&file, image).unwrap();
        let verify = pitstop().arg("verify").arg(&file).output().unwrap();
        assert!(verify.status.success(), "{verify:?}");
        let names = [KEY.to_owned(), format!("{KEY}.toml")];
        let mut there = objects(&self.moto);
        there.retain(|key| key != "room/pitstop-share");
        assert_eq!(there, names);
        let request = b"GET /lab?uploads HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let open = String::from_utf8(exchange(self.moto.port, request)).unwrap();
        assert!(!open.contains("<UploadId>"), "{open}");
    }
}

#[test]
fn a_server_before_a_store_is_sent_what_changed() {
    let mut bench = Bench::new(60);
    // moto shows what was copied to nobody without keys.
    let server = before(bench.moto.port, bench.folder.path());
    let passing = Passing::to(server.http);
    let url = format!("http://{}/share/m/sda.raw.gz", passing.address);
    bench.back_up_to(&url);
    let full = passing.sent();
    bench.change(10..13);
    let told = bench.back_up_to(&url);
    let sent = passing.sent();
    assert!(
        told.contains("the rest is as in the image before"),
        "{told}"
    );
    assert!(sent * 100 < full * 8, "{sent} of {full}");
    bench.is_of_the_disk(server.get("/share/m/sda.raw.gz").body);
    // In the middle of what would be copied: the server has read it.
    let mut image = server.get("/share/m/sda.raw.gz").body;
    let middle = image.len() / 3;
    image[middle] ^= 4;
    assert_eq!(server.put("/share/m/sda.raw.gz", &image).status, 204);
    bench.change([10]);
    let told = bench.back_up_to(&url);
    assert!(told.contains("the image before is damaged"), "{told}");
    bench.is_of_the_disk(server.get("/share/m/sda.raw.gz").body);
    // In zeros, which the machine sends, and the store would copy.
    let mut image = server.get("/share/m/sda.raw.gz").body;
    let zeros = zeros_of(&image);
    image[zeros.start + zeros.len() / 2] ^= 4;
    assert_eq!(server.put("/share/m/sda.raw.gz", &image).status, 204);
    bench.change([10]);
    let told = bench.back_up_to(&url);
    assert!(
        told.contains("the rest is as in the image before"),
        "{told}"
    );
    bench.is_of_the_disk(server.get("/share/m/sda.raw.gz").body);
}

/// Where the first chunk of zeros of an image is: a member that is small. Each has its size in its head.
fn zeros_of(image: &[u8]) -> Range<usize> {
    let mut at = 0;
    loop {
        let size = u32::from_le_bytes(image[at + 16..at + 20].try_into().unwrap());
        let size = usize::try_from(size).unwrap();
        if size < MIB / 2 {
            return at..at + size;
        }
        at += size;
    }
}

fn is_copy(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.starts_with("put ") && head.contains("x-amz-copy-source-range: ")
}

#[test]
fn five_percent_changed_are_less_than_eight_percent_sent_to_a_store() {
    let mut bench = Bench::new(84);
    let passing = Passing::to(bench.store());
    bench.back_up(&passing);
    let full = passing.sent();
    bench.is_whole();
    bench.change(20..24);
    let told = bench.back_up(&passing);
    let sent = passing.sent();
    assert!(
        told.contains("the rest is as in the image before"),
        "{told}"
    );
    assert!(sent * 100 < full * 8, "{sent} of {full}");
    bench.is_whole();
    // Nothing has changed; and an image that was made so is as good as any to begin with.
    bench.back_up(&passing);
    let sent = passing.sent();
    assert!(sent * 100 < full, "{sent} of {full}");
    bench.is_whole();
}

#[test]
fn where_the_store_cannot_be_relied_on_all_is_sent() {
    let mut bench = Bench::new(28);
    let plain = Passing::to(bench.store());
    bench.back_up(&plain);
    let full = plain.sent();
    // moto copies whatever is under the name: the machine looks again.
    // What passes things on outlives the test, and must not keep a store.
    let (moto, swapped) = (Arc::downgrade(&bench.moto), AtomicU64::new(0));
    let replaced = Passing::with(bench.store(), move |head| {
        if is_copy(head) && swapped.fetch_add(1, Ordering::SeqCst) == 0 {
            let moto = moto.upgrade().unwrap();
            moto.put(KEY, &vec![7; 28 << 20]);
        }
        None
    });
    bench.change([20]);
    let told = bench.back_up(&replaced);
    assert!(told.contains("the image before was replaced"), "{told}");
    assert!(replaced.sent() >= full);
    bench.is_whole();

    let unable = Passing::with(bench.store(), |head| {
        let refusal =
            "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        is_copy(head).then_some(refusal)
    });
    bench.change([21]);
    let told = bench.back_up(&unable);
    assert!(told.contains("all of the new one is sent"), "{told}");
    bench.is_whole();

    // A bit of a member that is too near to what changed to be copied.
    let mut image = bench.image();
    image[200 << 10] ^= 4;
    bench.moto.put(KEY, &image);
    bench.change([3]);
    let told = bench.back_up(&plain);
    assert!(told.contains("the image before is damaged"), "{told}");
    bench.is_whole();
}
