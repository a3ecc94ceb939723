//! An image that a mirror has, or is getting: which of its pieces are here, and who waits for others.

use super::fill;
use super::pieces::Pieces;
use super::room::take_room;
use super::shelf::{HALF, WHOLE};
use super::tail::Tail;
use crate::journal::Journal;
use crate::refusal::Refusal;
use anyhow::{Context, bail};
use axum::http::StatusCode;
use blake3::Hash;
use pitstop_imaging::image::{FileSource, ImageSource};
use pitstop_protocol::digest::{Digest, image_path};
use pitstop_protocol::job::Mirror as Address;
use pitstop_transport::fetch::{HttpClient, HttpError};
use pitstop_transport::share::HttpImage;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How long whoever reads waits for a piece.
const WAIT: Duration = Duration::from_secs(60);

/// The server that a mirror gets its images from.
pub struct Origin {
    pub address: Address,
    pub http: HttpClient,
    pub journal: Arc<Journal>,
}

/// An image that the origin has, and this server does not.
pub struct Beginning {
    name: String,
    pieces: Pieces,
    tail: Vec<u8>,
}

impl Beginning {
    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.pieces.end() + self.tail.len() as u64
    }
}

impl Origin {
    pub fn image(&self, digest: Hash, name: &str) -> anyhow::Result<HttpImage> {
        let path = image_path(Digest::from(digest), name);
        HttpImage::open(&self.http, &self.address.at(&path))
    }

    /// Looks for an image, and reads its index.
    ///
    /// # Errors
    /// The origin does not have it, or does not answer, or what it has is not what the digest says.
    pub fn begin(&self, digest: Hash, name: &str) -> Result<Beginning, Refusal> {
        let begun = self.image(digest, name).and_then(|image| {
            let tail = Tail::read(&image)?;
            let pieces = Pieces::load(&tail)?;
            if pieces.digest() != digest {
                bail!("{}: it is another image", image.name());
            }
            Ok(Beginning {
                name: name.to_owned(),
                pieces,
                tail: tail.into_bytes(),
            })
        });
        begun.map_err(|error| {
            let passing = HttpError::behind(&error).is_some_and(|e| e.failure.is_passing());
            let status = if passing {
                StatusCode::BAD_GATEWAY
            } else {
                StatusCode::NOT_FOUND
            };
            let what = format!(
                "the mirror does not have {digest}, nor gets it from {}: {error:#}",
                self.address
            );
            self.journal.note(&format!("mirror: {what}"));
            Refusal::new(status, what)
        })
    }
}

/// An image on this server's disk.
pub struct Held {
    digest: Hash,
    name: String,
    size: u64,
    file: File,
    /// The file's, without its ending.
    path: PathBuf,
    origin: Arc<Origin>,
    pieces: Pieces,
    progress: Mutex<Progress>,
    changed: watch::Sender<()>,
}

/// How far an image has come.
pub struct Progress {
    /// By piece: the BLAKE3 of one that is here, as it was when it was proven.
    pub here: Vec<Option<Hash>>,
    /// Bytes of these.
    pub bytes: u64,
    /// What somebody waits for.
    pub wanted: VecDeque<usize>,
    /// There may be pieces in the file from before.
    pub may_have: bool,
    filling: bool,
    /// How often it could not be filled, and why the last time.
    failures: u64,
    why: String,
}

impl Progress {
    fn of(pieces: usize, may_have: bool) -> Self {
        Self {
            here: vec![None; pieces],
            bytes: 0,
            wanted: VecDeque::new(),
            may_have,
            filling: false,
            failures: 0,
            why: String::new(),
        }
    }
}

/// A path with `end` behind it.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(end);
    text.into()
}

