//! `POST /sign`: requests to a store, signed for machines. The keys stay here; a machine gets what its job allows, object by
//! object, and for a while.

use super::rights::{Act, Rights};
use super::{MachineAccess, message, whose};
use crate::claims::Claims;
use crate::http::{Caller, Here, Routine};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cap_std::fs::Dir;
use headers::authorization::Bearer;
use headers::{Authorization, HeaderMapExt};
use jiff::Timestamp;
use pitstop_protocol::host_name::hex_address;
use pitstop_protocol::job::check_folder;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::machine::folder;
use pitstop_protocol::share_url::{NEVER_THERE, S3Url, ShareUrl};
use pitstop_protocol::store::{Ask, Granted, MOST_BYTES, Wanted};
use pitstop_transport::share::{Keys, Signer};
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a request may be used. What is under way by then goes on.
const VALID: Duration = Duration::from_secs(15 * 60);

/// No host file is larger.
const LARGEST: u64 = 1 << 20;

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/sign", post(sign).fallback(refuse))
}

async fn refuse() -> Refusal {
    Refusal::method("POST")
}

async fn sign(
    Here(site): Here,
    Caller(peer): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let token = headers
        .typed_get::<Authorization<Bearer>>()
        .map(|it| it.token().to_owned());
    let body = message(body, MOST_BYTES).await?;
    let answer = blocking(move || {
        let wanted = Wanted::parse(&body)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        grant(&site, peer, token, &wanted)
    });
    let answer = Json(answer.await?);
    let mut response = ([(header::CACHE_CONTROL, "no-store")], answer).into_response();
    // Some for each part of an image.
    response.extensions_mut().insert(Routine);
    Ok(response)
}

fn grant(
    site: &Site,
    peer: IpAddr,
    token: Option<String>,
    wanted: &Wanted<'_>,
) -> Result<Granted, Refusal> {
    let keys = site.store_keys.as_deref().ok_or_else(|| {
        let why = "this server has no keys for a store: start it with --store-keys FILE";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, why)
    })?;
    let job = of_whom(site, peer, token, wanted)?;
    let share = job.share(&wanted.share)?;
    let path = below_share(&wanted.path)?;
    check(&job.rights, &wanted.ask, &path)?;
    if let Some(from) = wanted.ask.source() {
        let from = below_share(from)?;
        // It may be moved, and then what was there is gone: as for MOVE.
        allow(&job.rights, Act::Write, &from)?;
    }
    granted(keys, &share, wanted)
}

/// A job of a machine, and what it is good for.
struct OfJob {
    rights: Rights,
    text: String,
    address: IpAddr,
}

impl OfJob {
    /// The store of the job, where it is the one that is asked for.
    fn share(&self, asked: &str) -> Result<S3Url, Refusal> {
        let said: toml::Table = toml::from_str(&self.text).unwrap_or_default();
        let said = said.get("share").and_then(toml::Value::as_str);
        let own = said
            .unwrap_or_default()
            .replace("{ip}", &folder(self.address));
        let own = own.replace("{hexip}", &hex_address(self.address));
        let forbidden = |why: String| Refusal::new(StatusCode::FORBIDDEN, why);
        let Ok(ShareUrl::S3(own)) = own.parse() else {
            return Err(forbidden("the share of this job is no store".into()));
        };
        let same = matches!(asked.parse(), Ok(ShareUrl::S3(asked)) if asked == own);
        same.then_some(own.clone())
            .ok_or_else(|| forbidden(format!("the share of this job is {own}, and no other")))
    }
}

fn of_whom(
    site: &Site,
    peer: IpAddr,
    token: Option<String>,
    wanted: &Wanted<'_>,
) -> Result<OfJob, Refusal> {
    let no_such = || Refusal::new(StatusCode::FORBIDDEN, "there is no such job");
    if let (Some(job), Some(token)) = (&wanted.job, token) {
        let address = whose(wanted.address, peer);
        let rights = Rights::of(site, &(job.clone(), token), folder(address))?;
        let job = site.jobs.store().read(job).ok().flatten();
        return Ok(OfJob {
            rights,
            text: job.ok_or_else(no_such)?.text,
            address,
        });
    }
    let file = wanted.host_file.as_deref().ok_or_else(|| {
        Refusal::unauthorized("a machine shows the report-token of its job, or says its host file")
    })?;
    if site.machine_access == MachineAccess::Token {
        return Err(Refusal::unauthorized(
            "this server wants the token of a run: set the job with pitstop host set",
        ));
    }
    let path = RelPath::from_text(file)?;
    Claims::may_read(&path, peer).map_err(|why| Refusal::new(StatusCode::FORBIDDEN, why))?;
    let text = host_file(&site.hosts, &path).ok_or_else(no_such)?;
    let address = whose(wanted.address, peer);
    Ok(OfJob {
        rights: Rights::of_text(&text, folder(address)),
        text,
        address,
    })
}

/// A host file as somebody wrote it, if a machine would take it.
fn host_file(hosts: &Dir, path: &RelPath) -> Option<String> {
    let hidden = path.as_str().split('/').any(|part| part.starts_with('.'));
    let file = hosts.open(path.as_path()).ok().filter(|_| !hidden)?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    HostFile::parse(text.as_bytes(), path.as_str()).ok()?;
    Some(text)
}

/// A path in its only spelling: another one would be another object.
fn below_share(path: &str) -> Result<RelPath, Refusal> {
    let bad = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
    check_folder(path).map_err(bad)?;
    Ok(RelPath::from_text(path)?)
}

