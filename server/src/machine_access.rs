//! What machines may read and write, where the server was told to be strict about it: each its own host file, its own folder and
//! the image of its job, and nobody else's. People get in by who they are.
//!
//! A machine shows the token of its run, which is in its host file. Without `--machine-access token` all of this lets everything
//! pass, as plain servers do.

mod rights;
mod shared_log;
mod sign;
mod unlock;

pub use rights::add_token;
pub use unlock::{Options as UnlockOptions, Unlocking};

use crate::claims::{self, Claims};
use crate::compose;
use crate::http::access::{self, Asked};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::share::destination;
use crate::site::{Site, Sites};
use crate::upload::linger;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use headers::HeaderMapExt;
use pitstop_people::Role;
use pitstop_protocol::machine::folder;
use rights::{Act, Rights};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Who may use the machine's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MachineAccess {
    /// Whoever reaches the server.
    #[default]
    Open,
    /// Machines with the token of their run, and people.
    Token,
}

/// A question is some packets: who takes longer to send it is no machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The doors of machines at work.
pub fn routes() -> Router<Arc<Sites>> {
    sign::routes().merge(unlock::routes())
}

/// A question of at most so many bytes.
///
/// # Errors
/// It is longer, or does not come to its end.
async fn message(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let body = timeout(PATIENCE, to_bytes(body, most)).await;
    let body = body.map_err(|_elapsed| {
        let what = "the question did not come to its end";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, what)
    })?;
    body.map_err(|_| {
        let what = format!("a question has at most {most} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    })
}

/// Puts the share behind the tokens, if the server is strict.
pub fn share(router: Router<Arc<Sites>>) -> Router<Arc<Sites>> {
    router.layer(from_fn(guard_share))
}

/// Lets people who are logged in read and delete every host file, if the server is strict. What machines may, the handlers know.
pub fn hosts(router: Router<Arc<Sites>>) -> Router<Arc<Sites>> {
    router.layer(from_fn(guard_hosts))
}

async fn now(asked: &Asked) -> Result<Arc<Site>, Refusal> {
    let sites = Arc::clone(&asked.sites);
    let site = blocking(move || {
        sites
            .now()
            .map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{e:#}")))
    });
    site.await
}

async fn guard_share(request: Request, next: Next) -> Response {
    let Some(asked) = Asked::of(&request) else {
        return access::unguarded().into_response();
    };
    let site = match now(&asked).await {
        Ok(site) if site.machine_access == MachineAccess::Open => return next.run(request).await,
        Ok(site) => site,
        Err(refusal) => return refusal.into_response(),
    };
    let run = asked.bearer().and_then(rights::read_token);
    if let Some(token) = run {
        return match of_machine(&asked, &site, token).await {
            Ok(Allowed::Pass) => next.run(request).await,
            Ok(Allowed::NoLog) => Refusal::not_found(shared_log::NAME).into_response(),
            Ok(Allowed::AddToLog(folder)) => match shared_log::add(&site, folder, request).await {
                Ok(response) => response,
                Err(refusal) => refusal.into_response(),
            },
            Err(refusal) => refuse(refusal, request),
        };
    }
    if asked.shows_nothing() && !asked.is_of_own_machine() {
        let why = "this share wants a token: a machine shows the one of its host file, a program one of pitstop token new";
        return refuse(Refusal::unauthorized(why), request);
    }
    access::check(Role::Operator, request, next).await
}

/// Answers, and reads on for a while: whoever is still sending would not see the answer otherwise.
fn refuse(refusal: Refusal, request: Request) -> Response {
    linger(request.into_body());
    let mut response = refusal.into_response();
    let close = headers::Connection::close();
    response.headers_mut().typed_insert(close);
    response
}

/// The address of the machine that asks, which says that it is `said`. What comes from the server's own machine cannot be told apart: a
/// VM on QEMU's user network may be behind it.
fn whose(said: IpAddr, peer: IpAddr) -> IpAddr {
    if claims::is_own_address(peer) {
        said
    } else {
        peer
    }
}

/// What a machine gets.
enum Allowed {
    Pass,
    /// The shared log is not for it to read.
    NoLog,
    /// It adds to the shared log, as the machine whose folder this is.
    AddToLog(String),
}

async fn of_machine(
    asked: &Asked,
    site: &Arc<Site>,
    token: (pitstop_protocol::id::Id, String),
) -> Result<Allowed, Refusal> {
    let (site, asked) = (Arc::clone(site), asked.clone());
    blocking(move || {
        let rights = Rights::of(&site, &token, folder(asked.peer))?;
        let path = RelPath::from_url(asked.uri.path())?.below_first();
        let act = Act::of(asked.method.as_str());
        if path.as_str() == shared_log::NAME {
            return match act {
                Act::Read => Ok(Allowed::NoLog),
                Act::Write if asked.method.as_str() == "PUT" => {
                    Ok(Allowed::AddToLog(rights.own().to_owned()))
                }
                Act::Write | Act::Make | Act::Ask => Err(rights.refuse(&path)),
            };
        }
        rights.check(&site, act, &path)?;
        if asked.headers.contains_key("destination") {
            let to = destination(&asked.headers, &site.url)?;
            rights.check(&site, Act::Write, &to)?;
        }
        // What is taken from a file is read by whoever gets it.
        if let Some(base) = compose::base(&asked.headers, &site.url)? {
            rights.check(&site, Act::Read, &base)?;
        }
        Ok(Allowed::Pass)
    })
    .await
}

async fn guard_hosts(request: Request, next: Next) -> Response {
    let Some(asked) = Asked::of(&request) else {
        return access::unguarded().into_response();
    };
    match now(&asked).await {
        Ok(site) if site.machine_access == MachineAccess::Open => return next.run(request).await,
        Ok(_) => {}
        Err(refusal) => return refusal.into_response(),
    }
    let run = asked.bearer().and_then(rights::read_token);
    if asked.shows_nothing() || run.is_some() {
        return next.run(request).await;
    }
    access::check(Role::Operator, request, next).await
}

/// Whether `peer` may read the host file at `path`, which may have a token in it. Who it is, its address tells.
pub fn may_read(site: &Site, path: &RelPath, peer: IpAddr) -> Result<(), Refusal> {
    if site.machine_access == MachineAccess::Open {
        return Ok(());
    }
    Claims::may_read(path, peer).map_err(|why| Refusal::new(StatusCode::FORBIDDEN, why))
}

/// Whether `peer` may see which host files there are.
pub fn may_list(site: &Site, peer: IpAddr) -> Result<(), Refusal> {
    if site.machine_access == MachineAccess::Open || claims::is_own_address(peer) {
        return Ok(());
    }
    Err(Refusal::unauthorized(
        "which machines have jobs is told to people who log in",
    ))
}

impl Asked {
    /// There is nothing in the request by which anybody could be known.
    fn shows_nothing(&self) -> bool {
        !self.headers.contains_key(header::AUTHORIZATION) && self.session().is_none()
    }
}
