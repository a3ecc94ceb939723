//! PUT: a body becomes a file, whole or not at all.
//!
//! The bytes go to a file without a name (`O_TMPFILE`, or a temporary name where the filesystem has
//! no such thing) that takes the place of the old one when every byte is on the disk. A client that
//! goes away, a full disk or the end of the server leaves nothing behind.

use crate::file::{Facts, etag, preconditions_hold};
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cap_std::fs::{Dir, Metadata};
use cap_tempfile::TempFile;
use headers::{ContentLength, ETag, HeaderMapExt};
use http_body_util::BodyExt;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces between the connection and the disk.
const QUEUE: usize = 16;
/// Dirty bytes after which the kernel is told to begin writing: the `fsync` at the end then has little left.
const FLUSH_EVERY: u64 = 32 << 20;
/// How long and how much a refused client may go on sending before the connection is closed on it.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 256 << 20;

/// How many bytes of a body arrived, for the journal.
#[derive(Clone, Copy)]
pub struct Received(pub u64);

/// A piece of a body.
pub enum Piece {
    Data(Bytes),
    /// The body is whole. A channel that ends without it is a client that went away.
    End,
}

/// A file that is whole, under its name.
pub struct Stored {
    pub created: bool,
    pub tag: Option<ETag>,
}

pub async fn put(
    site: &Arc<Site>,
    path: RelPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let length = headers.typed_get::<ContentLength>().map(|length| length.0);
    let site = Arc::clone(site);
    let write = move |queue| store(&site, &path, &headers, length, queue);
    Ok(take(body, write).await)
}

/// Hands a body to `write`, which makes a file of it, and answers with what came of it.
pub async fn take(
    mut body: Body,
    write: impl FnOnce(mpsc::Receiver<Piece>) -> Result<Stored, Refusal> + Send + 'static,
) -> Response {
    let (pieces, queue) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(blocking(move || write(queue)));
    let received = forward(&mut body, &pieces).await;
    drop(pieces);
    let stored = writer.await.unwrap_or_else(|error| {
        Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the server failed: {error}"),
        ))
    });
    let mut response = match stored {
        Ok(stored) => {
            let mut response = if stored.created {
                StatusCode::CREATED.into_response()
            } else {
                StatusCode::NO_CONTENT.into_response()
            };
            if let Some(tag) = stored.tag {
                response.headers_mut().typed_insert(tag);
            }
            response
        }
        Err(refusal) => {
            linger(body);
            let mut response = refusal.into_response();
            response
                .headers_mut()
                .typed_insert(headers::Connection::close());
            response
        }
    };
    response.extensions_mut().insert(Received(received));
    response
}

/// Hands the body on until it ends, breaks, or the writer has had enough. Returns the bytes handed on.
async fn forward(body: &mut Body, pieces: &mpsc::Sender<Piece>) -> u64 {
    let mut received = 0;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // The writer refused: no need to wait for a client that sends nothing.
            () = pieces.closed() => return received,
        };
        let piece = match frame {
            // hyper makes an error of a body that ends before its Content-Length or its last chunk.
            Some(Err(_)) => return received,
            None => Piece::End,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    received += data.len() as u64;
                    Piece::Data(data)
                }
                Err(_trailers) => continue,
            },
        };
        let end = matches!(piece, Piece::End);
        if pieces.send(piece).await.is_err() || end {
            return received;
        }
    }
}

/// Goes on reading for a while: a connection closed on a client that is still sending is reset, and
/// the reset would overtake the answer (RFC 9112 9.6).
pub fn linger(mut body: Body) {
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        let mut discarded = 0;
        while discarded < LINGER_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, |d| d.len() as u64),
                _ => break,
            }
        }
    }));
}

fn store(
    site: &Site,
    path: &RelPath,
    headers: &HeaderMap,
    length: Option<u64>,
    queue: mpsc::Receiver<Piece>,
) -> Result<Stored, Refusal> {
    let (parent, name) = path
        .split()
        .ok_or_else(|| Refusal::new(StatusCode::CONFLICT, "the share itself is no file"))?;
    check(&site.share, path, headers)?;
    let made = make_parents(&site.share, path)?;
    let stored = site
        .share
        .open_dir(parent.as_path())
        .map_err(|e| Refusal::io(&format!("opening {parent}"), &e))
        .and_then(|folder| write(site, &folder, name, path, headers, length, queue));
    if stored.is_err() {
        for folder in made.iter().rev() {
            // Somebody else may have put something there in the meantime: then it stays.
            let _ = site.share.remove_dir(folder);
        }
    }
    stored
}

