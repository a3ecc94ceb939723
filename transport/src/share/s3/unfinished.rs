//! Uploads that have not ended: whether one can be gone on with, and whether somebody is at one.

use super::answer::{elements, more_parts, text, time, value};
use super::sign::Ask;
use super::{S3Share, Store};
use crate::fetch::http::Response;
use anyhow::bail;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::StatusCode;

/// An upload that has not ended.
struct Begun {
    key: String,
    id: String,
    at: Option<Timestamp>,
}

/// The uploads that are told, and whether there are more.
fn uploads(mut response: Response) -> anyhow::Result<(Vec<Begun>, bool)> {
    let text = text(&mut response)?;
    let begun = |upload| {
        Some(Begun {
            key: value(upload, "Key")?,
            id: value(upload, "UploadId")?,
            at: time(upload, "Initiated"),
        })
    };
    let more = value(&text, "IsTruncated").is_some_and(|more| more == "true");
    Ok((elements(&text, "Upload").filter_map(begun).collect(), more))
}

/// The newest upload of `key` that has not ended.
pub(super) fn newest_upload(response: Response, key: &str) -> anyhow::Result<Option<String>> {
    let (uploads, _) = uploads(response)?;
    let of_key = uploads.into_iter().filter(|upload| upload.key == key);
    Ok(of_key
        .max_by_key(|upload| upload.at)
        .map(|newest| newest.id))
}

impl S3Share {
    /// When anything last came of an upload to `path` that has not ended; `None` where there is none. By the store's clock.
    ///
    /// # Errors
    /// The store does not tell.
    pub fn last_upload(&self, path: &str) -> anyhow::Result<Option<Timestamp>> {
        let key = self.key(path)?;
        let response = self.store.done(&Ask::Uploads, &key, &Bytes::new())?;
        let asked = response.asked();
        let (uploads, more) = uploads(response)?;
        if more {
            bail!(
                "{asked}: the store has more unfinished uploads than it tells at once: have it delete what nobody goes on with"
            );
        }
        let mut last = None;
        // Asked for by a prefix. MinIO tells those of just this key, others all that begin with it.
        for upload in uploads.into_iter().filter(|upload| upload.key == key) {
            let part = self.store.newest_part(&upload)?;
            last = last.max(upload.at).max(part);
        }
        Ok(last)
    }
}

impl Store {
    /// When the newest part of an upload came.
    fn newest_part(&self, upload: &Begun) -> anyhow::Result<Option<Timestamp>> {
        let (mut newest, mut after) = (None, 0);
        loop {
            let ask = Ask::Parts {
                upload: upload.id.as_str().into(),
                after,
            };
            let mut response = self.ask(&ask, &upload.key, &Bytes::new())?;
            match response.status() {
                StatusCode::OK => {}
                // It has ended.
                StatusCode::NOT_FOUND => return Ok(newest),
                _ => return Err(self.refused(response)),
            }
            let text = text(&mut response)?;
            let times = elements(&text, "Part").filter_map(|part| time(part, "LastModified"));
            newest = newest.max(times.max());
            match more_parts(&text) {
                Some(next) if next > after => after = next,
                _ => return Ok(newest),
            }
        }
    }
}
