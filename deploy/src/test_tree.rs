//! A small system for tests: busybox and nothing else.

use crate::root::Root;
use pitstop_imaging::event::{Event, Reporter};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A folder with files of these contents; it is gone with the first value.
pub fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (path, contents) in files {
        put(folder.path(), path, contents);
    }
    let root = Root::new(folder.path().to_owned());
    (folder, root)
}

pub fn put(root: &Path, path: &str, contents: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// The text of a file.
pub fn text(root: &Root, path: &str) -> String {
    fs::read_to_string(root.path().join(path)).unwrap()
}

/// Puts a program into the tree.
pub fn script(root: &Root, path: &str, lines: &str) {
    put(root.path(), path, &format!("#!/bin/sh\n{lines}\n"));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.path().join(path), mode).unwrap();
}

/// Puts a shell and the small programs into the tree.
pub fn with_shell(root: &Root) {
    let bin = root.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox")).expect("install busybox-static");
    for name in [
        "sh", "cat", "chmod", "echo", "env", "grep", "hostname", "id", "kill", "ls", "mkdir",
        "mount", "ps", "readlink", "rm", "setsid", "sleep", "stat", "test", "touch", "true",
    ] {
        let link = bin.join(name);
        if !link.exists() {
            symlink("busybox", link).unwrap();
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    pub fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn has(&self, words: &str) -> bool {
        self.lines().iter().any(|line| line.contains(words))
    }
}

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(text.clone());
        }
    }
}