fn write(
    site: &Site,
    folder: &Dir,
    name: &str,
    path: &RelPath,
    headers: &HeaderMap,
    length: Option<u64>,
    queue: mpsc::Receiver<Piece>,
) -> Result<Stored, Refusal> {
    let failed = |error: &io::Error| Refusal::io(&format!("writing {path}"), error);
    let mut file = TempFile::new(folder).map_err(|e| failed(&e))?;
    if let Some(length) = length {
        check_space(file.as_file(), length, path)?;
    }
    receive(&mut file, queue, path, |file, offset, length| {
        begin_writeback(file.as_file(), offset, length);
    })?;
    file.as_file().sync_all().map_err(|e| failed(&e))?;
    let tag = etag(&file.as_file().metadata().map_err(|e| failed(&e))?);
    let one_at_a_time = site.locks.one(path);
    let current = check(&site.share, path, headers)?;
    file.replace(name).map_err(|e| failed(&e))?;
    drop(one_at_a_time);
    sync_folder(folder).map_err(|e| failed(&e))?;
    Ok(Stored {
        created: current.is_none(),
        tag,
    })
}

/// What is at `path` now, if the request's conditions allow to replace it.
fn check(share: &Dir, path: &RelPath, headers: &HeaderMap) -> Result<Option<Metadata>, Refusal> {
    let current = match share.metadata(path.as_path()) {
        Ok(metadata) => Some(metadata),
        // A file where a folder should be is told when the folders are made.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            None
        }
        Err(error) => return Err(Refusal::io(&format!("writing {path}"), &error)),
    };
    if current.as_ref().is_some_and(Metadata::is_dir) {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("{path} is a folder"),
        ));
    }
    if !preconditions_hold(headers, current.as_ref().map(Facts::of).as_ref()) {
        return Err(Refusal::precondition());
    }
    Ok(current)
}

/// Makes the folders above `path`; returns those that were not there.
pub fn make_parents<'a>(share: &Dir, path: &'a RelPath) -> Result<Vec<&'a str>, Refusal> {
    let mut made = Vec::new();
    for folder in path.ancestors() {
        match share.create_dir(folder) {
            Ok(()) => made.push(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // RFC 9110 15.5.10: what is there is in the way.
                if share.metadata(folder).is_ok_and(|found| !found.is_dir()) {
                    let why = format!("{folder} is a file: there can be nothing below it");
                    return Err(Refusal::new(StatusCode::CONFLICT, why));
                }
            }
            Err(error) => return Err(Refusal::io(&format!("making {folder}"), &error)),
        }
    }
    Ok(made)
}

/// An upload that cannot fit is refused before its first byte.
pub fn check_space(file: &cap_std::fs::File, length: u64, path: &RelPath) -> Result<(), Refusal> {
    let Ok(space) = nix::sys::statvfs::fstatvfs(file) else {
        return Ok(());
    };
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    if length > free {
        return Err(Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!(
                "writing {path}: {} do not fit, {} are free",
                pitstop_imaging::units::bytes(length),
                pitstop_imaging::units::bytes(free)
            ),
        ));
    }
    Ok(())
}

/// Writes a body to its end. `begin` hears of bytes that could go to the disk.
pub fn receive<W: Write>(
    file: &mut W,
    mut queue: mpsc::Receiver<Piece>,
    path: &RelPath,
    begin: impl Fn(&W, u64, u64),
) -> Result<(), Refusal> {
    let (mut written, mut flushed) = (0_u64, 0_u64);
    loop {
        match queue.blocking_recv() {
            Some(Piece::Data(data)) => {
                file.write_all(&data)
                    .map_err(|e| Refusal::io(&format!("writing {path} at {written}"), &e))?;
                written += data.len() as u64;
            }
            Some(Piece::End) => return Ok(()),
            None => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    format!("the body of {path} ended early, after {written} bytes"),
                ));
            }
        }
        if written - flushed >= FLUSH_EVERY {
            begin(file, flushed, written - flushed);
            flushed = written;
        }
    }
}

/// Asks the kernel to start writing a part of the file. Advice alone: `fsync` reports what fails.
pub fn begin_writeback(file: &impl AsRawFd, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is handed over.
    unsafe {
        nix::libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            nix::libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Makes a rename in `folder` survive a power cut.
pub fn sync_folder(folder: &Dir) -> io::Result<()> {
    // cap-std opens folders with O_PATH, which cannot be synced.
    folder.open(".")?.sync_all()
}
