//! Deleting configurations when the job is done, and proving beforehand that it will be possible: else the
//! machine would repeat its job for ever.

use super::{Carriers, nfs};
use crate::fetch::HttpClient;
use crate::fetch::http::{Backoff, Response, asks_for_patience, refusal};
use anyhow::{Context as _, anyhow, bail};
use nix::unistd::{AccessFlags, access};
use pitstop_protocol::job::DeleteTarget;
use pitstop_protocol::redacted;
use pitstop_protocol::share_url::NfsUrl;
use reqwest::{Method, StatusCode};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use url::Url;

/// Ends the name that is never there and whose deletion tells whether deleting is allowed.
pub const PROBE: &str = ".pitstop-probe";

/// Checks that every target exists and can be deleted.
///
/// # Errors
/// Names the first target that is not there or cannot be deleted, and says why.
pub fn check(targets: &[DeleteTarget], carriers: &Carriers) -> anyhow::Result<()> {
    for target in targets {
        check_one(target, carriers)
            .with_context(|| format!("the configuration {target} cannot be deleted later"))?;
    }
    Ok(())
}

/// Deletes every target and proves that it is gone. All are tried even if one fails.
///
/// # Errors
/// Names every target that is still there.
pub fn delete(targets: &[DeleteTarget], carriers: &Carriers) -> anyhow::Result<()> {
    let failures: Vec<String> = targets
        .iter()
        .filter_map(|target| {
            let outcome = delete_one(target, carriers);
            outcome.err().map(|error| format!("{target}: {error:#}"))
        })
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    bail!("deleting the configuration: {}", failures.join("; "))
}

/// A configuration as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// With what tells this version from any other, as far as its server tells that; else empty.
    There(String),
    Gone,
}

/// Looks at a target.
///
/// # Errors
/// When it can be told neither to be there nor to be gone.
pub fn look(target: &DeleteTarget, carriers: &Carriers) -> anyhow::Result<Seen> {
    let url = target.url();
    let seen = match url.scheme() {
        "http" | "https" => look_http(url, &carriers.http),
        "nfs" => on_nfs(url, carriers, |path| look_at_file(path, Numbers::Kept)),
        "file" => {
            let path = local(url)?;
            let numbers = if carriers.stick.holds(&path) {
                Numbers::Given
            } else {
                Numbers::Kept
            };
            look_at_file(&path, numbers)
        }
        scheme => Err(not_over(scheme)),
    };
    seen.with_context(|| format!("looking at the configuration {target}"))
}

fn look_http(url: &Url, http: &HttpClient) -> anyhow::Result<Seen> {
    let mut answer = answer(&Method::HEAD, url, http)?;
    if needs_get(answer.status()) {
        answer = self::answer(&Method::GET, url, http)?;
    }
    let status = answer.status();
    if is_gone(status) {
        return Ok(Seen::Gone);
    }
    if !status.is_success() {
        bail!(refusal(&Method::GET, &redacted(url), status));
    }
    let told = [answer.etag(), answer.header("last-modified")];
    let told: Vec<&str> = told.into_iter().flatten().collect();
    Ok(Seen::There(told.join(", ")))
}

/// What a filesystem does with the numbers of files.
#[derive(Clone, Copy)]
enum Numbers {
    Kept,
    /// FAT and exFAT have none: the kernel gives them anew as it forgets and finds files.
    Given,
}

/// Of a file that was put in another's place, the inode or the time of change is another.
fn look_at_file(path: &Path, numbers: Numbers) -> anyhow::Result<Seen> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Gone),
        metadata => metadata.context("looking at it")?,
    };
    Ok(Seen::There(match numbers {
        Numbers::Kept => format!(
            "{:x}-{:x}-{:x}.{:x}",
            metadata.ino(),
            metadata.len(),
            metadata.ctime(),
            metadata.ctime_nsec()
        ),
        Numbers::Given => format!("{:x}-{:x}", metadata.len(), metadata.mtime()),
    }))
}

fn check_one(target: &DeleteTarget, carriers: &Carriers) -> anyhow::Result<()> {
    let url = target.url();
    match url.scheme() {
        "http" | "https" => check_http(url, &carriers.http),
        "nfs" => on_nfs(url, carriers, check_file),
        "file" => on_disk(url, carriers, check_file),
        scheme => Err(not_over(scheme)),
    }
}

fn delete_one(target: &DeleteTarget, carriers: &Carriers) -> anyhow::Result<()> {
    let url = target.url();
    match url.scheme() {
        "http" | "https" => delete_http(url, &carriers.http),
        "nfs" => on_nfs(url, carriers, delete_file),
        "file" => on_disk(url, carriers, delete_file),
        scheme => Err(not_over(scheme)),
    }
}

