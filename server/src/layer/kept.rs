//! Tars that were made: as long as a folder is as it was, all machines get the same one, and it is packed once.

use super::packed;
use crate::file::Facts;
use cap_std::fs::{Dir, File, Metadata, MetadataExt};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// So many are kept, on the share's disk: a site has a few layers.
const MOST: usize = 16;
/// What changed so lately may change again without a sign: the clock of files is coarse. Seconds.
const FRESH: i64 = 2;

#[derive(Default)]
pub struct Kept {
    made: Mutex<HashMap<String, Arc<Mutex<Option<Tar>>>>>,
}

struct Tar {
    state: State,
    file: File,
    facts: Facts,
}

/// What a folder looks like without reading its files, and when something in it changed last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    hash: blake3::Hash,
    changed: i64,
}

impl Kept {
    /// The tar of a folder, which has this name: the one that was made before, where the folder is still the same. Of several
    /// who ask at once one makes it, and the others wait.
    pub fn get(&self, share: &Dir, name: &str, folder: &Dir) -> io::Result<(File, Facts)> {
        let place = self.place(name);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state(folder)?;
        if let Some(tar) = place.as_ref().filter(|tar| tar.state == before) {
            return Ok((again(&tar.file)?, tar.facts.clone()));
        }
        let (file, facts) = packed(share, folder)?;
        let settled = before.changed + FRESH < now() && state(folder)? == before;
        *place = if settled {
            Some(Tar {
                state: before,
                file: again(&file)?,
                facts: facts.clone(),
            })
        } else {
            None
        };
        Ok((file, facts))
    }

    fn place(&self, name: &str) -> Arc<Mutex<Option<Tar>>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST && !made.contains_key(name) {
            made.clear();
        }
        Arc::clone(made.entry(name.to_owned()).or_default())
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Opened once more, so that each who reads has a place of his own in it. It has no name, and is found by its number.
fn again(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::File::open(path).map(File::from_std)
}

fn state(folder: &Dir) -> io::Result<State> {
    let mut hasher = blake3::Hasher::new();
    let mut changed = i64::MIN;
    look(folder, &mut hasher, &mut changed)?;
    Ok(State {
        hash: hasher.finalize(),
        changed,
    })
}

fn look(folder: &Dir, hasher: &mut blake3::Hasher, changed: &mut i64) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in folder.entries()? {
        names.push(entry?.file_name());
    }
    names.sort();
    hasher.update(&(names.len() as u64).to_le_bytes());
    for name in names {
        let found = folder.symlink_metadata(&name)?;
        let bytes = name.as_encoded_bytes();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
        hasher.update(&facts(&found));
        *changed = (*changed).max(found.ctime());
        if found.is_dir() {
            look(&folder.open_dir(&name)?, hasher, changed)?;
        }
    }
    Ok(())
}

/// What changes whenever a file does.
fn facts(found: &Metadata) -> [u8; 56] {
    let mut facts = [0; 56];
    let numbers = [
        found.dev(),
        found.ino(),
        found.len(),
        found.mode().into(),
        found.mtime().cast_unsigned(),
        found.ctime().cast_unsigned(),
        found.ctime_nsec().cast_unsigned(),
    ];
    for (place, number) in facts.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    /// Waits until what was changed may be kept.
    fn settle() {
        let begun = now();
        while now() <= begun + FRESH {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_tar_is_made_once_and_anew_when_the_folder_changed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("base");
        let begun = now();
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/motd"), "one").unwrap();
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let kept = Kept::default();
        let get = || {
            kept.get(&share, "base", &share.open_dir("base").unwrap())
                .unwrap()
        };
        let is_kept = || kept.place("base").lock().unwrap().is_some();
        get();
        // Unless the computer was busy for longer than that.
        assert!(!is_kept() || now() > begun + FRESH, "it may change yet");
        settle();
        let first = get();
        assert!(is_kept());
        let read = |mut file: File| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        // Two who read have each a place of their own.
        let (one, other) = (get().0, get().0);
        let bytes = read(first.0);
        assert_eq!((read(one), read(other)), (bytes.clone(), bytes.clone()));
        let change = |act: &dyn Fn(&Path)| {
            act(&folder.join("etc/motd"));
            let (file, facts) = get();
            assert_ne!(facts.tag, first.1.tag);
            assert_ne!(read(file), bytes);
        };
        change(&|file| fs::write(file, "two").unwrap());
        change(&|file| fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap());
        change(&|file| fs::rename(file, file.with_file_name("issue")).unwrap());
    }
}
