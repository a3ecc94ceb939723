//! Requests to the share, done by the store.

use super::{Store, again, facts, failed};
use crate::compose;
use crate::file::{Facts, head, preconditions_hold};
use crate::listing::{self, Entry};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::share::{
    METHODS, check_deleted, check_moved, destination, may_replace, methods, with_slash,
};
use crate::site::Site;
use crate::upload::{self, Piece, Stored};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use headers::{ContentLength, ETag, HeaderMapExt, IfMatch, IfNoneMatch};
use pitstop_transport::share::{Condition, Listed, Object, Share as _};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use tokio::sync::mpsc;

/// Bytes that are handed on in one piece, and pieces that wait for the network.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Does what a request to the share asks for.
///
/// # Errors
/// It cannot be done.
pub async fn act(
    site: &Arc<Site>,
    store: &Arc<Store>,
    path: RelPath,
    parts: Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let store = Arc::clone(store);
    let headers = parts.headers;
    match parts.method.as_str() {
        "GET" | "HEAD" => get(site, store, path, &parts.method, &parts.uri, &headers).await,
        "PUT" if parts.uri.path().ends_with('/') || path.is_root() => Err(Refusal::new(
            StatusCode::CONFLICT,
            "a name that ends in / is a folder, and a store needs none",
        )),
        "PUT" if headers.contains_key(header::CONTENT_RANGE) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "the share is a store, to whose files nothing can be appended: send it whole",
        )),
        "PUT" if compose::is_composed(&headers) => {
            let site = Arc::clone(site);
            let write = move |queue| again::put(&store, &path, &headers, &site.url, queue);
            Ok(upload::take(body, write).await)
        }
        "PUT" => {
            let length = headers.typed_get::<ContentLength>().map(|length| length.0);
            let write = move |queue| put(&store, &path, &headers, length, queue);
            Ok(upload::take(body, write).await)
        }
        "DELETE" => blocking(move || delete(&store, &path, &headers)).await,
        "MOVE" => {
            let to = destination(&headers, &site.url)?;
            blocking(move || rename(&store, &path, &to, &headers)).await
        }
        // Folders are what names have in common: there is nothing to be made.
        "MKCOL" => Ok(StatusCode::CREATED.into_response()),
        "OPTIONS" => {
            let mut response = methods();
            response.headers_mut().extend([again::offer()]);
            Ok(response)
        }
        _ => Err(Refusal::method(METHODS)),
    }
}

async fn get(
    site: &Arc<Site>,
    store: Arc<Store>,
    path: RelPath,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let is_folder = uri.path().ends_with('/') || path.is_root();
    let (asked, wanted) = (Arc::clone(&store), path.clone());
    let object = blocking(move || {
        if is_folder {
            return Ok(None);
        }
        asked.object(&wanted)
    });
    if let Some(object) = object.await? {
        let (mut response, part) = head(&facts(&object), &path, headers)?;
        if method == Method::HEAD {
            let jobs = site.jobs.last_found();
            response
                .headers_mut()
                .extend(site.relays.offer(None, &jobs, &path));
        } else if let Some(part) = part.filter(|part| !part.is_empty()) {
            let body = self::body(&store, &path, &facts(&object), part)?;
            *response.body_mut() = site.given.noted(&path, body);
        }
        return Ok(response);
    }
    let (asked, wanted) = (Arc::clone(&store), path.clone());
    let listed = blocking(move || asked.list(&wanted)).await?;
    if listed.is_empty() && !path.is_root() {
        return Err(Refusal::not_found(path));
    }
    if !uri.path().ends_with('/') {
        return Ok(with_slash(uri));
    }
    let mut entries: Vec<Entry> = listed.into_iter().filter_map(entry).collect();
    listing::sort(&mut entries);
    Ok(listing::answer(&entries, uri.path(), headers))
}

/// A part of a file that is known to be like this.
///
/// # Errors
/// It cannot be asked for.
pub fn body(
    store: &Store,
    path: &RelPath,
    known: &Facts,
    part: Range<u64>,
) -> Result<Body, Refusal> {
    let object = Object {
        size: known.length,
        tag: known.tag.as_ref().map(text),
        modified: None,
    };
    let reader = store.share.part(path.as_str(), &object, part);
    stream_of(reader.map_err(|error| failed(&format!("reading {path}"), &error))?)
}

/// What a request can name, and nothing else.
fn entry(listed: Listed) -> Option<Entry> {
    if listed.name.starts_with('.') || RelPath::from_text(&listed.name).is_err() {
        return None;
    }
    let file = listed.object.map(|object| (object.size, object.modified));
    Some(Entry::new(listed.name, file))
}

