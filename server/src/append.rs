//! Uploads in segments: a PUT with a `Content-Range` makes a `.part` file longer, and nobody else's.
//!
//! Each segment is small enough to be held whole before a byte of the file changes, so that a connection that
//! breaks leaves the file as it was. `If-Match` binds a segment to the file that the one before it left: two clients
//! never mix. A rename makes the file safe from a power cut before it gets its name.

use crate::compose;
use crate::file::{self, etag};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use crate::upload::{Received, begin_writeback, check_space, make_parents, sync_folder};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cap_std::fs::{File, OpenOptions};
use cap_tempfile::TempFile;
use headers::{ETag, HeaderMapExt};
use http_body_util::{BodyExt, Limited};
use pitstop_protocol::pieces::MOST_MADE;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// The most bytes of one segment: each client's is held in memory.
const MOST: usize = 4 << 20;

/// The most bytes that one digest is of: those of any segment.
const MOST_DIGESTED: u64 = MOST_MADE;

/// Names that can be appended to: nobody reads such a file before it has another name.
const SUFFIX: &str = ".part";

/// Tells a client that it can append, in the answer to OPTIONS.
const APPENDS: HeaderName = HeaderName::from_static("pitstop-append");

/// Asks for the BLAKE3 of a part of a file, in a HEAD, and tells it.
pub const DIGEST: HeaderName = HeaderName::from_static("pitstop-digest");

/// What OPTIONS says beside the methods.
pub fn offer(path: &RelPath) -> Vec<(HeaderName, HeaderValue)> {
    if path.as_str().ends_with(SUFFIX) {
        vec![(APPENDS, HeaderValue::from(MOST)), compose::offer()]
    } else {
        Vec::new()
    }
}

/// Answers a PUT that has a `Content-Range`.
pub async fn put(
    site: &Arc<Site>,
    path: RelPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (first, length) = position(&headers)?;
    if !path.as_str().ends_with(SUFFIX) {
        return Err(bad(format!(
            "only a name that ends in {SUFFIX} can be appended to"
        )));
    }
    let bytes = Limited::new(body, MOST).collect().await;
    let bytes = bytes
        .map_err(|error| bad(format!("the segment did not come whole: {error}")))?
        .to_bytes();
    let received = bytes.len() as u64;
    let site = Arc::clone(site);
    let room = if compose::is_composed(&headers) {
        Some(compose::room().await?)
    } else {
        None
    };
    let mut response = blocking(move || {
        let _until_the_end = room;
        if !compose::is_composed(&headers) {
            check_length(&bytes, length)?;
            return store(&site, &path, &headers, first, &bytes);
        }
        let bytes = compose::compose(&site, &headers, &bytes)?;
        check_length(&bytes, length)?;
        let mut response = store(&site, &path, &headers, first, &bytes)?;
        // The client does not know what it has not sent: by this it finds it again.
        response.headers_mut().extend([told(blake3::hash(&bytes))?]);
        Ok(response)
    })
    .await?;
    response.extensions_mut().insert(Received(received));
    Ok(response)
}

fn check_length(bytes: &[u8], length: u64) -> Result<(), Refusal> {
    if bytes.len() as u64 == length {
        return Ok(());
    }
    Err(bad(format!(
        "the Content-Range is of {length} bytes, {} came",
        bytes.len()
    )))
}

fn told(hash: blake3::Hash) -> Result<(HeaderName, HeaderValue), Refusal> {
    let value = HeaderValue::from_str(&hash.to_hex()).map_err(|e| bad(e.to_string()))?;
    Ok((DIGEST, value))
}

fn bad(why: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, why)
}