fn check(rights: &Rights, ask: &Ask<'_>, path: &RelPath) -> Result<(), Refusal> {
    let act = match ask {
        // Whether the store says of something that it is not there.
        Ask::Head if path.as_str() == NEVER_THERE => return Ok(()),
        Ask::Put if rights.is_log(path) => return Ok(()),
        // Told are the uploads of all keys that begin so: of a folder's own name, those of folders whose names begin like it.
        Ask::Uploads => {
            let folder = path.split().map(|(folder, _)| folder);
            let within = folder.filter(|folder| rights.allow(Act::Write, folder));
            return within.map(|_| ()).ok_or_else(|| rights.refuse(path));
        }
        Ask::Head | Ask::Get | Ask::List { .. } => Act::Read,
        Ask::Put
        | Ask::Delete
        | Ask::Copy { .. }
        | Ask::Begin
        | Ask::Part { .. }
        | Ask::CopyPart { .. }
        | Ask::Parts { .. }
        | Ask::Complete { .. }
        | Ask::Abort { .. } => Act::Write,
    };
    allow(rights, act, path)
}

fn allow(rights: &Rights, act: Act, path: &RelPath) -> Result<(), Refusal> {
    if rights.allow(act, path) {
        Ok(())
    } else {
        Err(rights.refuse(path))
    }
}

fn granted(keys: &Keys, share: &S3Url, wanted: &Wanted<'_>) -> Result<Granted, Refusal> {
    let signer = Signer::new(share, keys)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error:#}")))?;
    let ask = wanted.ask.with_source(|from| share.key(from));
    let mut key = share.key(&wanted.path);
    if matches!(ask, Ask::List { .. }) {
        // What begins like the folder's name is another one.
        key.push('/');
    }
    let request = signer.sign_for(&ask, &key, VALID);
    let headers = request.headers.into_iter();
    Ok(Granted {
        method: request.method.to_string(),
        url: request.url.into(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        seconds: VALID.as_secs(),
        clock: Timestamp::now().as_second(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 15));

    fn job(text: &str) -> OfJob {
        OfJob {
            rights: Rights::of_text(text, folder(PEER)),
            text: text.to_owned(),
            address: PEER,
        }
    }

    fn may(job: &OfJob, ask: &Ask<'_>, path: &str) -> bool {
        check(&job.rights, ask, &below_share(path).unwrap()).is_ok()
    }

    #[test]
    fn a_machine_asks_for_what_its_job_has_to_do_with() {
        let text = "action = \"restore\"\nimage = \"golden\"\nshare = \"s3://lab/{ip}?endpoint=http://s:9\"\n";
        let restore = job(text);
        for (ask, path, allowed) in [
            (Ask::Get, "golden/sda.raw.gz", true),
            (Ask::Head, "pitstop-share", true),
            (Ask::Put, "pitstop-share", false),
            (Ask::Head, NEVER_THERE, true),
            (Ask::Get, NEVER_THERE, false),
            (Ask::Put, "golden/sda.raw.gz", false),
            (Ask::Delete, "golden/sda.raw.gz", false),
            (Ask::Begin, "10.0.2.15/x", true),
            (Ask::Uploads, "10.0.2.15/x", true),
            // It would tell those of 10.0.2.150 as well.
            (Ask::Uploads, "10.0.2.15", false),
            (Ask::Uploads, "golden/x", false),
            (Ask::Get, "10.0.2.16/sda.raw.gz", false),
            (
                Ask::List {
                    deep: false,
                    after: None,
                },
                "10.0.2.15",
                true,
            ),
            (
                Ask::Put,
                "maintenance.log.d/20261129-013000-1f2e3d4c-10.0.2.15.log",
                true,
            ),
            (
                Ask::Put,
                "maintenance.log.d/20261129-013000-1f2e3d4c-10.0.2.16.log",
                false,
            ),
            (
                Ask::Get,
                "maintenance.log.d/20261129-013000-1f2e3d4c-10.0.2.15.log",
                false,
            ),
            (
                Ask::Delete,
                "maintenance.log.d/20261129-013000-1f2e3d4c-10.0.2.15.log",
                false,
            ),
            (
                Ask::Put,
                "maintenance.log.d/x/1f2e3d4c-10.0.2.15.log",
                false,
            ),
            (Ask::Put, "maintenance.log.d/-10.0.2.15.log", false),
        ] {
            assert_eq!(may(&restore, &ask, path), allowed, "{ask:?} {path}");
        }
        let backup = job(&text.replace("restore", "backup"));
        assert!(may(&backup, &Ask::Put, "golden/sda.raw.gz.new"));
        for path in ["", "a/../b", "/a", "a//b"] {
            below_share(path).expect_err(path);
        }
    }

    #[test]
    fn another_bucket_is_refused() {
        let own = job("share = \"s3://lab/{ip}?endpoint=http://s:9\"\n");
        let share = |asked: &str| own.share(asked).map(|share| share.to_string());
        let asked = "s3://lab/10.0.2.15?endpoint=http://s:9";
        assert_eq!(share(asked).as_deref(), Ok(asked));
        for other in [
            "s3://lab/10.0.2.16?endpoint=http://s:9",
            "s3://lab?endpoint=http://s:9",
            "s3://other/10.0.2.15?endpoint=http://s:9",
            "s3://lab/10.0.2.15?endpoint=http://s:8",
            "http://s:9/",
        ] {
            assert_eq!(
                share(other).unwrap_err().status,
                StatusCode::FORBIDDEN,
                "{other}"
            );
        }
        let plain = job("share = \"http://s/share\"\n").share(asked);
        assert!(plain.unwrap_err().reason.contains("is no store"));
    }
}