/// Reads on a thread of its own, which ends with the connection.
fn stream_of(mut reader: Box<dyn Read + Send>) -> Result<Body, Refusal> {
    let (pieces, taken) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let pump = move || {
        loop {
            let mut piece = vec![0; PIECE];
            let piece = match reader.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    Ok(Bytes::from(piece))
                }
                Err(error) => Err(error),
            };
            let ends = piece.is_err();
            if pieces.blocking_send(piece).is_err() || ends {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("from-store".into()).spawn(pump);
    thread.map_err(|error| Refusal::io("starting a thread", &error))?;
    let next = |mut taken: mpsc::Receiver<io::Result<Bytes>>| async move {
        Some((taken.recv().await?, taken))
    };
    Ok(Body::from_stream(stream::unfold(taken, next)))
}

fn put(
    store: &Store,
    path: &RelPath,
    headers: &HeaderMap,
    length: Option<u64>,
    queue: mpsc::Receiver<Piece>,
) -> Result<Stored, Refusal> {
    let writing = |error: &anyhow::Error| failed(&format!("writing {path}"), error);
    let current = store.facts(path)?;
    if !preconditions_hold(headers, current.as_ref()) {
        return Err(Refusal::precondition());
    }
    let condition = condition(headers, current.as_ref());
    let mut file = store
        .share
        .create_if(path.as_str(), condition)
        .map_err(|e| writing(&e))?;
    let mut counted = Counted {
        file: &mut file,
        count: 0,
    };
    let received = upload::receive(&mut counted, queue, path, |_, _, _| {});
    received.map_err(|refusal| store_away(refusal, path))?;
    let count = counted.count;
    if length.is_some_and(|length| length != count) {
        let why = format!("the body of {path} has {count} bytes, and was to have others");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
    }
    file.finish().map_err(|e| writing(&e))?;
    Ok(Stored {
        created: current.is_none(),
        tag: store.facts(path)?.and_then(|facts| facts.tag),
    })
}

/// A body that a store did not take was whole as far as it came: the client may send it again.
fn store_away(refusal: Refusal, path: &RelPath) -> Refusal {
    if refusal.status == StatusCode::INTERNAL_SERVER_ERROR {
        let why = format!("{path} did not get to the store: {}", refusal.reason);
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    refusal
}

struct Counted<'a> {
    file: &'a mut dyn io::Write,
    count: u64,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.file.write(data)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What the store is to hold to while it does it: the request's own condition, as it held a moment ago.
fn condition(headers: &HeaderMap, current: Option<&Facts>) -> Condition {
    let tag = current.and_then(|facts| facts.tag.as_ref());
    match tag {
        Some(tag) if headers.typed_get::<IfMatch>().is_some() => Condition::Is(text(tag)),
        None if headers.typed_get::<IfNoneMatch>().is_some() => Condition::Absent,
        _ => Condition::None,
    }
}

fn text(tag: &ETag) -> String {
    let mut headers = HeaderMap::new();
    headers.typed_insert(tag.clone());
    let value = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn delete(store: &Store, path: &RelPath, headers: &HeaderMap) -> Result<Response, Refusal> {
    check_deleted(path)?;
    let Some(current) = store.facts(path)? else {
        if store.list(path)?.is_empty() {
            return Err(Refusal::not_found(path));
        }
        // One mistyped name must not cost a lab its images.
        let why = format!("{path} is a folder with something in it");
        return Err(Refusal::new(StatusCode::CONFLICT, why));
    };
    if !preconditions_hold(headers, Some(&current)) {
        return Err(Refusal::precondition());
    }
    let removed = match condition(headers, Some(&current)) {
        Condition::Is(tag) => store.share.remove_if(path.as_str(), &tag),
        _ => store.share.remove(path.as_str()),
    };
    removed.map_err(|error| failed(&format!("deleting {path}"), &error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A copy that the store makes, and the source is gone: whoever dies in between leaves both, each whole.
fn rename(
    store: &Store,
    from: &RelPath,
    to: &RelPath,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    check_moved(from, to)?;
    let source = store.facts(from)?;
    let source = source.ok_or_else(|| Refusal::not_found(from))?;
    if !preconditions_hold(headers, Some(&source)) {
        return Err(Refusal::precondition());
    }
    let replaced = store.facts(to)?.is_some();
    if replaced && !may_replace(headers) {
        let why = "the destination is there";
        return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, why));
    }
    let tag = match condition(headers, Some(&source)) {
        Condition::Is(tag) => Some(tag),
        _ => None,
    };
    let moved = store
        .share
        .rename_if(from.as_str(), to.as_str(), tag.as_deref());
    moved.map_err(|error| failed(&format!("moving {from} to {to}"), &error))?;
    let status = if replaced {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CREATED
    };
    Ok(status.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_holds_to_the_requests_condition() {
        let facts = |tag: &str| Facts {
            length: 1,
            modified: None,
            tag: tag.parse().ok(),
        };
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let there = facts("\"abc-2\"");
        let held = condition(&with("if-match", "\"abc-2\""), Some(&there));
        assert_eq!(held, Condition::Is("\"abc-2\"".into()));
        assert_eq!(
            condition(&with("if-none-match", "*"), None),
            Condition::Absent
        );
        assert_eq!(condition(&HeaderMap::new(), Some(&there)), Condition::None);
    }

    #[test]
    fn what_a_request_cannot_name_is_not_listed() {
        let one = |name: &str| {
            entry(Listed {
                name: name.into(),
                object: None,
            })
        };
        assert!(one("10.0.2.15").is_some());
        for name in [".hidden", "a\\b", "..", "a\u{7}"] {
            assert!(one(name).is_none(), "{name}");
        }
    }
}
