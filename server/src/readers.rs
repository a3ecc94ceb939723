//! Who read which host file: kept below the root, so that a machine that read its job before the server was started
//! anew may still delete it.
//!
//! A small text for each host file, an address a line. Lines are only ever added, so that two requests need no lock;
//! what is no address is skipped, whatever happened to the file.

use crate::path::RelPath;
use crate::write::replace;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Below the root.
const FOLDER: &str = "readers";

/// Machines that are remembered for one file; more than that is not a machine looking for its job.
const MOST: usize = 64;

/// The most bytes of a text: 64 of the longest addresses are fewer.
const LARGEST: u64 = 4096;

/// A host file's path as one name.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

#[derive(Debug)]
pub struct Readers {
    root: PathBuf,
    /// Whoever read since the server began. What is here is known without looking at the disk.
    seen: Mutex<HashMap<RelPath, HashSet<IpAddr>>>,
}

impl Readers {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            seen: Mutex::default(),
        }
    }

    /// Notes that `peer` read the host file at `path`.
    ///
    /// # Errors
    /// It could not be written down: it is remembered until the server ends.
    pub fn add(&self, path: &RelPath, peer: IpAddr) -> io::Result<()> {
        let is_new = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let peers = seen.entry(path.clone()).or_default();
            if peers.len() == MOST {
                peers.clear();
            }
            peers.insert(peer)
        };
        if is_new {
            self.write_down(&file_name(path), peer)
        } else {
            Ok(())
        }
    }

    /// Whether `peer` read the host file at `path`, now or before the server was started.
    pub fn has(&self, path: &RelPath, peer: IpAddr) -> bool {
        let seen = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(path).is_some_and(|peers| peers.contains(&peer))
        };
        // A file that cannot be read vouches for nobody.
        seen || self
            .folder()
            .and_then(|folder| read(&folder, &file_name(path)))
            .is_ok_and(|text| addresses(&text).any(|address| address == peer))
    }

    /// Forgets who read a host file that is gone.
    pub fn forget(&self, path: &RelPath) {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.remove(path);
        }
        // One that stays is removed when the server starts the next time.
        let _ = self
            .folder()
            .and_then(|folder| folder.remove_file(file_name(path)));
    }

    /// Forgets all files for which `is_there` says no. The admin may have removed them while no server ran.
    pub fn tidy(&self, is_there: impl Fn(&RelPath) -> bool) {
        let Ok(folder) = self.folder() else {
            return;
        };
        for entry in folder.entries().into_iter().flatten().flatten() {
            let name = entry.file_name();
            let known = name.to_str().and_then(|name| {
                let path = percent_decode_str(name).decode_utf8().ok()?;
                RelPath::from_text(&path).ok()
            });
            if !known.is_some_and(|path| is_there(&path)) {
                // It is read by nobody: that it stays costs a few bytes.
                let _ = folder.remove_file(&name);
            }
        }
    }

    fn folder(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(self.root.join(FOLDER), ambient_authority())
    }

    fn write_down(&self, name: &str, peer: IpAddr) -> io::Result<()> {
        let folder = match self.folder() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let root = Dir::open_ambient_dir(&self.root, ambient_authority())?;
                match root.create_dir(FOLDER) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                    _ => root.open_dir(FOLDER)?,
                }
            }
            folder => folder?,
        };
        let text = match read(&folder, name) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut known = 0;
        for address in addresses(&text) {
            if address == peer {
                return Ok(());
            }
            known += 1;
        }
        let mut line = String::new();
        if !text.is_empty() && !text.ends_with('\n') {
            line.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(line, "{peer}");
        if known >= MOST || (text.len() + line.len()) as u64 > LARGEST {
            return replace(&folder, name, line.trim_start());
        }
        let mut options = OpenOptions::new();
        let mut file = folder.open_with(name, options.append(true).create(true))?;
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }
}

/// Not a path that leads anywhere: a name that is too long for a file is refused when it is opened.
fn file_name(path: &RelPath) -> String {
    utf8_percent_encode(path.as_str(), NAME).to_string()
}

fn read(folder: &Dir, name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    folder
        .open(name)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn addresses(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| line.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::from_text(text).unwrap()
    }

    fn peer(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn a_damaged_file_vouches_for_who_is_left_in_it() {
        let root = tempfile::tempdir().unwrap();
        let web = path("rack1/web é.toml");
        Readers::new(root.path()).add(&web, peer(1)).unwrap();
        let name = root.path().join(FOLDER).join("rack1%2Fweb%20%C3%A9.toml");
        let mut bytes = std::fs::read(&name).unwrap();
        bytes.extend(b"\xff\xfe\n203.0.113.2\nnonsense\n203.0.1");
        std::fs::write(&name, bytes).unwrap();
        let readers = Readers::new(root.path());
        readers.add(&web, peer(3)).unwrap();
        let readers = Readers::new(root.path());
        let known: Vec<u8> = (0..9)
            .filter(|last| readers.has(&web, peer(*last)))
            .collect();
        assert_eq!(known, [1, 2, 3]);
    }

    #[test]
    fn no_file_grows_without_end_and_none_outlives_its_host_file() {
        let root = tempfile::tempdir().unwrap();
        let readers = Readers::new(root.path());
        let (mine, gone) = (path("a.toml"), path("b.toml"));
        for number in 0..1000_u16 {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, number);
            readers.add(&mine, address.into()).unwrap();
        }
        readers.add(&gone, peer(1)).unwrap();
        let size =
            |name: &str| std::fs::metadata(root.path().join(FOLDER).join(name)).map(|m| m.len());
        assert!(size("a.toml").unwrap() <= LARGEST);
        readers.tidy(|path| *path == mine);
        assert!(size("b.toml").is_err());
        readers.forget(&mine);
        assert!(size("a.toml").is_err());
        assert!(!readers.has(&mine, peer(1)));
    }

    #[test]
    fn a_root_that_takes_no_files_is_an_error_and_the_server_remembers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(FOLDER), "").unwrap();
        let readers = Readers::new(root.path());
        assert!(readers.add(&path("a.toml"), peer(1)).is_err());
        assert!(readers.has(&path("a.toml"), peer(1)));
        assert!(!readers.has(&path("a.toml"), peer(2)));
    }
}