fn not_over(scheme: &str) -> anyhow::Error {
    anyhow!(
        "nothing can be deleted over {scheme}: give the same file's http(s):// or nfs:// URL as delete in \
         the host file or as pitstop.delete"
    )
}

fn local(url: &Url) -> anyhow::Result<PathBuf> {
    url.to_file_path()
        .map_err(|()| anyhow!("it is not file:///path"))
}

/// Asks again while the server is away; whatever it answers otherwise is the answer.
fn ask(method: &Method, url: &Url, http: &HttpClient) -> anyhow::Result<StatusCode> {
    Ok(answer(method, url, http)?.status())
}

fn answer(method: &Method, url: &Url, http: &HttpClient) -> anyhow::Result<Response> {
    let mut backoff = Backoff::new(http);
    loop {
        let outcome = http.request(method.clone(), url).send();
        let passing = match &outcome {
            Ok(response) => {
                let status = response.status();
                let again = asks_for_patience(status)
                    || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
                again.then(|| response.refusal())
            }
            Err(error) => error.failure.is_passing().then(|| error.to_string()),
        };
        let ended = match passing {
            None => true,
            Some(what) => !backoff.again(&what),
        };
        if ended {
            return Ok(outcome?);
        }
    }
}

/// Whether the server does not know HEAD.
fn needs_get(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST
    )
}

fn is_gone(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// It must be there, and the server must know DELETE: for a sibling that is not there "not found" means that
/// deleting is allowed, and 405, 403 and the like that it is not.
fn check_http(url: &Url, http: &HttpClient) -> anyhow::Result<()> {
    let mut status = ask(&Method::HEAD, url, http)?;
    if needs_get(status) {
        status = ask(&Method::GET, url, http)?;
    }
    if is_gone(status) {
        bail!("it does not exist");
    }
    if !status.is_success() {
        bail!(refusal(&Method::GET, &redacted(url), status));
    }
    let mut sibling = url.clone();
    sibling.set_path(&format!("{}{PROBE}", url.path()));
    let status = ask(&Method::DELETE, &sibling, http)?;
    // A server that says "done" of what was never there allows it as well.
    if is_gone(status) || status.is_success() {
        return Ok(());
    }
    bail!(
        "the server does not allow DELETE (HTTP {}): allow it for this folder, or give another URL as delete",
        status.as_u16()
    )
}

/// What counts is that it is gone: where the answer to a DELETE was lost, the one that is sent again may be refused,
/// because the right to delete went with the file.
fn delete_http(url: &Url, http: &HttpClient) -> anyhow::Result<()> {
    let deleted = ask(&Method::DELETE, url, http)?;
    let status = ask(&Method::GET, url, http)?;
    if is_gone(status) {
        return Ok(());
    }
    if !deleted.is_success() && !is_gone(deleted) {
        bail!(refusal(&Method::DELETE, &redacted(url), deleted));
    }
    bail!(
        "the server says that it is deleted, but it is still there (HTTP {})",
        status.as_u16()
    )
}

/// A stick is made writable meanwhile.
fn on_disk(
    url: &Url,
    carriers: &Carriers,
    act: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let path = local(url)?;
    if !carriers.stick.holds(&path) {
        return act(&path);
    }
    let writing = carriers.stick.writing()?;
    act(&path)?;
    writing.finish()
}

/// Mounts the folder that the file is in, and hands over the file's path.
fn on_nfs<T>(
    url: &Url,
    carriers: &Carriers,
    act: impl Fn(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let nfs = NfsUrl::from_url(url)?;
    let path = PathBuf::from(&nfs.path);
    let name = path
        .file_name()
        .context("the URL names no file")?
        .to_owned();
    let folder = path.parent().and_then(Path::to_str).unwrap_or("/");
    let export = NfsUrl {
        path: folder.to_owned(),
        ..nfs
    };
    let mounted = nfs::mount(&export, carriers)?;
    act(&mounted.path().join(name))
}

/// Deleting is a right on the folder.
fn check_file(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("it does not exist"),
        metadata => metadata.context("looking at it")?,
    };
    if metadata.is_dir() {
        bail!("it is a folder");
    }
    let folder = path.parent().context("it has no folder")?;
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).context("its folder cannot be written to")
}

fn delete_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => outcome.context("removing it")?,
    }
    if fs::symlink_metadata(path).is_ok() {
        bail!("it is still there");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
