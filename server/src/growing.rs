//! Images that machines are still sending: what of them is there, told to those that write it ahead.
//!
//! The file itself is followed, member by member, as long as somebody asks: a server that starts anew finds the same rounds
//! again, and nothing of them has to be kept. Each question has a part of a second for it, so that none waits long.

use crate::http::Routine;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::site::Site;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cap_std::fs::{File, FileExt as _, Metadata, MetadataExt as _};
use cap_std::time::SystemTime;
use jiff::Timestamp;
use pitstop_imaging::event::Act;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{Growing, Round};
use pitstop_jobs::Job;
use pitstop_protocol::event::Planned;
use pitstop_protocol::image_version::upload_of;
use pitstop_transport::share::{LAST_ROUND, ROUND};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Files that are followed at once; of more the one is forgotten that was asked about least lately.
const FILES: usize = 8;

/// How long one question reads on.
const BUDGET: Duration = Duration::from_millis(500);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Rounds are added whole, and what they say is proven by whoever takes them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that are followed.
#[derive(Default)]
pub struct Uploads(Mutex<Vec<(RelPath, Arc<Followed>)>>);

#[derive(Default)]
struct Followed {
    /// Held by who reads on: others get what is known.
    scan: Mutex<Option<Scan>>,
    rounds: Mutex<Vec<Arc<Vec<u8>>>>,
}

struct Scan {
    /// Device, inode and birth: a name may come to be another file's, and an inode too.
    of: (u64, u64, Option<SystemTime>),
    growing: Growing,
}

impl Uploads {
    fn of(&self, path: &RelPath) -> Arc<Followed> {
        let mut files = locked(&self.0);
        let at = files.iter().position(|(known, _)| known == path);
        let file = at.map_or_else(|| (path.clone(), Arc::default()), |at| files.remove(at));
        let followed = Arc::clone(&file.1);
        files.push(file);
        if files.len() > FILES {
            files.remove(0);
        }
        followed
    }
}

impl Followed {
    fn read_on(&self, file: &File, metadata: &Metadata) -> Result<(), Refusal> {
        let Ok(mut scan) = self.scan.try_lock() else {
            return Ok(());
        };
        let failed = |error: &io::Error| Refusal::io("reading what there is of an upload", error);
        let born = metadata.created().ok();
        let (of, size) = ((metadata.dev(), metadata.ino(), born), metadata.len());
        let same = scan
            .as_ref()
            .is_some_and(|scan| scan.of == of && scan.growing.read_to() <= size);
        if !same {
            let growing = Growing::new()
                .map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{e:#}")))?;
            *scan = Some(Scan { of, growing });
            locked(&self.rounds).clear();
        }
        let Some(Scan { growing, .. }) = &mut *scan else {
            return Ok(());
        };
        let mut read = |buffer: &mut [u8], at: u64| file.read_exact_at(buffer, at);
        let until = Instant::now() + BUDGET;
        while growing.step(size, &mut read).map_err(|e| failed(&e))? && Instant::now() < until {}
        let mut told = locked(&self.rounds);
        let new = growing.rounds().iter().skip(told.len());
        told.extend(new.map(Round::to_bytes).map(Arc::new));
        Ok(())
    }
}

/// Whether a GET asks for a round of an upload, and not for its bytes.
pub fn is_asked(path: &RelPath, headers: &HeaderMap) -> bool {
    path.as_str().strip_suffix(".part").is_some() && headers.contains_key(ROUND)
}

/// Answers with the round that is asked for; where it is not there yet with 204, and how many there are.
pub fn answer(
    site: &Site,
    path: &RelPath,
    (file, metadata): (&File, &Metadata),
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let asked = headers.get(ROUND).and_then(|asked| asked.to_str().ok());
    let number: Option<usize> = match asked {
        Some(LAST_ROUND) => None,
        Some(asked) => Some(asked.parse().map_err(|_| {
            let why = format!("{ROUND} is neither a number nor {LAST_ROUND}");
            Refusal::new(StatusCode::BAD_REQUEST, why)
        })?),
        None => return Err(Refusal::not_found(path)),
    };
    let followed = site.uploads.of(path);
    followed.read_on(file, metadata)?;
    let rounds = locked(&followed.rounds);
    let number = number.or_else(|| rounds.len().checked_sub(1));
    let found = number.and_then(|number| Some((number, Arc::clone(rounds.get(number)?))));
    let there = rounds.len();
    drop(rounds);
    let no_store = (header::CACHE_CONTROL, "no-store");
    let told = |number: usize| [(HeaderName::from_static(ROUND), number.to_string())];
    let mut response = match found {
        None => (StatusCode::NO_CONTENT, [no_store], told(there)).into_response(),
        Some((number, round)) => {
            let body = Body::from(round.to_vec());
            (StatusCode::OK, [no_store], told(number), body).into_response()
        }
    };
    // Each machine asks each second.
    response.extensions_mut().insert(Routine);
    Ok(response)
}

/// The one disk that `backup` is at work on, where its image grows on this server for everybody to see.
pub fn offer(site: &Site, backup: &Job) -> Option<Planned> {
    if site.store.is_some() || site.mirror.is_some() {
        return None;
    }
    let run = site.runs.runs().read(backup.runs.last()?).ok()??;
    let [planned] = &run.summary.disks[..] else {
        return None;
    };
    let path = RelPath::from_text(&upload_of(&planned.image)).ok()?;
    // What a backup before this job left is not what the machine has now.
    let changed = site.share.metadata(path.as_path()).ok()?.modified().ok()?;
    let is_of_this = Timestamp::try_from(changed.into_std())
        .is_ok_and(|changed| changed.as_second() >= backup.since().as_second());
    let grows = is_of_this
        && planned.will == Act::Backup
        && !is_named_encrypted(&planned.image)
        && site.share.is_file(path.as_path());
    grows.then(|| planned.clone())
}
