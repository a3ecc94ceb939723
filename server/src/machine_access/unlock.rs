//! `POST /unlock`: the key of an encrypted image, for the machine whose job is about it. The identities stay here; a machine gets
//! the key of one file, which is of use for no other.
//!
//! Where the share is this server's own, the header is read here: nobody gets another image's key by showing that one's header.
//! Elsewhere it is what the machine shows, which `--unlock-elsewhere` has to allow.

use super::rights::{Rights, secrets_of_job};
use super::{message, whose};
use crate::connections::Peer;
use crate::http::Here;
use crate::machine_access::MachineAccess;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use headers::authorization::Bearer;
use headers::{Authorization, HeaderMapExt};
use jiff::Timestamp;
use pitstop_age::{Decrypted, FileKey, Identities};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_jobs::Job;
use pitstop_people::{Entry, Outcome};
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::check_folder;
use pitstop_protocol::machine::folder;
use pitstop_protocol::redacted;
use pitstop_protocol::tree::{TreeName, check_name, encrypted_image, version_of};
use pitstop_protocol::unlock::{Locked, MOST_BYTES, Unlocked};
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;

/// No file of keys is larger, in bytes.
const MOST_OF_KEYS: u64 = 1 << 20;
/// Each is tried on each recipient of an image.
const MOST_IDENTITIES: usize = 64;

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Give machines the key of their own job's image, where it is encrypted for an identity in FILE: of age-keygen's, and only
    /// its owner may read it; wants --tls and --machine-access token
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Also where a job's share is another server's, or an export: the machine then says itself how the image begins
    #[arg(long, requires = "identities")]
    unlock_elsewhere: bool,
}

/// The identities that images are unlocked with.
#[derive(Debug)]
pub struct Unlocking {
    identities: Identities,
    elsewhere: bool,
}

impl Unlocking {
    /// What is in an image that is encrypted for one of the identities.
    ///
    /// # Errors
    /// It is for none of them, or is not whole.
    pub fn open(&self, image: Box<dyn ImageSource>) -> anyhow::Result<Box<dyn ImageSource>> {
        Ok(Box::new(Decrypted::open(image, &self.identities)?))
    }
}

impl Options {
    /// # Errors
    /// The file is none, others may read it, or whoever reaches this server could have the keys.
    pub fn open(&self, tls: bool, access: MachineAccess) -> anyhow::Result<Option<Unlocking>> {
        let Some(file) = &self.identities else {
            return Ok(None);
        };
        ensure!(
            tls,
            "--identities wants --tls: without https whoever listens could read the keys of images"
        );
        ensure!(
            access == MachineAccess::Token,
            "--identities wants --machine-access token: without it whoever reaches this server could read the host file of a \
             machine, and have its image's key"
        );
        let identities = read(file).with_context(|| format!("--identities {}", file.display()))?;
        Ok(Some(Unlocking {
            identities,
            elsewhere: self.unlock_elsewhere,
        }))
    }
}

/// Nothing of the file is in an error.
fn read(path: &Path) -> anyhow::Result<Identities> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        bail!(
            "it has secret keys, and others than its owner may read it (mode {:o}): chmod 600 {}",
            mode & 0o777,
            path.display()
        );
    }
    let mut text = String::new();
    let read = file.take(MOST_OF_KEYS + 1).read_to_string(&mut text)?;
    ensure!(
        read as u64 <= MOST_OF_KEYS,
        "it has more than {MOST_OF_KEYS} bytes: that is no file of keys"
    );
    let identities = Identities::parse(&text)?;
    ensure!(
        identities.count() <= MOST_IDENTITIES,
        "it has {} keys, and {MOST_IDENTITIES} are the most",
        identities.count()
    );
    Ok(identities)
}

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/unlock", post(unlock).fallback(refuse))
}

async fn refuse() -> Refusal {
    Refusal::method("POST")
}

async fn unlock(
    Here(site): Here,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if !peer.secure {
        return Err(forbidden("keys are given over https alone"));
    }
    let token = headers
        .typed_get::<Authorization<Bearer>>()
        .map(|it| it.token().to_owned());
    let body = message(body, MOST_BYTES).await?;
    let answer = blocking(move || {
        let locked = Locked::parse(&body)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        given(&site, peer.address.to_canonical(), token, &locked)
    });
    let answer = Json(Unlocked { key: answer.await? });
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

fn forbidden(why: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, why)
}

/// The folder of the machine that asks, where its job does not say which it is: not that of whom it says to be.
fn own_folder(locked: &Locked<'_>, peer: IpAddr) -> String {
    folder(whose(locked.address, peer))
}

/// The job of the token that is shown, and what that is good for.
fn of_whom(
    site: &Site,
    peer: IpAddr,
    token: Option<String>,
    locked: &Locked<'_>,
) -> Result<(Job, Rights), Refusal> {
    let token = token.ok_or_else(|| {
        Refusal::unauthorized("a machine shows the report-token of its job to have a key")
    })?;
    let rights = Rights::of(site, &(locked.job.clone(), token), own_folder(locked, peer))?;
    let job = site.jobs.store().read(&locked.job).ok().flatten();
    let job = job.ok_or_else(|| forbidden("there is no such job"))?;
    Ok((job, rights))
}

/// An image as logs have it: a URL may have a password in it, or a signature that is a key.
fn shown(image: &str) -> String {
    let url = image.parse::<Url>();
    url.map_or_else(|_| image.to_owned(), |url| redacted(&url))
}

