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
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::get;
use blake3::Hash;
use cap_std::fs::Dir;
use headers::ETag;
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_protocol::digest::BY_DIGEST;
use pitstop_protocol::tree::{FOLDER, IMAGE, version_of};
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
    /// Of the image at `path`, which has this validator now; `read` reads it where it is not known. `None` of what has no index.
    pub fn of(
        &self,
        path: &str,
        tag: Option<ETag>,
        read: impl FnOnce() -> Option<Hash>,
    ) -> Option<Hash> {
        let tag = tag?;
        if let Some((known, digest)) = locked(&self.known).get(path)
            && *known == tag
        {
            return *digest;
        }
        let digest = read();
        let mut known = locked(&self.known);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(path.to_owned(), (tag, digest));
        digest
    }

    /// Where the image is, and how it is, that has this digest.
    fn find(&self, site: &Site, digest: Hash) -> Result<Option<(RelPath, Facts)>, Refusal> {
        let asked = Instant::now();
        let is_it = |path: &RelPath| {
            let facts = site.facts(path).ok()?;
            let read = || read(site, path.as_str(), facts.length);
            let found = self.of(path.as_str(), facts.tag.clone(), read);
            (found == Some(digest)).then_some(facts)
        };
        let known = || {
            let path = locked(&self.known).iter().find_map(|(path, (_, known))| {
                let path = (*known == Some(digest)).then(|| RelPath::from_text(path));
                path?.ok()
            })?;
            let facts = is_it(&path)?;
            Some((path, facts))
        };
        if let Some(found) = known() {
            return Ok(Some(found));
        }
        // One walk at a time, and one for all who have asked before it began: whoever asks for what nobody has would have the
        // share read from end to end for each word.
        let mut walk = locked(&self.walk);
        if walk.is_some_and(|began| began > asked) {
            return Ok(known());
        }
        let began = Instant::now();
        for path in all_paths(site)? {
            let path = RelPath::from_text(&path)?;
            if let Some(facts) = is_it(&path) {
                return Ok(Some((path, facts)));
            }
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
pub fn read(site: &Site, path: &str, length: u64) -> Option<Hash> {
    let image = site.image(path).ok()?;
    let mut footer = [0; FOOTER];
    let at = length.checked_sub(FOOTER as u64)?;
    image.read_exact_at(&mut footer, at).ok()?;
    Some(parse_footer(&footer, length).ok()?.hash.into())
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
    let wanted = path.clone();
    let opened = blocking(move || file::open(&site.share, &wanted)).await?;
    match opened {
        // It is the very file that the digest was read of.
        Found::File(file, metadata) if file::etag(&metadata) == facts.tag => {
            *response.body_mut() = file::body(file, part, &path).await?;
        }
        _ => return Err(none()),
    }
    Ok(response)
}
