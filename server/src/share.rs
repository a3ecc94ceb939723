//! The share over HTTP: what nginx and Apache with `WebDAV` can do, as far as Pitstop needs it.

use crate::append;
use crate::before_store;
use crate::file::{self, Facts, Found};
use crate::growing;
use crate::http::{Below, Here};
use crate::layer;
use crate::listing;
use crate::machine_access;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::relay::Shelf;
use crate::site::{Site, Sites, is_marker};
use crate::upload;
use crate::view::is_image;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use cap_std::fs::{File, Metadata};
use pitstop_api::{Change, Event, ImageChange};
use std::io;
use std::sync::Arc;

/// Where MOVE moves to.
const DESTINATION: &str = "destination";

pub const METHODS: &str = "GET, HEAD, OPTIONS, PUT, DELETE, MOVE, MKCOL";

pub fn routes() -> Router<Arc<Sites>> {
    machine_access::share(
        Router::new()
            .route("/share", any(handle))
            .route("/share/", any(handle))
            .route("/share/{*path}", any(handle)),
    )
}

/// Decides by the method: WebDAV's are none that a route could name.
async fn handle(
    Here(site): Here,
    Below(path): Below,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    if let Some(mirror) = &site.mirror
        && !method.is_safe()
    {
        // Whoever is still sending would not see the answer otherwise.
        upload::linger(body);
        return Err(mirror.refuse_write());
    }
    let mut changed = vec![path.clone()];
    if method.as_str() == "MOVE" {
        changed.push(destination(&parts.headers, &site.url)?);
    }
    let response = act(&site, path, parts, body).await?;
    if !method.is_safe() {
        for path in changed.iter().filter(|path| is_image(path.as_str())) {
            site.events.tell(&Event::Image(ImageChange {
                path: path.as_str().to_owned(),
                change: if is_there(&site, path).await {
                    Change::Written
                } else {
                    Change::Removed
                },
            }));
        }
    }
    Ok(response)
}

async fn is_there(site: &Arc<Site>, path: &RelPath) -> bool {
    match &site.store {
        Some(store) => store.look(path).await.is_ok_and(|found| found.is_some()),
        None => site.share.exists(path.as_path()),
    }
}

async fn act(
    site: &Arc<Site>,
    path: RelPath,
    parts: Parts,
    body: Body,
) -> Result<Response, Refusal> {
    if let Some(store) = &site.store {
        return before_store::act(site, store, path, parts, body).await;
    }
    match parts.method.as_str() {
        "GET" | "HEAD" => get(site, path, &parts.method, &parts.uri, &parts.headers).await,
        "PUT" if parts.uri.path().ends_with('/') => Err(Refusal::new(
            StatusCode::CONFLICT,
            "a name that ends in / is a folder: make it with MKCOL",
        )),
        "PUT" if parts.headers.contains_key(header::CONTENT_RANGE) => {
            append::put(site, path, parts.headers, body).await
        }
        "PUT" => upload::put(site, path, parts.headers, body).await,
        "DELETE" => {
            let site = Arc::clone(site);
            blocking(move || delete(&site, &path, &parts.headers)).await
        }
        "MOVE" => {
            let to = destination(&parts.headers, &site.url)?;
            let site = Arc::clone(site);
            blocking(move || rename(&site, &path, &to, &parts.headers)).await
        }
        "MKCOL" => {
            let site = Arc::clone(site);
            blocking(move || make_folder(&site, &path)).await
        }
        "OPTIONS" => Ok(options(&path)),
        _ => Err(Refusal::method(METHODS)),
    }
}

/// What can be done; where nothing can be appended, nothing more is offered.
pub fn methods() -> Response {
    let told = [
        (header::ALLOW, METHODS),
        (header::HeaderName::from_static("dav"), "1"),
    ];
    (StatusCode::NO_CONTENT, told).into_response()
}

fn options(path: &RelPath) -> Response {
    let mut response = methods();
    response.headers_mut().extend(append::offer(path));
    response
}