/// First byte and length of `bytes 0-99/*` (RFC 9110 14.4).
fn position(headers: &HeaderMap) -> Result<(u64, u64), Refusal> {
    let range = headers
        .get(header::CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
        .and_then(|range| range.strip_prefix("bytes ")?.strip_suffix("/*"))
        .and_then(bounds);
    range.ok_or_else(|| bad("the Content-Range is not bytes FIRST-LAST/*".into()))
}

/// First byte and length of `FIRST-LAST`.
fn bounds(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let length = last.checked_sub(first)?.checked_add(1)?;
    Some((first, length))
}

fn store(
    site: &Site,
    path: &RelPath,
    headers: &HeaderMap,
    first: u64,
    bytes: &[u8],
) -> Result<Response, Refusal> {
    let failed = |error: &io::Error| Refusal::io(&format!("writing {path} at {first}"), error);
    let (parent, name) = path
        .split()
        .ok_or_else(|| bad("the share itself is no file".into()))?;
    let (status, tag) = if first == 0 {
        make_parents(&site.share, path)?;
        let folder = site
            .share
            .open_dir(parent.as_path())
            .map_err(|e| failed(&e))?;
        let mut file = TempFile::new(&folder).map_err(|e| failed(&e))?;
        check_space(file.as_file(), bytes.len() as u64, path)?;
        file.write_all(bytes).map_err(|e| failed(&e))?;
        let tag = file.as_file().metadata().map(|metadata| etag(&metadata));
        let one_at_a_time = site.locks.one(path);
        file.replace(name).map_err(|e| failed(&e))?;
        drop(one_at_a_time);
        sync_folder(&folder).map_err(|e| failed(&e))?;
        (StatusCode::CREATED, tag)
    } else {
        // To the page cache alone: a flush waits for nobody's sake but its own file's.
        let _one_at_a_time = site.locks.one(path);
        let mut file = open_at(site, path, headers, first, bytes.len() as u64)?;
        if let Err(error) = file.write_all(bytes) {
            // Best effort: the room that half a segment takes.
            let _ = file.set_len(first);
            return Err(failed(&error));
        }
        begin_writeback(&file, first, bytes.len() as u64);
        (
            StatusCode::NO_CONTENT,
            file.metadata().map(|metadata| etag(&metadata)),
        )
    };
    let mut response = status.into_response();
    if let Some(tag) = tag.map_err(|e| failed(&e))? {
        response.headers_mut().typed_insert(tag);
    }
    Ok(response)
}

/// The file as the client knows it, cut off at `first`, with the next of `length` bytes to be written there. Where these do not
/// fit it stays as it is: the client knows its tag, by which it takes back what it has sent.
fn open_at(
    site: &Site,
    path: &RelPath,
    headers: &HeaderMap,
    first: u64,
    length: u64,
) -> Result<File, Refusal> {
    let failed = |error: &io::Error| Refusal::io(&format!("writing {path} at {first}"), error);
    let mut options = OpenOptions::new();
    options.write(true);
    let mut file = match site.share.open_with(path.as_path(), &options) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::precondition());
        }
        Err(error) => return Err(failed(&error)),
    };
    let metadata = file.metadata().map_err(|e| failed(&e))?;
    if !headers.contains_key(header::IF_MATCH) {
        return Err(Refusal::new(
            StatusCode::PRECONDITION_REQUIRED,
            "a segment that is not the first needs an If-Match",
        ));
    }
    if !file::preconditions_hold(headers, Some(&file::Facts::of(&metadata))) {
        return Err(Refusal::precondition());
    }
    if first > metadata.len() {
        return Err(Refusal::range(metadata.len()));
    }
    let more = length.saturating_sub(metadata.len() - first);
    check_space(&file, more, path)?;
    file.set_len(first)
        .and_then(|()| file.seek(SeekFrom::Start(first)))
        .map_err(|e| failed(&e))?;
    Ok(file)
}

/// The digest that a HEAD asks for: `pitstop-digest: bytes=FIRST-LAST`.
pub fn digest(
    file: &mut File,
    headers: &HeaderMap,
) -> Result<Option<(HeaderName, HeaderValue)>, Refusal> {
    let Some(asked) = headers.get(DIGEST) else {
        return Ok(None);
    };
    let (first, length) = asked
        .to_str()
        .ok()
        .and_then(|asked| bounds(asked.strip_prefix("bytes=")?))
        .filter(|(_, length)| *length <= MOST_DIGESTED)
        .ok_or_else(|| {
            bad(format!(
                "{DIGEST} is not bytes=FIRST-LAST of {MOST_DIGESTED} bytes or less"
            ))
        })?;
    let mut hasher = blake3::Hasher::new();
    let read = file
        .seek(SeekFrom::Start(first))
        .and_then(|_| io::copy(&mut Read::by_ref(file).take(length), &mut hasher))
        .map_err(|e| Refusal::io("reading for a digest", &e))?;
    if read != length {
        return Err(Refusal::range(first + read));
    }
    told(hasher.finalize()).map(Some)
}

/// Makes the bytes of a file that was appended to safe from a power cut, before it gets another name. Returns the tag
/// of what is safe; `None` for a file that was written in one go, or is not there.
pub fn make_safe(site: &Site, path: &RelPath) -> io::Result<Option<ETag>> {
    if !path.as_str().ends_with(SUFFIX) {
        return Ok(None);
    }
    let file = match site.share.open(path.as_path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Its state before the flush: what comes after that is not safe.
    let tag = etag(&file.metadata()?);
    file.sync_all()?;
    Ok(tag)
}

/// Whether the file is as it was when it was made safe.
pub fn is_still(site: &Site, path: &RelPath, safe: Option<&ETag>) -> bool {
    safe.is_none_or(|safe| {
        let now = site.share.metadata(path.as_path());
        now.is_ok_and(|now| etag(&now).as_ref() == Some(safe))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positions_are_exact() {
        let at = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(range).unwrap());
            position(&headers).map_err(|refusal| refusal.status)
        };
        assert_eq!(at("bytes 0-99/*"), Ok((0, 100)));
        assert_eq!(at("bytes 100-100/*"), Ok((100, 1)));
        for wrong in [
            "bytes 5-4/*",
            "bytes 0-99/100",
            "bytes */100",
            "bytes 0-18446744073709551615/*",
            "items 0-1/*",
            "",
        ] {
            assert_eq!(at(wrong), Err(StatusCode::BAD_REQUEST), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bounds_are_read_without_a_panic(text in "\\PC{0,40}", a: u64, b: u64) {
            let _ = bounds(&text);
            let _ = bounds(&format!("{a}-{b}"));
        }
    }
}