/// The key, noted with who gets it.
fn given(
    site: &Site,
    peer: IpAddr,
    token: Option<String>,
    locked: &Locked<'_>,
) -> Result<FileKey, Refusal> {
    let unlocking = site.unlocking.as_deref().ok_or_else(|| {
        let why = "this server has no keys for images: start it with --identities FILE";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, why)
    })?;
    let (who, key) = match of_whom(site, peer, token, locked) {
        Ok((job, rights)) => {
            let key = key(site, unlocking, &job, &rights, locked);
            (job.machine, key)
        }
        Err(refusal) => (String::new(), Err(refusal)),
    };
    let (outcome, told) = match &key {
        Ok(_) => (Outcome::Done, "is given".to_owned()),
        Err(refusal) => (
            Outcome::Refused,
            format!("is not given: {}", refusal.reason),
        ),
    };
    let (id, image) = (&locked.job, shown(&locked.image));
    let (of, how) = if who.is_empty() {
        (String::new(), "nobody".to_owned())
    } else {
        (format!(" of {who}"), format!("job {id}"))
    };
    site.journal
        .note(&format!("{peer}: the key of {image} {told}; job {id}{of}"));
    let noted = site.people.audit.note(Entry {
        time: Timestamp::now(),
        who,
        how,
        from: peer.to_string(),
        act: "key of an image".into(),
        object: image,
        outcome,
        left_out: 0,
    });
    // A key that nobody could be asked about later is not given.
    noted.map_err(|error| Refusal::io("noting who gets a key", &error))?;
    key
}

fn key(
    site: &Site,
    unlocking: &Unlocking,
    job: &Job,
    rights: &Rights,
    locked: &Locked<'_>,
) -> Result<FileKey, Refusal> {
    if job.ended.is_some() || job.state.is_withdrawn() {
        return Err(forbidden("the job is over"));
    }
    let said: toml::Table = toml::from_str(&job.text).unwrap_or_default();
    let image = &*locked.image;
    if !is_of_job(&said, job.action, rights, image) {
        return Err(forbidden(format!(
            "{} is no encrypted image that this job restores or deploys, nor the secrets of its hooks",
            shown(image)
        )));
    }
    let found = if is_on_own_share(site, job, &said) && check_folder(image).is_ok() {
        own_head(site, image)?
    } else if unlocking.elsewhere {
        locked.head.as_bytes().to_vec()
    } else {
        return Err(forbidden(
            "this image is not on the server's own share, so that it cannot see whose header this is: pitstop serve \
             --unlock-elsewhere believes the machine",
        ));
    };
    pitstop_age::unlock(&found, &unlocking.identities).map_err(|error| {
        let why = format!("{}: {error}", shown(image));
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })
}

/// How an image on the own share begins.
fn own_head(site: &Site, image: &str) -> Result<Vec<u8>, Refusal> {
    let path = RelPath::from_text(image)?;
    let read = || pitstop_age::head(&*site.image(path.as_str())?);
    read().map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")))
}

/// Whether the job's share is `share/` of this server.
fn is_on_own_share(site: &Site, job: &Job, said: &toml::Table) -> bool {
    let share = said.get("share").and_then(toml::Value::as_str);
    let share = share.unwrap_or_default().trim_end_matches('/');
    let servers = job.server.as_deref().into_iter().chain([&*site.url]);
    let mut rests = servers.filter_map(|server| share.strip_prefix(server));
    rests.any(|rest| rest == "/share")
}

/// Whether an encrypted image of this name is what the job puts on its machine, or the secrets that its hooks are given.
fn is_of_job(said: &toml::Table, action: ActionName, rights: &Rights, image: &str) -> bool {
    if !is_named_encrypted(image) {
        return false;
    }
    if secrets_of_job(action, said) == Some(image) {
        return true;
    }
    match action {
        ActionName::Restore => {
            let file = image.strip_prefix(rights.image());
            let file = file.and_then(|rest| rest.strip_prefix('/'));
            file.is_some_and(|file| !file.contains('/')) && check_folder(image).is_ok()
        }
        ActionName::Capture | ActionName::Deploy if is_luks_key(said, rights, image) => true,
        ActionName::Deploy | ActionName::Update | ActionName::Run => {
            let named = said.get("tree").and_then(toml::Value::as_str);
            match named.map(str::parse) {
                Some(Ok(TreeName::Named { name, version })) => {
                    // What is no version's name is no path on the share, and the machine would be believed.
                    let found = version_of(image).filter(|found| {
                        check_name(found).is_ok() && image == encrypted_image(&name, found)
                    });
                    found.is_some_and(|found| version.is_none_or(|version| version == found))
                }
                Some(Ok(TreeName::Url(url))) => image.parse::<Url>().is_ok_and(|it| it == url),
                Some(Err(_)) | None => false,
            }
        }
        _ => false,
    }
}

/// Whether it is the passphrase of the disk that a system is put on or captured from, in the folder of its image.
fn is_luks_key(said: &toml::Table, rights: &Rights, image: &str) -> bool {
    let named = said.get("luks-key").and_then(toml::Value::as_str);
    let file = image.strip_prefix(rights.image());
    let file = file.and_then(|rest| rest.strip_prefix('/'));
    file.is_some() && file == named && check_folder(image).is_ok()
}

#[cfg(test)]
mod tests;