/// A file's head or body; a HEAD may ask for a digest of a part.
async fn send(
    mut file: File,
    metadata: Metadata,
    path: &RelPath,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    if method != Method::HEAD || !headers.contains_key(append::DIGEST) {
        return file::send(file, metadata, path, method, headers).await;
    }
    let asked = headers.clone();
    let (file, digest) = blocking(move || {
        let digest = append::digest(&mut file, &asked)?;
        Ok((file, digest))
    })
    .await?;
    let mut response = file::send(file, metadata, path, method, headers).await?;
    response.headers_mut().extend(digest);
    Ok(response)
}

/// GET and HEAD, with listings of folders.
async fn get(
    site: &Arc<Site>,
    path: RelPath,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    if let Some((file, facts)) = layer::of(site, &path).await? {
        return file::send_as(file, &facts, &path, method, headers).await;
    }
    let (share, wanted) = (Arc::clone(&site.share), path.clone());
    match blocking(move || file::open(&share, &wanted)).await? {
        Found::File(..) if uri.path().ends_with('/') => Err(Refusal::not_found(format!("{path}/"))),
        Found::File(file, metadata) if growing::is_asked(&path, headers) => {
            let (site, headers) = (Arc::clone(site), headers.clone());
            blocking(move || growing::answer(&site, &path, (&file, &metadata), &headers)).await
        }
        Found::File(file, metadata) => {
            let response = send(file, metadata, &path, method, headers).await?;
            let mut response = response.map(|body| site.given.noted(&path, body));
            if method == Method::HEAD {
                let (site, path) = (Arc::clone(site), path);
                let offer = blocking(move || {
                    let jobs = site.jobs.last_found();
                    let shelf = Shelf {
                        share: &site.share,
                        digests: &site.digests,
                    };
                    Ok(site.relays.offer(Some(shelf), &jobs, &path))
                });
                response.headers_mut().extend(offer.await?);
            }
            Ok(response)
        }
        Found::Folder(_) if !uri.path().ends_with('/') => Ok(with_slash(uri)),
        Found::Folder(folder) => {
            let shown = format!("/share/{path}");
            let entries = blocking(move || listing::read(&folder, &shown)).await?;
            Ok(listing::answer(&entries, uri.path(), headers))
        }
    }
}

/// A folder's relative links need its name to end in a slash.
pub fn with_slash(uri: &Uri) -> Response {
    let target = format!("{}/", uri.path());
    match HeaderValue::try_from(target) {
        Ok(target) => (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Whether `path` may go at all.
pub fn check_deleted(path: &RelPath) -> Result<(), Refusal> {
    if path.is_root() || is_marker(path) {
        let why = "the share itself stays, and its marker";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    Ok(())
}

/// Whether `from` may become `to` at all.
pub fn check_moved(from: &RelPath, to: &RelPath) -> Result<(), Refusal> {
    if from.is_root() || to.is_root() || is_marker(from) || from == to {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "the source and the destination must differ, and neither be the share or its marker",
        ));
    }
    Ok(())
}

fn delete(site: &Site, path: &RelPath, headers: &HeaderMap) -> Result<Response, Refusal> {
    check_deleted(path)?;
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::not_found(path),
        _ => Refusal::io(&format!("deleting {path}"), error),
    };
    let one_at_a_time = site.locks.one(path);
    let metadata = site
        .share
        .symlink_metadata(path.as_path())
        .map_err(|e| failed(&e))?;
    if !file::preconditions_hold(headers, Some(&Facts::of(&metadata))) {
        return Err(Refusal::precondition());
    }
    // A folder with something in it stays: one mistyped name must not cost a lab its images.
    if metadata.is_dir() {
        site.share.remove_dir(path.as_path())
    } else {
        site.share.remove_file(path.as_path())
    }
    .map_err(|e| failed(&e))?;
    drop(one_at_a_time);
    sync_parent(site, path)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn rename(
    site: &Site,
    from: &RelPath,
    to: &RelPath,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    check_moved(from, to)?;
    let safe = append::make_safe(site, from)
        .map_err(|error| Refusal::io(&format!("moving {from} to {to}"), &error))?;
    let replaced = {
        let _one_at_a_time = site.locks.both(from, to);
        if !append::is_still(site, from, safe.as_ref()) {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "somebody else appended to the source while it was moved",
            ));
        }
        swap(site, from, to, headers)?
    };
    sync_parent(site, to)?;
    sync_parent(site, from)?;
    Ok(if replaced {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CREATED
    }
    .into_response())
}

