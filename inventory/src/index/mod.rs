//! An index over facts and runs, in `SQLite`. Whatever is wrong with it, it is thrown away and made again: the files are the truth.

mod fill;
mod runs;
mod schema;
mod search;

pub use fill::Named;
pub use runs::RunRow;
pub use search::Hit;

use crate::owner;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Beside the machines' folders.
const FILE: &str = "index.sqlite";
/// Another process may be filling it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is empty now, and to be filled anew.
    #[error("the index was damaged, and is made again: {0}")]
    Damaged(rusqlite::Error),
    #[error("the index {0}: {1}")]
    File(PathBuf, io::Error),
    #[error("the index: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The index of an inventory's folder. Threads take turns.
#[derive(Debug)]
pub struct Index {
    /// None: it is in memory.
    path: Option<PathBuf>,
    connection: Mutex<Connection>,
}

impl Index {
    /// The index in `folder`, made if it is missing, damaged or of another version.
    ///
    /// # Errors
    /// It can be neither used nor made.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        if let Err(error) = fs::create_dir(folder) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(IndexError::File(folder.to_owned(), error));
            }
        } else {
            owner::as_its_folder(folder).map_err(|e| IndexError::File(folder.to_owned(), e))?;
        }
        let path = folder.join(FILE);
        let connection = match connect(&path).and_then(usable) {
            Ok(connection) => connection,
            Err(error) if is_damage(&error) => anew(&path)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path: Some(path),
            connection: Mutex::new(connection),
        })
    }

    /// For whoever may not write to the folder.
    ///
    /// # Errors
    /// `SQLite`'s: there is no memory.
    pub fn in_memory() -> Result<Self, IndexError> {
        Ok(Self {
            path: None,
            connection: Mutex::new(usable(Connection::open_in_memory()?)?),
        })
    }

    /// Does `work` with the database; where that shows that it is damaged, it is made anew, empty.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let error = match work(&mut connection) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !is_damage(&error) {
            return Err(error.into());
        }
        *connection = match &self.path {
            Some(path) => anew(path)?,
            None => usable(Connection::open_in_memory()?)?,
        };
        Err(IndexError::Damaged(error))
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // SQLite gives what it makes later to the owner of this file.
    let _ = owner::as_its_folder(path);
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

/// With the tables of this version: those of another one are dropped.
fn usable(mut connection: Connection) -> rusqlite::Result<Connection> {
    schema::make(&mut connection)?;
    Ok(connection)
}

fn anew(path: &Path) -> Result<Connection, IndexError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let name = PathBuf::from(name);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(IndexError::File(name, error));
            }
            _ => {}
        }
    }
    Ok(usable(connect(path)?)?)
}

/// Whether making it anew would help.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SchemaChanged
        ),
        // What was stored is of another type than what was put in.
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