impl Held {
    /// Begins an image in a file that [`reserve`](super::room::reserve) has made: the index is kept, and everything else comes when it is asked for.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn create(
        origin: &Arc<Origin>,
        beginning: Beginning,
        path: PathBuf,
        file: File,
    ) -> anyhow::Result<Self> {
        let size = beginning.size();
        let Beginning { name, pieces, tail } = beginning;
        file.write_all_at(&tail, pieces.end())
            .and_then(|()| file.sync_all())
            .context("writing its index")?;
        Ok(Self::new(origin, path, file, size, name, pieces, false))
    }

    /// Opens what an earlier run of the server has left. Each piece is proven before it is given away, also of an image that was
    /// whole: the disk may have lost some of it since.
    ///
    /// # Errors
    /// It is not what its name says.
    pub fn reopen(
        origin: &Arc<Origin>,
        digest: Hash,
        name: &str,
        path: PathBuf,
    ) -> anyhow::Result<Self> {
        let whole = with_end(&path, WHOLE);
        let is_whole = whole.exists();
        let found = if is_whole {
            whole
        } else {
            with_end(&path, HALF)
        };
        let pieces = Pieces::load(&FileSource::open(&found)?)?;
        if pieces.digest() != digest {
            bail!("its file is another image");
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&found);
        let file = file.context("opening its file")?;
        let size = file.metadata()?.len();
        if !is_whole {
            // One that an earlier version began has no room yet for what is to come.
            take_room(&file, size).context("making room for it")?;
        }
        let name = name.to_owned();
        Ok(Self::new(origin, path, file, size, name, pieces, true))
    }

    fn new(
        origin: &Arc<Origin>,
        path: PathBuf,
        file: File,
        size: u64,
        name: String,
        pieces: Pieces,
        may_have: bool,
    ) -> Self {
        Self {
            digest: pieces.digest(),
            name,
            size,
            file,
            path,
            origin: Arc::clone(origin),
            progress: Mutex::new(Progress::of(pieces.count(), may_have)),
            pieces,
            changed: watch::channel(()).0,
        }
    }

    pub fn digest(&self) -> Hash {
        self.digest
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn at_origin(&self) -> anyhow::Result<HttpImage> {
        self.origin.image(self.digest, &self.name)
    }

    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        // Each change is one call: whoever panicked left whole values.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are here and proven.
    pub fn here(&self) -> u64 {
        self.progress().bytes + (self.size - self.pieces.end())
    }

    /// Notes that it was used, for the next run of the server.
    pub fn touch(&self) {
        // A wrong time makes it go earlier than it should, no more.
        let _ = self.file.set_modified(SystemTime::now());
    }

    /// Notes that a piece is in the file, and was proven.
    pub fn is_here(&self, number: usize, bytes: &[u8]) {
        let sum = blake3::hash(bytes);
        let mut progress = self.progress();
        if let Some(here) = progress.here.get_mut(number)
            && here.replace(sum).is_none()
        {
            progress.bytes += bytes.len() as u64;
        }
        drop(progress);
        self.tell();
    }

    /// Notes that the disk does not give a piece back as it was when it had this `sum`: it has to come again.
    pub fn is_lost(&self, number: usize, sum: Hash) {
        let Range { start, end } = self.pieces.bytes(number);
        {
            let mut progress = self.progress();
            match progress.here.get_mut(number) {
                Some(here) if *here == Some(sum) => *here = None,
                // Somebody else has seen it.
                _ => return,
            }
            progress.bytes = progress.bytes.saturating_sub(end - start);
        }
        let what = format!(
            "mirror: the disk has damaged {} from {start} to {end}: it is fetched again",
            self.digest
        );
        self.origin.journal.note(&what);
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    /// All pieces are here: from now on it is whole, also for the next run of the server.
    ///
    /// # Errors
    /// The disk does not keep it.
    pub fn finish(&self) -> io::Result<()> {
        self.file.sync_all()?;
        let whole = with_end(&self.path, WHOLE);
        // It was before: some of it came again.
        if whole.exists() {
            return Ok(());
        }
        std::fs::rename(with_end(&self.path, HALF), whole)
    }

    /// The filling has ended; `why` it could not go on.
    pub fn filled(&self, why: Option<String>) {
        let mut progress = self.progress();
        progress.filling = false;
        if let Some(why) = why {
            progress.failures += 1;
            progress.why = why;
            progress.wanted.clear();
        }
        drop(progress);
        self.tell();
    }

    /// Up to where bytes from `at` on can be read; `None` where they have to come first, which is seen to.
    fn ask(self: &Arc<Self>, at: u64) -> Option<u64> {
        if at >= self.pieces.end() {
            return Some(self.size);
        }
        let number = self.pieces.at(at);
        let mut progress = self.progress();
        if let Some(Some(_)) = progress.here.get(number) {
            return Some(self.pieces.bytes(number).end);
        }
        if !progress.wanted.contains(&number) {
            progress.wanted.push_back(number);
        }
        let idle = !std::mem::replace(&mut progress.filling, true);
        drop(progress);
        if idle {
            let held = Arc::clone(self);
            let thread = thread::Builder::new().name("mirror".into());
            if let Err(error) = thread.spawn(move || fill::fill(&held)) {
                self.filled(Some(format!("starting a thread: {error}")));
            }
        }
        None
    }

    /// Waits until bytes from `at` on are here. Returns where those end that are.
    ///
    /// # Errors
    /// They cannot be had.
    pub async fn wait_for(self: &Arc<Self>, at: u64) -> io::Result<u64> {
        let mut changed = self.changed.subscribe();
        let failures = self.progress().failures;
        let waited = async {
            loop {
                if let Some(end) = self.ask(at) {
                    return Ok(end);
                }
                // The sender is part of what is held here.
                let _ = changed.changed().await;
                let progress = self.progress();
                if progress.failures > failures {
                    return Err(io::Error::other(progress.why.clone()));
                }
            }
        };
        let timed = tokio::time::timeout(WAIT, waited).await;
        timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
