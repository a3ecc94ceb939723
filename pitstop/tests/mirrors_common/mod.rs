//! An image on a share, and servers that have it too.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use crate::common::{Server, pitstop, run};
use pitstop_transport::fetch::fake::FakeServer;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

pub const MIB: usize = 1 << 20;
pub const PATH: &str = "golden/sda.raw.gz";

/// An image of noise, and what it is of.
pub struct Image {
    pub raw: Vec<u8>,
    pub file: Vec<u8>,
    /// 64 hex digits.
    pub digest: String,
}

impl Image {
    /// Of so many MiB.
    pub fn new(folder: &Path, seed: u64, mib: usize) -> Self {
        let mut raw = vec![0; mib * MIB];
        fastrand::Rng::with_seed(seed).fill(&mut raw);
        let (disk, image) = (folder.join("disk"), folder.join("made.raw.gz"));
        fs::write(&disk, &raw).unwrap();
        let (disk, path) = (disk.to_str().unwrap(), image.to_str().unwrap());
        let done = run(&["backup", "--exact", "--force", disk, path]);
        assert!(done.status.success(), "{done:?}");
        let told = run(&["inspect", "--json", path]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let digest = told["digest"].as_str().unwrap();
        Self {
            raw,
            file: fs::read(&image).unwrap(),
            digest: digest.strip_prefix("blake3:").unwrap().to_owned(),
        }
    }

    /// The path under which a server has it by its digest.
    pub fn by_digest(&self) -> String {
        format!("/images/blake3/{}/sda.raw.gz", self.digest)
    }

    /// With a bit of its data flipped, which its end does not tell.
    pub fn flipped(&self) -> Vec<u8> {
        let mut file = self.file.clone();
        let middle = file.len() / 2;
        file[middle] ^= 1;
        file
    }

    pub fn onto(&self, server: &Server) {
        let path = server.path("share").join(PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &self.file).unwrap();
    }

    /// Whether `disk` holds what it is of.
    pub fn is_on(&self, disk: &Path) -> bool {
        fs::read(disk).unwrap() == self.raw
    }

    /// Restores `url` to a new disk in `folder`, with more arguments; what was said.
    pub fn restore(&self, url: &str, folder: &Path, arguments: &[&str]) -> String {
        let disk = folder.join("target");
        let done = self.try_restore(url, &disk, arguments);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        assert!(self.is_on(&disk), "{said}");
        said
    }

    pub fn try_restore(&self, url: &str, disk: &Path, arguments: &[&str]) -> Output {
        fs::write(disk, vec![0xee; self.raw.len()]).unwrap();
        pitstop()
            .args(["restore", "--delta=false", url])
            .arg(disk)
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// A server that has `file` at `path`.
pub fn fake(path: &str, file: &[u8]) -> FakeServer {
    let server = FakeServer::start();
    server.put(path, file);
    server
}

/// The URL of a server without a slash at its end.
pub fn url(server: &FakeServer) -> String {
    server.url("").as_str().trim_end_matches('/').to_owned()
}

/// A mirror of `origin` whose root is in `folder`.
pub fn mirror_of(origin: &str, folder: &Path, arguments: &[&str]) -> Server {
    let arguments = [&["--mirror-of", origin][..], arguments].concat();
    Server::start_in(&root(folder), &arguments)
}

pub fn root(folder: &Path) -> PathBuf {
    let root = folder.join("mirror-root");
    fs::create_dir_all(&root).unwrap();
    root
}
