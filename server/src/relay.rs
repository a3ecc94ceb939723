//! `POST /relay`: where machines that restore one image hear who has it for them. `pitstop_relay` plans; here is the door.

mod wanted;

use crate::http::{Caller, Here, Routine};
use crate::jobs::Found;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use pitstop_relay::{Coordinator, MOST_BYTES, Report};
use pitstop_transport::share::{RELAY, RELAY_WANTED};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
pub use wanted::Shelf;
use wanted::Wanted;

/// Where reports go, and what the answer to HEAD of an image says.
const DOOR: &str = "/relay";
/// A report is one packet: who takes longer to send it is no machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// The file below the root that keys of sessions are made of.
const SECRET: &str = "relay.key";

/// The chains of this server.
pub struct Relays {
    /// `None`: it plans none.
    coordinator: Option<Mutex<Coordinator>>,
    /// The plan's clock: nobody sets it.
    began: Instant,
    wanted: Wanted,
}

impl Relays {
    /// Sends each image to `chains` machines at once; 0 is for no chains.
    ///
    /// # Errors
    /// The secret below `root` can neither be read nor made.
    pub fn new(root: &Path, chains: usize) -> io::Result<Self> {
        let coordinator = match chains {
            0 => None,
            some => Some(Mutex::new(Coordinator::new(some, secret(root)?))),
        };
        Ok(Self {
            coordinator,
            began: Instant::now(),
            wanted: Wanted::default(),
        })
    }

    /// What HEAD of a file says to who would restore it: where chains are planned, and how many jobs are for the same image.
    pub fn offer(
        &self,
        on_disk: Option<Shelf<'_>>,
        jobs: &Arc<Found>,
        path: &RelPath,
    ) -> Vec<(HeaderName, HeaderValue)> {
        if self.coordinator.is_none() {
            return Vec::new();
        }
        vec![
            (
                HeaderName::from_static(RELAY),
                HeaderValue::from_static(DOOR),
            ),
            (
                HeaderName::from_static(RELAY_WANTED),
                self.wanted.count(on_disk, jobs, path).into(),
            ),
        ]
    }
}

/// The secret, made where there is none. Nobody else reads it.
fn secret(root: &Path) -> io::Result<[u8; 32]> {
    let path = root.join(SECRET);
    let mut secret = [0; 32];
    match fs::File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut secret)?;
            return Ok(secret);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    // Under its name when it is whole; a temporary file is its owner's alone.
    let mut file = tempfile::NamedTempFile::new_in(root)?;
    file.write_all(&secret)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(secret)
}

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route(DOOR, post(report).fallback(refuse))
}

async fn refuse() -> Refusal {
    Refusal::method("POST")
}

async fn report(Here(site): Here, Caller(peer): Caller, body: Body) -> Result<Response, Refusal> {
    if site.relays.coordinator.is_none() {
        return Err(Refusal::not_found(DOOR));
    }
    let body = timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await;
    let body = body.map_err(|_elapsed| {
        let what = "the report did not come to its end";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, what)
    })?;
    let body = body.map_err(|_| {
        let what = format!("a report has at most {MOST_BYTES} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    })?;
    let report = Report::parse(&body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let answer = blocking(move || {
        let relays = &site.relays;
        let Some(coordinator) = &relays.coordinator else {
            return Err(Refusal::not_found(DOOR));
        };
        let now = relays.began.elapsed();
        let planned = {
            let mut coordinator = coordinator.lock().unwrap_or_else(PoisonError::into_inner);
            coordinator.report(now, peer, &report)
        };
        let (answer, notices) =
            planned.map_err(|refused| Refusal::new(StatusCode::FORBIDDEN, refused.to_string()))?;
        for notice in notices {
            site.journal.note(&notice);
        }
        Ok(answer)
    });
    let answer = Json(answer.await?);
    let mut response = ([(header::CACHE_CONTROL, "no-store")], answer).into_response();
    // Each machine says something several times a second: the journal has what is news.
    response.extensions_mut().insert(Routine);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_secret_is_made_once_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let made = secret(root.path()).unwrap();
        assert_eq!(secret(root.path()).unwrap(), made);
        let rights = fs::metadata(root.path().join(SECRET))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(rights & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(secret(other.path()).unwrap(), made);
        // Half a secret is none.
        fs::write(other.path().join(SECRET), "short").unwrap();
        assert!(secret(other.path()).is_err());
    }
}
