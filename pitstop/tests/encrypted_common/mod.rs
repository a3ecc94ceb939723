//! What the tests of encryption share.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use std::fs;
use std::process::{Command, Stdio};

/// Keys of age-keygen's, and a disk.
pub struct Lab {
    pub folder: tempfile::TempDir,
}

pub fn tool(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["lab.txt", "other.txt"] {
            tool(Command::new("age-keygen").arg("-o").arg(lab.at(name)));
        }
        let numbers = (0u32..300_000).map(|it| it.wrapping_mul(2_654_435_761));
        let disk: Vec<u8> = numbers
            .flat_map(u32::to_le_bytes)
            .chain(std::iter::repeat_n(0, 2 << 20))
            .collect();
        let whole = disk.len() / 512 * 512;
        fs::write(lab.at("disk"), &disk[..whole]).unwrap();
        lab
    }

    pub fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    pub fn recipient(&self, name: &str) -> String {
        let public = tool(Command::new("age-keygen").arg("-y").arg(self.at(name)));
        String::from_utf8(public).unwrap().trim().to_owned()
    }

    /// A target with something on it.
    pub fn target(&self) -> String {
        let disk = self.read("disk").len();
        fs::write(self.at("target"), vec![9; disk]).unwrap();
        self.at("target")
    }

    pub fn is_restored(&self) {
        assert!(self.read("target") == self.read("disk"));
    }

    pub fn is_untouched(&self) {
        assert!(self.read("target").iter().all(|byte| *byte == 9));
    }
}
