//! Logs on a store: nothing can be appended to an object, so each run has one of its own, in a folder with the log's name:
//! `maintenance.log.d/20261129-013000-1f2e3d4c.log`, and of a machine `…-1f2e3d4c-10.0.2.15.log`. In the order of their names
//! they are the log.

use super::Store;
use super::sign::Ask;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of one object: it is written anew with each line, so it does not grow for ever.
const LONGEST: usize = 256 << 10;

/// What this run has written, by the log's key.
#[derive(Default)]
pub(super) struct Logs {
    /// The machine's folder, where a machine writes.
    writer: Option<String>,
    open: Mutex<HashMap<String, Arc<Mutex<Log>>>>,
}

#[derive(Default)]
struct Log {
    /// Of the object; empty before the first line.
    key: String,
    text: String,
}

impl Logs {
    pub fn of(writer: Option<String>) -> Self {
        Self {
            writer,
            open: Mutex::default(),
        }
    }

    pub fn append(&self, store: &Store, log: &str, text: &str) -> anyhow::Result<()> {
        let mut logs = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let one = Arc::clone(logs.entry(log.to_owned()).or_default());
        drop(logs);
        // Lines of one log follow each other; other logs do not wait.
        let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
        if one.key.is_empty() || one.text.len() + text.len() > LONGEST {
            let now = Timestamp::now().strftime("%Y%m%d-%H%M%S");
            let writer = self.writer.as_ref().map(|writer| format!("-{writer}"));
            let writer = writer.unwrap_or_default();
            let key = format!("{log}.d/{now}-{:08x}{writer}.log", fastrand::u32(..));
            *one = Log {
                key,
                text: String::new(),
            };
        }
        let whole = format!("{}{text}", one.text);
        let body = Bytes::from(whole.clone());
        store.done(&Ask::Put, &one.key, &body)?;
        one.text = whole;
        Ok(())
    }
}