/// Renames, where the request's conditions allow it. Returns whether something was replaced.
fn swap(site: &Site, from: &RelPath, to: &RelPath, headers: &HeaderMap) -> Result<bool, Refusal> {
    let refuse = |status, reason: &str| Err(Refusal::new(status, reason));
    let failed = |error: &io::Error| Refusal::io(&format!("moving {from} to {to}"), error);
    let source = match site.share.symlink_metadata(from.as_path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::not_found(from));
        }
        Err(error) => return Err(failed(&error)),
    };
    if !file::preconditions_hold(headers, Some(&Facts::of(&source))) {
        return Err(Refusal::precondition());
    }
    let replaced = match site.share.symlink_metadata(to.as_path()) {
        Ok(metadata) if metadata.is_dir() => {
            return refuse(StatusCode::CONFLICT, "the destination is a folder");
        }
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(&error)),
    };
    if replaced && !may_replace(headers) {
        return refuse(StatusCode::PRECONDITION_FAILED, "the destination is there");
    }
    match site.share.rename(from.as_path(), &site.share, to.as_path()) {
        Ok(()) => Ok(replaced),
        // RFC 4918 9.9.4: the folder of the destination must be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse(
            StatusCode::CONFLICT,
            "the folder of the destination is not there",
        ),
        Err(error) => Err(failed(&error)),
    }
}

/// RFC 4918 10.6: without the header it may.
pub fn may_replace(headers: &HeaderMap) -> bool {
    headers.get("overwrite").is_none_or(|value| value != "F")
}

fn make_folder(site: &Site, path: &RelPath) -> Result<Response, Refusal> {
    match site.share.create_dir(path.as_path()) {
        Ok(()) => {
            sync_parent(site, path)?;
            Ok(StatusCode::CREATED.into_response())
        }
        // RFC 4918 9.3.1 has these two statuses.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{path} is there already"),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("the folder of {path} is not there"),
        )),
        Err(error) => Err(Refusal::io(&format!("making {path}"), &error)),
    }
}

fn sync_parent(site: &Site, path: &RelPath) -> Result<(), Refusal> {
    let Some((parent, _)) = path.split() else {
        return Ok(());
    };
    site.share
        .open_dir(parent.as_path())
        .and_then(|folder| upload::sync_folder(&folder))
        .map_err(|e| Refusal::io(&format!("syncing {parent}"), &e))
}

/// Reads MOVE's `Destination` (RFC 4918 10.3): a path, or a URL of this server, below `/share/`.
pub fn destination(headers: &HeaderMap, own_url: &str) -> Result<RelPath, Refusal> {
    own_path(headers, DESTINATION, own_url)
}

/// Reads a header that names a file of the share: by its path, or by a URL of this server, below `/share/`.
pub fn own_path(
    headers: &HeaderMap,
    name: &'static str,
    own_url: &str,
) -> Result<RelPath, Refusal> {
    let bad = |reason: String| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let uri: Uri = headers
        .get(name)
        .ok_or_else(|| bad(format!("the request needs the header {name}")))?
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad(format!("what {name} says is no URL")))?;
    if let Some(authority) = uri.authority() {
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok());
        let own = own_url.split_once("://").map(|(_, rest)| rest);
        if host != Some(authority.as_str()) && own != Some(authority.as_str()) {
            return Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                format!("{authority} is another server"),
            ));
        }
    }
    RelPath::from_url(uri.path())?
        .below("share")
        .ok_or_else(|| {
            Refusal::new(
                StatusCode::FORBIDDEN,
                format!("what {name} says is not below /share/"),
            )
        })
}

#[cfg(test)]
mod tests;
