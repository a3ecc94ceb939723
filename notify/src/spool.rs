//! Notices that are not delivered yet: a folder for each receiver, a file for each notice, so that a restart loses none.

use crate::notice::Notice;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Below the root.
pub const FOLDER: &str = "notices";
/// Of one receiver: what is older goes.
pub const MOST: usize = 500;
/// Bytes of a notice; a reason is no novel.
const LARGEST: u64 = 64 << 10;

/// One receiver's notices.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    pub fn of(root: &Path, receiver: &str) -> Self {
        Self {
            folder: root.join(FOLDER).join(receiver),
        }
    }

    /// Puts a notice in. Returns how many older ones had to go for it.
    pub fn put(&self, notice: &Notice) -> io::Result<usize> {
        fs::create_dir_all(&self.folder)?;
        let text = serde_json::to_string(notice).map_err(io::Error::other)?;
        let name = self.file(notice.id.as_str());
        let beside = name.with_extension("new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &name)?;
        let ids = self.ids()?;
        let many = ids.len().saturating_sub(MOST);
        for old in &ids[..many] {
            self.remove(old)?;
        }
        Ok(many)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(id).with_extension("json")
    }

    /// The identifiers of all, the oldest first.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.strip_suffix(".json"))
                    .map(str::to_owned),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The oldest. One that cannot be read is put away, and is an error once.
    pub fn first(&self) -> io::Result<Option<Notice>> {
        let Some(id) = self.ids()?.into_iter().next() else {
            return Ok(None);
        };
        let path = self.file(&id);
        let read = || -> io::Result<Notice> {
            if fs::metadata(&path)?.len() > LARGEST {
                return Err(ErrorKind::FileTooLarge.into());
            }
            serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)
        };
        match read() {
            // Its file is found again by what it says.
            Ok(notice) if notice.id.as_str() == id => Ok(Some(notice)),
            Ok(_) => {
                self.remove(&id)?;
                Err(io::Error::other(format!(
                    "{} is not the notice of its name",
                    path.display()
                )))
            }
            Err(error) => {
                self.remove(&id)?;
                let kind = error.kind();
                Err(io::Error::new(kind, format!("{}: {error}", path.display())))
            }
        }
    }

    pub fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Drops all. Returns how many there were.
    pub fn clear(&self) -> io::Result<usize> {
        let count = self.ids()?.len();
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(count),
        }
    }
}

/// The receivers for whom something lies there.
pub fn receivers(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn notice(number: u32) -> Notice {
        let id = pitstop_protocol::id::Id::new(Timestamp::UNIX_EPOCH, number);
        Notice::test(id, "http://srv".into())
    }

    fn first(spool: &Spool) -> pitstop_protocol::id::Id {
        spool.first().unwrap().unwrap().id
    }

    #[test]
    fn notices_come_out_in_order_and_the_oldest_go_when_there_are_too_many() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::of(root.path(), "x");
        assert!(spool.first().unwrap().is_none());
        for number in 0..3 {
            spool.put(&notice(number)).unwrap();
        }
        assert_eq!(first(&spool), notice(0).id);
        spool.remove(notice(0).id.as_str()).unwrap();
        assert_eq!(first(&spool), notice(1).id);
        assert_eq!(receivers(root.path()).unwrap(), ["x"]);
        let most = u32::try_from(MOST).unwrap();
        let lost: usize = (3..most + 2).map(|n| spool.put(&notice(n)).unwrap()).sum();
        assert_eq!((lost, spool.ids().unwrap().len()), (1, MOST));
        assert_eq!(spool.clear().unwrap(), MOST);
    }

    #[test]
    fn what_is_no_notice_stops_no_other() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::of(root.path(), "x");
        spool.put(&notice(7)).unwrap();
        let folder = root.path().join(FOLDER).join("x");
        fs::write(folder.join("0.json"), "{").unwrap();
        fs::write(folder.join("half.new"), "{").unwrap();
        assert!(spool.first().unwrap_err().to_string().contains("0.json"));
        assert_eq!(first(&spool), notice(7).id);
    }
}
