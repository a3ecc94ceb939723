//! What a mirror answers: images by their digests, and what it holds.

use super::Mirror;
use super::held::Held;
use crate::file::{self, Facts};
use crate::http::{Here, only_read};
use crate::machine_access;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::site::{Site, Sites};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use blake3::Hash;
use futures_util::stream;
use pitstop_imaging::units;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Bytes of an index that are read at once.
const READ_SIZE: u64 = 256 << 10;
/// Digits of a digest by which people know it and nobody gets the image.
const SHOWN: usize = 16;
/// How often a piece that the disk did not keep is waited for.
const TRIES: usize = 3;

pub fn routes() -> Router<Arc<Sites>> {
    machine_access::share(Router::new().route("/mirror", get(holds).fallback(only_read)))
}

/// GET and HEAD of an image by its digest. The head is [`crate::by_digest`]'s to complete.
///
/// # Errors
/// It is not here and cannot be had.
pub async fn answer(
    mirror: &Arc<Mirror>,
    digest: Hash,
    name: &RelPath,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let held = mirror.image(digest, name.as_str()).await?;
    let told = Facts {
        length: held.size(),
        modified: None,
        tag: format!("\"{}\"", digest.to_hex()).parse().ok(),
    };
    let (mut response, part) = file::head(&told, name, headers)?;
    if let Some(part) = part.filter(|part| method != Method::HEAD && !part.is_empty()) {
        held.touch();
        *response.body_mut() = body(held, part);
    }
    Ok(response)
}

fn body(held: Arc<Held>, part: Range<u64>) -> Body {
    let parts = stream::try_unfold((held, part), |(held, part)| async move {
        if part.is_empty() {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let ready = held.wait_for(part.start).await?;
            let next = part.start..part.end.min(ready);
            let reader = Arc::clone(&held);
            let read = spawn_blocking(move || read(&reader, next)).await;
            if let Some(bytes) = read.map_err(io::Error::other)?? {
                let at = part.start + bytes.len() as u64;
                return Ok(Some((bytes, (held, at..part.end))));
            }
        }
        Err(io::Error::other(
            "the mirror's disk does not keep what is written to it",
        ))
    });
    Body::from_stream(parts)
}

/// The beginning of `part`, which is of one piece or lies behind all of them. `None` where the disk has not kept the piece, so that it
/// has to come again: disks rot, also under an image that has been whole for years.
fn read(held: &Held, part: Range<u64>) -> io::Result<Option<Bytes>> {
    let pieces = held.pieces();
    if part.start >= pieces.end() {
        // The index, which tells by itself whether it is right.
        let mut bytes = vec![0; length(part.start, part.end.min(part.start + READ_SIZE))?];
        held.file().read_exact_at(&mut bytes, part.start)?;
        return Ok(Some(bytes.into()));
    }
    let number = pieces.at(part.start);
    let Some(sum) = held.progress().here.get(number).copied().flatten() else {
        return Ok(None);
    };
    let place = pieces.bytes(number);
    let mut bytes = vec![0; length(place.start, place.end)?];
    let read = held.file().read_exact_at(&mut bytes, place.start);
    if read.is_err() || blake3::hash(&bytes) != sum {
        held.is_lost(number, sum);
        return Ok(None);
    }
    let from = length(place.start, part.start)?;
    let to = length(place.start, part.end.min(place.end))?;
    Ok(Some(Bytes::from(bytes).slice(from..to)))
}

fn length(start: u64, end: u64) -> io::Result<usize> {
    usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)
}

/// One line of what a mirror holds; none where the server is no mirror.
pub fn kept(site: &Site) -> Option<String> {
    let mirror = site.mirror.as_ref()?;
    // Strangers may hear it: no names.
    Some(format!("a mirror: {}", mirror.shelf.told().line()))
}

/// `GET /mirror`: every image that is held, as text.
async fn holds(Here(site): Here) -> Result<Response, Refusal> {
    let Some(mirror) = &site.mirror else {
        return Err(Refusal::not_found("a mirror"));
    };
    let told = mirror.shelf.told();
    let mut text = format!("mirror of {}: {}\n", mirror.origin.address, told.line());
    let shown = if mirror.is_guarded { SHOWN } else { 64 };
    for (digest, image) in &told.images {
        let here = match image.here {
            Some(here) if here < image.size => format!("{} of it here", units::bytes(here)),
            Some(_) => "all of it here".to_owned(),
            None => "not asked for since the server began".to_owned(),
        };
        let in_use = if image.in_use { ", in use" } else { "" };
        let used = jiff::Timestamp::try_from(image.used).map_or_else(
            |_| String::new(),
            |time| format!(", asked for at {time:.0}"),
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:.shown$}  {}, {here}{used}{in_use}",
            digest.to_hex().as_str(),
            units::bytes(image.size)
        );
    }
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((no_store, text).into_response())
}
