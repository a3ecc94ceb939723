//! The users file on the disk: read anew when it changes, changed by one at a time.

use crate::book::{Book, Hash, Refused};
use crate::files::{Stamp, make_private_folder, open_private, replace};
use crate::password;
use crate::role::Role;
use anyhow::Context;
use jiff::Timestamp;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Below the root.
pub const FOLDER: &str = "people";
const USERS: &str = "users.toml";
const LOCK: &str = "lock";
/// Bytes. No lab has so many users.
const LARGEST: u64 = 16 << 20;

/// The users file cannot be used: then nobody gets in, not even where there would be no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

/// The users of a root.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    stamp: Stamp,
    book: Result<Arc<Book>, Trouble>,
}

impl Store {
    pub fn at(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
            seen: Mutex::default(),
        }
    }

    /// The folder of everything about people.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn users(&self) -> PathBuf {
        self.folder.join(USERS)
    }

    /// The users as the file has them now.
    ///
    /// # Errors
    /// It cannot be read, makes no sense, or was there and is gone.
    pub fn book(&self) -> Result<Arc<Book>, Trouble> {
        let before = self.lock().clone();
        let path = self.users();
        let trouble = |what: String| Trouble(format!("reading {}: {what}", path.display()));
        let stamp = match fs::metadata(&path) {
            Ok(file) if file.len() > LARGEST => return Err(trouble("it is too large".into())),
            Ok(file) => Stamp::of(&file),
            Err(error) if error.kind() == ErrorKind::NotFound && before.is_none() => {
                return Ok(Arc::default());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(trouble(
                    "it is gone: put it back, or restart the server to go on without users".into(),
                ));
            }
            Err(error) => return Err(trouble(error.to_string())),
        };
        if let Some(seen) = before
            && seen.stamp == stamp
            && stamp.is_settled()
        {
            return seen.book;
        }
        let book = fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| Book::parse(&text))
            .map(Arc::new)
            .map_err(trouble);
        *self.lock() = Some(Seen {
            stamp,
            book: book.clone(),
        });
        book
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the users file, one at a time, whoever does it: commands and servers.
    ///
    /// # Errors
    /// What `change` refuses, as [`Refused`]; a file that cannot be read or written.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Book) -> Result<T, Refused>,
    ) -> anyhow::Result<T> {
        let doing = || format!("writing {}", self.users().display());
        make_private_folder(&self.folder)
            .with_context(|| format!("making {}", self.folder.display()))?;
        let lock =
            open_private(&self.folder, LOCK, OpenOptions::new().write(true)).with_context(doing)?;
        lock.lock().with_context(doing)?;
        let mut book = Book::clone(&*self.book()?);
        let made = change(&mut book)?;
        let text = book.to_toml().with_context(doing)?;
        replace(&self.folder, USERS, &text).with_context(doing)?;
        Ok(made)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// As [`change`](Self::change); a password that is empty or too long.
    pub fn add(&self, name: &str, role: Role, password: &str) -> anyhow::Result<()> {
        let hash = Hash(password::hash(password)?);
        self.change(|book| book.add(name, role, hash, Timestamp::now()))
    }

    /// Gives a user another password. Their sessions are over.
    ///
    /// # Errors
    /// As [`change`](Self::change); a password that is empty or too long.
    pub fn set_password(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let hash = Hash(password::hash(password)?);
        self.change(|book| book.set_password(name, hash, Timestamp::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_who_has_read_before() {
        let root = tempfile::tempdir().unwrap();
        let (server, command) = (Store::at(root.path()), Store::at(root.path()));
        assert!(server.book().unwrap().is_empty());
        for name in ["ann", "bob", "eve"] {
            command.add(name, Role::Admin, "pw").unwrap();
            assert!(server.book().unwrap().users.contains_key(name));
        }
        command.change(|book| book.remove("bob", false)).unwrap();
        assert_eq!(server.book().unwrap().users.len(), 2);
    }

    #[test]
    fn a_file_that_is_wrong_or_gone_is_no_root_without_users() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        store.add("ann", Role::Admin, "pw").unwrap();
        store.book().unwrap();
        let path = store.users();
        let good = fs::read(&path).unwrap();
        fs::write(&path, "version = 1\nuser = 7\n").unwrap();
        let error = store.book().unwrap_err().to_string();
        assert!(error.contains("users.toml: line 2"), "{error}");
        assert!(store.add("eve", Role::Admin, "pw").is_err());
        fs::remove_file(&path).unwrap();
        assert!(store.book().unwrap_err().to_string().contains("is gone"));
        fs::write(&path, good).unwrap();
        assert!(store.book().unwrap().users.contains_key("ann"));
    }

    #[test]
    fn of_many_writers_none_loses_the_change_of_another() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = Store::at(root.path());
                scope.spawn(move || {
                    let hash = Hash("$argon2id$".into());
                    let name = format!("user{number}");
                    store
                        .change(|book| book.add(&name, Role::Viewer, hash, Timestamp::now()))
                        .unwrap();
                });
            }
        });
        assert_eq!(Store::at(root.path()).book().unwrap().users.len(), 8);
    }
}
