//! `/images/blake3/DIGEST/NAME`: an image by what is in it. Under such a URL there is never anything else, so that any cache keeps it for ever,
//! and two racks that ask for one image ask for one URL, whatever the folders are called.
//!
//! The digest is the BLAKE3 of the index, as the footer has it and signed jobs name it. The name is for people and for programs that go
//! by endings; it may be anything.

use crate::before_store;
use crate::file::{self, Facts, Found};
use crate::http::{Here, only_read};
use crate::machine_access;
use crate::mirror;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use crate::view::image_paths;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use blake3::Hash;
use cap_std::fs::Dir;
use headers::ETag;
use nix::errno::Errno;
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_protocol::digest::BY_DIGEST;
use pitstop_protocol::tree::{FOLDER, IMAGE, version_of};
use pitstop_transport::fetch::HttpError;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Images that are remembered.
const MOST: usize = 10_000;

/// A year, which is for ever (RFC 8246).
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub fn routes() -> Router<Arc<Sites>> {
    let methods = || get(image).fallback(only_read);
    machine_access::share(
        Router::new()
            .route(&format!("/{BY_DIGEST}/{{digest}}"), methods())
            .route(&format!("/{BY_DIGEST}/{{digest}}/{{*name}}"), methods()),
    )
}

/// The digests of images as they were last seen, by path and validator.
#[derive(Default)]
pub struct Digests {
    known: Mutex<HashMap<String, (ETag, Option<Hash>)>>,
    /// When the last walk through all of the share began. Held while one goes on.
    walk: Mutex<Option<Instant>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call: whoever panicked left whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Digests {
    /// Of the image at `path`, which has this validator now; `read` reads it where it is not known. `None` of what has no index, which
    /// is remembered as well.
    ///
    /// # Errors
    /// It could not be read. Another time it may be.
    pub fn of<E>(
        &self,
        path: &str,
        tag: Option<ETag>,
        read: impl FnOnce() -> Result<Option<Hash>, E>,
    ) -> Result<Option<Hash>, E> {
        let Some(tag) = tag else { return Ok(None) };
        if let Some((known, digest)) = locked(&self.known).get(path)
            && *known == tag
        {
            return Ok(*digest);
        }
        let digest = read()?;
        let mut known = locked(&self.known);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(path.to_owned(), (tag, digest));
        Ok(digest)
    }

    /// Where the image is, and how it is, that has this digest.
    ///
    /// # Errors
    /// The share cannot be read; or some of it cannot be read just now, and it is in nothing else.
    fn find(&self, site: &Site, digest: Hash) -> Result<Option<(RelPath, Facts)>, Refusal> {
        let asked = Instant::now();
        let is_it = |path: &RelPath| -> Result<Option<Facts>, Refusal> {
            let facts = match site.facts(path) {
                Ok(facts) => facts,
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => return Ok(None),
                Err(refusal) => return Err(refusal),
            };
            let read = || read(site, path.as_str(), facts.length);
            let found = self.of(path.as_str(), facts.tag.clone(), read)?;
            Ok((found == Some(digest)).then_some(facts))
        };
        let known = || {
            let path = locked(&self.known).iter().find_map(|(path, (_, known))| {
                let path = (*known == Some(digest)).then(|| RelPath::from_text(path));
                path?.ok()
            });
            let Some(path) = path else { return Ok(None) };
            Ok(is_it(&path)?.map(|facts| (path, facts)))
        };
        if let Some(found) = known()? {
            return Ok(Some(found));
        }
        // One walk at a time, and one for all who have asked before it began: whoever asks for what nobody has would have the
        // share read from end to end for each word.
        let mut walk = locked(&self.walk);
        if walk.is_some_and(|began| began > asked) {
            return known();
        }
        let began = Instant::now();
        let mut unread = None;
        for path in all_paths(site)? {
            let path = RelPath::from_text(&path)?;
            match is_it(&path) {
                Ok(Some(facts)) => return Ok(Some((path, facts))),
                Ok(None) => {}
                Err(refusal) => unread = Some(refusal),
            }
        }
        if let Some(refusal) = unread.filter(|it| it.status == StatusCode::SERVICE_UNAVAILABLE) {
            return Err(refusal);
        }
        *walk = Some(began);
        Ok(None)
    }
}

/// Of all images: of disks, and of trees.
fn all_paths(site: &Site) -> Result<Vec<String>, Refusal> {
    let mut paths = image_paths(site)?;
    paths.extend(tree_paths(site)?);
    Ok(paths)
}

/// The images of trees on the share. An encrypted one has no digest that could be read.
fn tree_paths(site: &Site) -> Result<Vec<String>, Refusal> {
    let is_one = |path: &String| path.ends_with(IMAGE) && version_of(path).is_some();
    if let Some(store) = &site.store {
        let files = store.files_below(FOLDER)?.into_iter();
        return Ok(files.map(|(path, _)| path).filter(is_one).collect());
    }
    let mut paths = Vec::new();
    for tree in paths_in(&site.share, FOLDER)? {
        paths.extend(paths_in(&site.share, &tree)?.into_iter().filter(is_one));
    }
    Ok(paths)
}

/// What is in a folder; nothing where there is no such folder.
fn paths_in(share: &Dir, folder: &str) -> Result<Vec<String>, Refusal> {
    let failed = |error: &io::Error| Refusal::io(&format!("listing the share, {folder}"), error);
    let entries = match share.read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(|error| failed(&error))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        if let Ok(name) = name.into_string() {
            paths.push(format!("{folder}/{name}"));
        }
    }
    Ok(paths)
}

