//! Logs on a store: nothing can be appended to an object, so each run has one of its own, in a folder with the log's name:
//! `maintenance.log.d/20261129-013000-1f2e3d4c.log`. In the order of their names they are the log.

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
pub(super) struct Logs(Mutex<HashMap<String, Arc<Mutex<Log>>>>);

#[derive(Default)]
struct Log {
    /// Of the object; empty before the first line.
    key: String,
    text: String,
}

impl Logs {
    pub fn append(&self, store: &Store, log: &str, text: &str) -> anyhow::Result<()> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = Arc::clone(logs.entry(log.to_owned()).or_default());
        drop(logs);
        // Lines of one log follow each other; other logs do not wait.
        let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
        if one.key.is_empty() || one.text.len() + text.len() > LONGEST {
            let now = Timestamp::now().strftime("%Y%m%d-%H%M%S");
            let key = format!("{log}.d/{now}-{:08x}.log", fastrand::u32(..));
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
