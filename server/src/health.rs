//! `GET /healthz`: whether the server can do its work, for whoever watches over it. It says no secrets, and asks for none.

use crate::http::{Routine, only_read};
use crate::mirror;
use crate::refusal::{Refusal, blocking};
use crate::site::Sites;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use cap_tempfile::TempFile;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whoever asks more often than this hears the same again: strangers move no disk by it.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Bytes that are written to see whether anything can be.
const TRIED: usize = 4096;

/// What was found last.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<(Instant, Option<String>)>>);

pub fn routes() -> Router<Arc<Sites>> {
    Router::new().route("/healthz", get(health).fallback(only_read))
}

async fn health(State(sites): State<Arc<Sites>>) -> Result<Response, Refusal> {
    let (wrong, mirror) = blocking(move || {
        let mirror = sites.now().ok().and_then(|site| mirror::kept(&site));
        Ok((sites.health.wrong(&sites), mirror))
    })
    .await?;
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    let mut response = match wrong {
        None => {
            let mirror = mirror.map_or_else(String::new, |line| format!("{line}\n"));
            (no_store, format!("ok\n{mirror}")).into_response()
        }
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            no_store,
            format!("{why}\n"),
        )
            .into_response(),
    };
    response.extensions_mut().insert(Routine);
    Ok(response)
}

impl Health {
    fn wrong(&self, sites: &Sites) -> Option<String> {
        {
            let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = last
                .as_ref()
                .filter(|(when, _)| when.elapsed() < REMEMBERED);
            if let Some((_, found)) = fresh {
                return found.clone();
            }
        }
        let found = look(sites);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

/// What is wrong, without the names of folders: the journal has those.
fn look(sites: &Sites) -> Option<String> {
    let Ok(site) = sites.now() else {
        return Some("a folder that is served is not there: see the journal".into());
    };
    if !site.has_marker() {
        return Some("the share has lost its marker: another disk may be mounted there".into());
    }
    let root = Dir::open_ambient_dir(site.runs.root(), ambient_authority());
    let share = match &site.store {
        // Its marker was just asked for.
        Some(_) => Ok(()),
        None => write(&site.share),
    };
    match (root.and_then(|root| write(&root)), share) {
        (Err(error), _) => Some(format!("the root cannot be written: {}", error.kind())),
        (_, Err(error)) => Some(format!("the share cannot be written: {}", error.kind())),
        (Ok(()), Ok(())) => None,
    }
}

/// Writes what nobody will see.
fn write(folder: &Dir) -> io::Result<()> {
    TempFile::new_anonymous(folder)?.write_all(&[0; TRIED])
}