/// The digest of an image of that many bytes; `None` of what has no index.
///
/// # Errors
/// It cannot be read now.
pub fn read(site: &Site, path: &str, length: u64) -> Result<Option<Hash>, Refusal> {
    let mut footer = [0; FOOTER];
    let Some(at) = length.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    let read = site.image(path).and_then(|image| {
        let read = image.read_exact_at(&mut footer, at);
        read.map_err(anyhow::Error::new)
    });
    read.map_err(|error| {
        let status = if passes(&error) {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Refusal::new(status, format!("reading the end of {path}: {error:#}"))
    })?;
    let footer = parse_footer(&footer, length).ok();
    Ok(footer.map(|footer| footer.hash.into()))
}

/// Whether it may go better another time: the store is away, or this server has too much open.
fn passes(error: &anyhow::Error) -> bool {
    let scarce = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let code = error.chain().find_map(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>()?;
        cause.raw_os_error()
    });
    HttpError::behind(error).is_some_and(|error| error.failure.is_passing())
        || code.is_some_and(|code| scarce.contains(&Errno::from_raw(code)))
}

fn for_ever(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
}

async fn image(
    Here(site): Here,
    Path(parts): Path<Vec<String>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let named = parts.first().cloned().unwrap_or_default();
    let none = || Refusal::not_found(format!("an image with the digest {named}"));
    let digest = Hash::from_hex(named.as_bytes()).map_err(|_| none())?;
    let found = {
        let site = Arc::clone(&site);
        blocking(move || site.digests.find(&site, digest)).await?
    };
    let Some((path, facts)) = found else {
        let mirror = site.mirror.as_ref().ok_or_else(none)?;
        let name = parts.get(1).map_or("image", String::as_str);
        let name = RelPath::from_text(name)?;
        let mut response = mirror::answer(mirror, digest, &name, &method, &headers).await?;
        for_ever(&mut response);
        return Ok(response);
    };
    let told = Facts {
        length: facts.length,
        modified: None,
        tag: format!("\"{}\"", digest.to_hex()).parse().ok(),
    };
    let (mut response, part) = file::head(&told, &path, &headers)?;
    for_ever(&mut response);
    let Some(part) = part.filter(|part| method != Method::HEAD && !part.is_empty()) else {
        return Ok(response);
    };
    if let Some(store) = &site.store {
        *response.body_mut() = before_store::body(store, &path, &facts, part)?;
        return Ok(response);
    }
    let (share, wanted) = (Arc::clone(&site.share), path.clone());
    let opened = blocking(move || file::open(&share, &wanted)).await?;
    match opened {
        // It is the very file that the digest was read of.
        Found::File(file, metadata) if file::etag(&metadata) == facts.tag => {
            let body = file::body(file, part, &path).await?;
            *response.body_mut() = site.given.noted(&path, body);
        }
        _ => return Err(none()),
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_read_again_and_what_has_no_index_is_not() {
        let digests = Digests::default();
        let tag = || "\"one\"".parse().ok();
        let of = |read: Result<Option<Hash>, &str>| {
            let mut asked = false;
            let told = digests.of("golden/sda.raw.gz", tag(), || {
                asked = true;
                read.map_err(str::to_owned)
            });
            (told, asked)
        };
        let away = Err("the store is away");
        assert_eq!(of(away), (away.map_err(str::to_owned), true));
        assert_eq!(of(Ok(None)), (Ok(None), true));
        assert_eq!(of(away), (Ok(None), false));
        let digests = Digests::default();
        let hash = blake3::hash(b"index");
        let read = || Ok::<_, ()>(Some(hash));
        assert_eq!(digests.of("x", tag(), read), Ok(Some(hash)));
        assert_eq!(digests.of("x", tag(), || Err(())), Ok(Some(hash)));
        assert_eq!(digests.of("x", "\"two\"".parse().ok(), || Err(())), Err(()));
    }
}
