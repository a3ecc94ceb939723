//! A file of a folder as messages call it, and what an error there means: on a server something else helps than here.

use anyhow::anyhow;
use nix::errno::Errno;
use std::fmt;
use std::io;

/// Who keeps a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// This machine.
    Here,
    /// Who carries it from machine to machine.
    Stick,
    /// The server of a share that is mounted.
    Server,
}

/// The name of a file or a folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    name: String,
    keeper: Keeper,
}

impl Place {
    pub(super) fn new(name: String, keeper: Keeper) -> Self {
        Self { name, keeper }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A file in this folder.
    pub(super) fn file(&self, path: &str) -> Self {
        Self {
            name: format!("{}/{path}", self.name.trim_end_matches('/')),
            keeper: self.keeper,
        }
    }

    /// What an error means, in words that say what to do.
    pub(super) fn meaning(&self, error: &io::Error) -> String {
        let meaning = match (self.keeper, error.raw_os_error().map(Errno::from_raw)) {
            (_, None) => None,
            (Keeper::Here, Some(errno)) => here(errno, self.folder()),
            (Keeper::Stick, Some(errno)) => on_stick(errno).map(str::to_owned),
            (Keeper::Server, Some(errno)) => on_server(errno).map(str::to_owned),
        };
        match meaning {
            Some(meaning) => format!("{meaning} ({error})"),
            None => error.to_string(),
        }
    }

    fn folder(&self) -> &str {
        match self.name.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

pub(super) fn explain(act: &str, place: &Place, error: &io::Error) -> anyhow::Error {
    anyhow!("{act} {place}: {}", place.meaning(error))
}

fn here(errno: Errno, folder: &str) -> Option<String> {
    Some(match errno {
        Errno::ENOSPC => format!("{folder} is full: make room there"),
        Errno::EDQUOT => format!("the quota in {folder} is used up: raise it, or make room there"),
        Errno::EROFS => format!("{folder} is read-only: mount it for writing"),
        Errno::EACCES | Errno::EPERM => "not allowed: check the permissions".to_owned(),
        Errno::ENOENT => "there is no such file".to_owned(),
        Errno::EFBIG => format!("the filesystem of {folder} takes no file of this size"),
        _ => return None,
    })
}

fn on_stick(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENOSPC => "the stick is full: make room on it, or take a larger one",
        Errno::EROFS => "the stick is write-protected, or damaged: check it (chkdsk, fsck)",
        Errno::ENOENT => "there is no such file",
        Errno::EFBIG => {
            "its filesystem takes no file of this size (FAT32: 4 GiB): format the stick with exFAT"
        }
        Errno::EIO | Errno::ENODEV | Errno::ENXIO => {
            "the stick does not answer: was it pulled out?"
        }
        _ => return None,
    })
}

fn on_server(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENOSPC => "the share is full: make room on the server",
        Errno::EDQUOT => "the quota on the share is used up: raise it, or make room",
        Errno::EROFS => "the share is read-only: export it for writing (rw)",
        Errno::ESTALE => {
            "the server has replaced the file or the export: when it is in place again, a new try mounts it anew"
        }
        Errno::EACCES | Errno::EPERM => {
            "not allowed: check the permissions (NFS: root may be squashed)"
        }
        Errno::ENOENT => "there is no such file",
        Errno::EFBIG => "the share's filesystem takes no file of this size",
        Errno::ETIMEDOUT => "the server does not answer: is it up, and the network between?",
        Errno::EIO => "input/output error of the share: look at the server's log and disks",
        _ => return None,
    })
}
