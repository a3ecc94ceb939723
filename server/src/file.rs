//! GET and HEAD of files: whole or a range, conditional, with strong `ETag`s.

use crate::path::RelPath;
use crate::range::{self, Asked};
use crate::refusal::Refusal;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use headers::{
    ETag, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince,
    LastModified,
};
use std::io;
use std::ops::Range;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Bytes that are read from a file at once: large enough that the page cache, not the calls, sets the pace.
const READ_SIZE: usize = 256 << 10;

/// What a path leads to.
pub enum Found {
    File(File, Metadata),
    Folder(Dir),
}

/// Opens what is at `path`. Anything but a file or a folder is not served.
pub fn open(root: &Dir, path: &RelPath) -> Result<Found, Refusal> {
    let refuse = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::not_found(path),
        _ => Refusal::io(&format!("opening {path}"), error),
    };
    // Without O_NONBLOCK, opening a FIFO would wait for its other end.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let file = root
        .open_with(path.as_path(), &options)
        .map_err(|e| refuse(&e))?;
    let metadata = file.metadata().map_err(|e| refuse(&e))?;
    if metadata.is_dir() {
        let folder = root.open_dir(path.as_path()).map_err(|e| refuse(&e))?;
        return Ok(Found::Folder(folder));
    }
    if !metadata.is_file() {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("{path} is not a file"),
        ));
    }
    Ok(Found::File(file, metadata))
}

/// What clients are told of a file, and what their conditions are about.
#[derive(Clone)]
pub struct Facts {
    /// Bytes.
    pub length: u64,
    pub modified: Option<SystemTime>,
    pub tag: Option<ETag>,
}

impl Facts {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata
                .modified()
                .ok()
                .map(cap_std::time::SystemTime::into_std),
            tag: etag(metadata),
        }
    }
}

/// A file's strong validator. Every upload is a new inode, so that two versions never share one.
pub fn etag(metadata: &Metadata) -> Option<ETag> {
    format!(
        "\"{:x}-{:x}-{:x}.{:x}\"",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    )
    .parse()
    .ok()
}

/// RFC 9110 13.1.1, 13.1.2 and 13.1.4 for a request that changes a file; `None` is a file that is not there.
pub fn preconditions_hold(headers: &HeaderMap, current: Option<&Facts>) -> bool {
    let tag = current.and_then(|facts| facts.tag.as_ref());
    if let Some(condition) = headers.typed_get::<IfMatch>() {
        let holds = tag.is_some_and(|tag| condition.is_any() || condition.precondition_passes(tag));
        if !holds {
            return false;
        }
    } else if let Some(condition) = headers.typed_get::<IfUnmodifiedSince>() {
        let modified = current.and_then(|facts| facts.modified);
        if modified.is_some_and(|time| !condition.precondition_passes(time)) {
            return false;
        }
    }
    match (headers.typed_get::<IfNoneMatch>(), tag) {
        (Some(condition), Some(tag)) => condition.precondition_passes(tag),
        _ => true,
    }
}

/// Answers GET or HEAD for an open file.
pub async fn send(
    file: File,
    metadata: Metadata,
    path: &RelPath,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    send_as(file, &Facts::of(&metadata), path, method, headers).await
}

/// The same for a file that clients are told this of.
pub async fn send_as(
    file: File,
    facts: &Facts,
    path: &RelPath,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let (mut response, part) = head(facts, path, headers)?;
    if let Some(part) = part
        && method != Method::HEAD
    {
        *response.body_mut() = body(file, part, path).await?;
    }
    Ok(response)
}

/// The answer to GET or HEAD without its body, and which bytes that is; `None` where there is to be none.
///
/// # Errors
/// A condition does not hold, or the file has not the bytes that are asked for.
pub fn head(
    facts: &Facts,
    path: &RelPath,
    headers: &HeaderMap,
) -> Result<(Response, Option<Range<u64>>), Refusal> {
    let tag = facts.tag.as_ref();
    let modified = facts.modified.map(LastModified::from);
    let not_modified = match headers.typed_get::<IfNoneMatch>() {
        Some(condition) => tag.is_some_and(|tag| !condition.precondition_passes(tag)),
        None => match (headers.typed_get::<IfModifiedSince>(), facts.modified) {
            (Some(condition), Some(time)) => !condition.is_modified(time),
            _ => false,
        },
    };
    let mut response = Response::new(Body::empty());
    let answer = response.headers_mut();
    if let Some(tag) = tag {
        answer.typed_insert(tag.clone());
    }
    if let Some(modified) = modified {
        answer.typed_insert(modified);
    }
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_TYPE, content_type(path));
    // The share changes under the reader's feet: a cache must ask.
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if not_modified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok((response, None));
    }
    let mut without_none_match = headers.clone();
    without_none_match.remove(header::IF_NONE_MATCH);
    if !preconditions_hold(&without_none_match, Some(facts)) {
        return Err(Refusal::precondition());
    }
    let length = facts.length;
    let part = match asked_range(headers, length, tag, modified.as_ref()) {
        Asked::Whole => 0..length,
        Asked::OutOfReach => return Err(Refusal::range(length)),
        Asked::Part(part) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            part
        }
    };
    let told = headers::ContentLength(part.end - part.start);
    response.headers_mut().typed_insert(told);
    Ok((response, Some(part)))
}

fn asked_range(
    headers: &HeaderMap,
    length: u64,
    tag: Option<&ETag>,
    modified: Option<&LastModified>,
) -> Asked {
    let Some(value) = headers.get(header::RANGE).and_then(|v| v.to_str().ok()) else {
        return Asked::Whole;
    };
    if headers.contains_key(header::IF_RANGE) {
        // One that cannot be read is one that does not match.
        let same = headers
            .typed_get::<IfRange>()
            .is_some_and(|condition| !condition.is_modified(tag, modified));
        if !same {
            return Asked::Whole;
        }
    }
    range::read(value, length)
}

/// A part of an open file, as it is read.
///
/// # Errors
/// It cannot be read from there.
pub async fn body(file: File, part: Range<u64>, path: &RelPath) -> Result<Body, Refusal> {
    let mut file = tokio::fs::File::from_std(file.into_std());
    file.set_max_buf_size(READ_SIZE);
    if part.start > 0 {
        file.seek(io::SeekFrom::Start(part.start))
            .await
            .map_err(|e| Refusal::io(&format!("reading {path} at {}", part.start), &e))?;
    }
    let bytes = file.take(part.end - part.start);
    Ok(Body::from_stream(ReaderStream::with_capacity(
        bytes, READ_SIZE,
    )))
}

/// Browsers show what is text; the rest is saved.
fn content_type(path: &RelPath) -> HeaderValue {
    let text = [
        ".toml",
        ".txt",
        ".log",
        ".lst",
        ".ipxe",
        ".old.toml",
        "pitstop-share",
    ];
    HeaderValue::from_static(if text.iter().any(|end| path.as_str().ends_with(end)) {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    })
}
