//! Segments that say where their bytes are, in place of sending them: members of an image that is on the share, and
//! runs of the same bytes.
//!
//! What comes out is held whole, as any segment is, before a byte of the file changes. A member is inflated and hashed
//! here before it is taken: whoever names it has not read it, and a fault of the disk that holds the image before must
//! not go on into the new one under a name that says all is well.

use crate::file::{self, Found, etag};
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::share::own_path;
use crate::site::Site;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use cap_std::fs::{File, FileExt as _};
use headers::ETag;
use pitstop_imaging::image::members::{Prover, WorkerPool, lock};
use pitstop_protocol::pieces::{
    BASE, BASE_CHANGED, BASE_DAMAGED, BASE_MATCH, MOST_MADE, Member, PIECES, Piece, Pieces,
};
use std::sync::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Raw bytes of a member that a thread has room for: those of usual chunks, and at most so many.
const USUAL: usize = 4 << 20;
const LARGE: usize = 16 << 20;

/// Segments that are made at once. A few bytes may ask for [`MOST_MADE`], and each is made on all cores.
static MAKING: Semaphore = Semaphore::const_new(4);

/// Waits for the room to make a segment, which is held as long as the segment is.
///
/// # Errors
/// Never, as long as nobody closes it.
pub async fn room() -> Result<SemaphorePermit<'static>, Refusal> {
    let room = MAKING.acquire().await;
    room.map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// What OPTIONS says of it.
pub fn offer() -> (HeaderName, HeaderValue) {
    (
        HeaderName::from_static(PIECES),
        HeaderValue::from(MOST_MADE),
    )
}

/// Whether the body of a PUT is pieces.
pub fn is_composed(headers: &HeaderMap) -> bool {
    headers.contains_key(PIECES)
}

/// The file that members are taken from, where a request names one.
///
/// # Errors
/// It names one that cannot be on the share.
pub fn base(headers: &HeaderMap, own_url: &str) -> Result<Option<RelPath>, Refusal> {
    let named = headers.contains_key(BASE);
    named.then(|| own_path(headers, BASE, own_url)).transpose()
}

/// The bytes that `body` says.
///
/// # Errors
/// It makes no sense, or more than a segment holds; the base is another file than the client knows, or damaged.
pub fn compose(site: &Site, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bad = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
    let pieces = Pieces::parse(body).map_err(|error| bad(error.to_string()))?;
    let made = usize::try_from(pieces.made).map_err(|error| bad(error.to_string()))?;
    let base = match base(headers, &site.url)? {
        Some(path) => Some(open(site, headers, &path)?),
        None => None,
    };
    let mut made = vec![0; made];
    let jobs = place(&pieces.pieces, &mut made)?;
    match base {
        Some(base) => take(&base, jobs)?,
        None if jobs.is_empty() => {}
        None => return Err(bad(format!("members are wanted, and there is no {BASE}"))),
    }
    Ok(made)
}

/// Opens the base, if it is the very file that the client has read the index of.
fn open(site: &Site, headers: &HeaderMap, path: &RelPath) -> Result<File, Refusal> {
    let known = headers.get(BASE_MATCH).and_then(|tag| tag.to_str().ok());
    let known: Option<ETag> = known.and_then(|tag| tag.parse().ok());
    let known = known.ok_or_else(|| {
        let why = format!("{BASE} needs the file's ETag in {BASE_MATCH}");
        Refusal::new(StatusCode::PRECONDITION_REQUIRED, why)
    })?;
    match file::open(&site.share, path) {
        Ok(Found::File(file, metadata)) if etag(&metadata) == Some(known) => Ok(file),
        Ok(_) => Err(lost(
            BASE_CHANGED,
            format!("{path} is not the file any more whose members are wanted"),
        )),
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {
            Err(lost(BASE_CHANGED, format!("{path} is not here any more")))
        }
        Err(refusal) => Err(refusal),
    }
}

/// 412, with the reason in a word for a client that has to know.
pub fn lost(word: &'static str, why: String) -> Refusal {
    Refusal::new(StatusCode::PRECONDITION_FAILED, why).with_header(
        HeaderName::from_static(BASE_MATCH),
        HeaderValue::from_static(word),
    )
}

/// A member that goes from its place in the base to its place in the segment.
struct Job<'a> {
    offset: u64,
    member: Member,
    to: &'a mut [u8],
}

/// Writes all that needs no base, and says where what needs one goes.
fn place<'a>(pieces: &[Piece<'_>], mut rest: &'a mut [u8]) -> Result<Vec<Job<'a>>, Refusal> {
    let short = || {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "the pieces make more than they say",
        )
    };
    let mut jobs = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => {
                let to = rest.split_off_mut(..bytes.len()).ok_or_else(short)?;
                to.copy_from_slice(bytes);
            }
            Piece::Repeated { bytes, count } => {
                for _ in 0..*count {
                    let to = rest.split_off_mut(..bytes.len()).ok_or_else(short)?;
                    to.copy_from_slice(bytes);
                }
            }
            Piece::Members { offset, members } => {
                let mut offset = *offset;
                for member in members {
                    let size = usize::try_from(member.size).map_err(|_| short())?;
                    let to = rest.split_off_mut(..size).ok_or_else(short)?;
                    jobs.push(Job {
                        offset,
                        member: *member,
                        to,
                    });
                    offset += u64::from(member.size);
                }
            }
        }
    }
    Ok(jobs)
}

/// Reads every member and proves it, on all cores.
fn take(base: &File, jobs: Vec<Job<'_>>) -> Result<(), Refusal> {
    let largest = jobs.iter().map(|job| job.to.len()).max().unwrap_or(0);
    let each = largest.clamp(USUAL, LARGE);
    let pool = WorkerPool::new(0, each);
    let jobs = Mutex::new(jobs.into_iter());
    let next = || lock(&jobs).next();
    let damaged = |error: anyhow::Error| {
        let why = format!("the image that members are wanted of is damaged: {error:#}");
        lost(BASE_DAMAGED, why)
    };
    // What a member inflates to it says itself, up to 64 MiB: only one at a time has more room than its thread is counted with.
    let for_large = Mutex::new(Prover::new().map_err(damaged)?);
    pool.run(|| {
        let mut prover = Prover::new()?;
        while let Some(job) = next() {
            if pool.stopped() {
                break;
            }
            let Job { offset, member, to } = job;
            base.read_exact_at(to, offset)
                .map_err(|error| anyhow::anyhow!("reading the member at {offset}: {error}"))?;
            let outcome = if Prover::raw_size(to).is_some_and(|size| size > each) {
                let mut prover = lock(&for_large);
                let _permit = pool.cpu_permit();
                prover.prove(to, &member.hash)
            } else {
                let _permit = pool.cpu_permit();
                prover.prove(to, &member.hash)
            };
            outcome.map_err(|error| anyhow::anyhow!("the member at {offset}: {error}"))?;
        }
        Ok(())
    })
    .map_err(damaged)
}
