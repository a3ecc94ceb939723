//! Host files over HTTP: a machine deletes its own, nobody writes. Who reads them is in `machine_access`.

use crate::claims::{self, Claims};
use crate::file::{self, Found};
use crate::host_files;
use crate::http::access::Who;
use crate::http::{Below, Caller, Here};
use crate::listing;
use crate::machine_access;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use crate::upload::sync_folder;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use pitstop_protocol::job::beside::companions;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;

pub fn routes() -> Router<Arc<Sites>> {
    let methods = || get(read).delete(remove).fallback(refuse);
    machine_access::hosts(
        Router::new()
            .route("/hosts", methods())
            .route("/hosts/", methods())
            .route("/hosts/{*path}", methods()),
    )
}

async fn refuse() -> Refusal {
    Refusal::method("GET, HEAD, DELETE")
}

async fn read(
    Here(site): Here,
    Below(path): Below,
    Caller(peer): Caller,
    who: Option<Extension<Who>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if is_hidden(&path) {
        return Err(Refusal::not_found(path));
    }
    let (wanted, person) = (path.clone(), is_person(who.as_ref()));
    let found = blocking(move || {
        if person {
            return file::open(&site.hosts, &wanted);
        }
        let found = open(&site, &wanted, peer)?;
        if let Found::Folder(_) = found {
            machine_access::may_list(&site, peer)?;
        }
        Ok(found)
    });
    match found.await? {
        Found::File(file, metadata) => file::send(file, metadata, &path, &method, &headers).await,
        Found::Folder(folder) => {
            let shown = format!("/hosts/{path}");
            let entries = blocking(move || listing::read(&folder, &shown)).await?;
            Ok(listing::answer(&entries, uri.path(), &headers))
        }
    }
}

async fn remove(
    Here(site): Here,
    Below(path): Below,
    Caller(peer): Caller,
    who: Option<Extension<Who>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if is_hidden(&path) {
        return Err(Refusal::not_found(path));
    }
    let who = if is_person(who.as_ref()) {
        By::Person
    } else {
        By::Machine(peer)
    };
    blocking(move || delete(&site, &path, who, &headers)).await
}

/// Who deletes a host file.
#[derive(Clone, Copy)]
enum By {
    /// Who is logged in and may delete every one.
    Person,
    Machine(IpAddr),
}

/// The layer before these routes puts somebody here who is logged in and may read and delete every host file.
fn is_person(who: Option<&Extension<Who>>) -> bool {
    who.is_some()
}

/// `pitstop host set` writes under such names before it renames.
pub fn is_hidden(path: &RelPath) -> bool {
    path.as_str().split('/').any(|part| part.starts_with('.'))
}

/// Opens what `peer` asks for, and remembers who asked.
pub fn open(site: &Site, path: &RelPath, peer: IpAddr) -> Result<Found, Refusal> {
    let found = file::open(&site.hosts, path)?;
    if let Found::File(..) = found {
        // What lies beside a job's file is for whom the file is for.
        let meant = Some(path).filter(|path| host_files::is_companion(path.as_str()));
        let meant = meant.and_then(claims::probed);
        machine_access::may_read(site, meant.as_ref().unwrap_or(path), peer)?;
    }
    if let Found::File(..) = found
        && !host_files::is_companion(path.as_str())
        && let Err(error) = site.claims.read_by(path, peer)
    {
        site.journal.note(&format!(
            "{peer} read {path}, which is forgotten when the server ends: {error}"
        ));
    }
    Ok(found)
}

fn delete(site: &Site, path: &RelPath, by: By, headers: &HeaderMap) -> Result<Response, Refusal> {
    let Some((parent, _)) = path.split() else {
        return Err(Refusal::method("GET, HEAD"));
    };
    let one_at_a_time = site.locks.one(path);
    let metadata = match site.hosts.symlink_metadata(path.as_path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // A machine probes with a name beside its own whether it may delete its own: answer that.
            if let Some(meant) = claims::probed(path) {
                allowed(&site.claims, &meant, by)?;
            }
            return Err(Refusal::not_found(path));
        }
        Err(error) => return Err(Refusal::io(&format!("deleting {path}"), &error)),
    };
    allowed(&site.claims, path, by)?;
    if !file::preconditions_hold(headers, Some(&file::Facts::of(&metadata))) {
        return Err(Refusal::precondition());
    }
    site.hosts
        .remove_file(path.as_path())
        .map_err(|e| Refusal::io(&format!("deleting {path}"), &e))?;
    // What lies beside a job's file is of no use without it.
    for companion in companions(path.as_str()) {
        match site.hosts.remove_file(&companion) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Refusal::io(&format!("deleting {companion}"), &error));
            }
            _ => {}
        }
    }
    drop(one_at_a_time);
    site.hosts
        .open_dir(parent.as_path())
        .and_then(|folder| sync_folder(&folder))
        .map_err(|e| Refusal::io(&format!("deleting {path}"), &e))?;
    site.claims.forget(path);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn allowed(claims: &Claims, path: &RelPath, by: By) -> Result<(), Refusal> {
    let By::Machine(peer) = by else {
        return Ok(());
    };
    claims
        .may_delete(path, peer)
        .map_err(|why| Refusal::new(StatusCode::FORBIDDEN, why))
}
