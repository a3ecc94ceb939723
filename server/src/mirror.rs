//! `pitstop serve --mirror-of URL`: images of another server, kept near the machines that want them, by what is in them.
//!
//! An image is fetched once, piece by piece, while all who ask for it are fed. A piece is proven by the image's own index before it is
//! kept, and only what is kept is given away; the index is what the digest in the URL says. When a piece is read it is compared with
//! what was proven, and what the disk has damaged is fetched again. So a mirror never passes on what is wrong, and goes on without its
//! origin for what it has. It writes nothing to its origin.

mod answer;
mod fill;
mod held;
mod pieces;
mod room;
mod shelf;
mod tail;

pub use answer::{answer, kept, routes};

use crate::journal::Journal;
use crate::refusal::Refusal;
use anyhow::{Context, bail};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use blake3::Hash;
use held::{Held, Origin};
use pitstop_imaging::units;
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_protocol::job::Mirror as Address;
use pitstop_transport::fetch::{HttpClient, MIRROR_OF, Roots, Settings};
use shelf::{Found, Opening, Shelf};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The folder below the root.
const FOLDER: &str = "mirror";
/// How long an origin that is away is waited for, within one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever asks for an image waits until its index is here: less than a machine waits for a mirror that says nothing.
const FOR_ITS_INDEX: Duration = Duration::from_secs(7);
/// After how many seconds it may ask again.
const AGAIN: &str = "5";
/// Far more than a token has.
const MOST_TOKEN: usize = 4096;

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Another server whose images are fetched from there once, by their digests, and kept here: a mirror for a rack or a site
    #[arg(long, value_name = "URL", value_parser = Address::read)]
    mirror_of: Option<Address>,
    /// The most that a mirror keeps; what was not asked for the longest goes first
    #[arg(long, value_name = "SIZE", default_value = "100GiB", value_parser = size, requires = "mirror_of")]
    mirror_size: u64,
    /// A file with the token that the other server wants
    #[arg(long, value_name = "FILE", requires = "mirror_of")]
    token_file: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    match units::parse_bytes(text)? {
        0 => Err("a mirror that keeps nothing is none".into()),
        size => Ok(size),
    }
}

/// A mirror.
pub struct Mirror {
    pub origin: Arc<Origin>,
    shelf: Arc<Shelf>,
    /// The origin gives images by a token alone. Here who knows an image's digest gets it.
    is_guarded: bool,
}

impl Mirror {
    /// The mirror that the command line asks for, if it does.
    ///
    /// # Errors
    /// The token cannot be read, or the folder below `root` cannot be made or read.
    pub fn of(
        options: &Options,
        root: &Path,
        journal: &Arc<Journal>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(address) = &options.mirror_of else {
            return Ok(None);
        };
        let access = match &options.token_file {
            None => None,
            Some(file) => {
                let token = token(file)?;
                let of = address.at("");
                Some(Access::new(Credentials::Bearer { token }, [&of]))
            }
        };
        let settings = Settings {
            retry_for: PATIENCE,
            access,
            // As curl on this computer does: the authorities of mkimage are in an initramfs alone.
            roots: Roots::System,
            ..Settings::default()
        };
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let shelf = Shelf::open(&folder, options.mirror_size);
        let shelf = shelf.with_context(|| format!("reading {}", folder.display()))?;
        Ok(Some(Arc::new(Self {
            origin: Arc::new(Origin {
                address: address.clone(),
                http: HttpClient::new(settings)?,
                journal: Arc::clone(journal),
            }),
            shelf: Arc::new(shelf),
            is_guarded: options.token_file.is_some(),
        })))
    }

    /// What is told when the server starts.
    pub fn line(&self) -> String {
        let held = self.shelf.told();
        format!(
            "a mirror of {}: {} kept in {}",
            self.origin.address,
            held.line(),
            self.shelf.folder().display()
        )
    }

    /// Why nothing can be written here, and where it can.
    pub fn refuse_write(&self) -> Refusal {
        let origin = self.origin.address.to_string();
        let what = format!("this is a mirror and takes nothing: send it to {origin}");
        let refusal = Refusal::new(StatusCode::FORBIDDEN, what);
        match HeaderValue::try_from(origin) {
            Ok(origin) => refusal.with_header(HeaderName::from_static(MIRROR_OF), origin),
            Err(_) => refusal,
        }
    }

    /// The image with this digest. What is not here yet is looked for at the origin; its pieces come when they are asked for. No thread
    /// waits: a room of machines may ask at once, and there are others.
    ///
    /// # Errors
    /// The origin does not have it or does not answer, or there is no room. While its index is on its way: to come again soon.
    async fn image(self: &Arc<Self>, digest: Hash, name: &str) -> Result<Arc<Held>, Refusal> {
        loop {
            // Before the look: what is told in between is not missed.
            let mut opened = self.shelf.opened();
            let (mirror, name) = (Arc::clone(self), name.to_owned());
            let awaited = match self.shelf.find(digest) {
                Found::Open(held) => return Ok(held),
                Found::Failed(refusal) => return Err(refusal),
                Found::Opening(awaited) => awaited,
                // Whoever asked may go away: it goes on for the next one.
                Found::Closed(opening) => {
                    let awaited = opening.awaited();
                    spawn_blocking(move || mirror.reopen(opening, digest, &name));
                    awaited
                }
                Found::Missing(opening) => {
                    let awaited = opening.awaited();
                    spawn_blocking(move || match mirror.begin(&opening, digest, &name) {
                        Ok(held) => opening.done(held),
                        Err(refusal) => opening.failed(&refusal),
                    });
                    awaited
                }
            };
            let left = FOR_ITS_INDEX.saturating_sub(awaited.since().elapsed());
            // Told is of any image: it may be another one.
            let told = timeout(left, opened.changed()).await;
            match awaited.outcome() {
                Some(outcome) => return outcome,
                None if told.is_err() => return Err(self.not_yet(digest)),
                None => {}
            }
        }
    }

    fn not_yet(&self, digest: Hash) -> Refusal {
        let what = format!(
            "the mirror is fetching the index of {digest} from {}: ask again in {AGAIN} s",
            self.origin.address
        );
        let again = HeaderValue::from_static(AGAIN);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what).with_header(header::RETRY_AFTER, again)
    }

    /// Opens what an earlier run of the server has left. What cannot be opened now is not lost: this server may have too many files
    /// open, or the disk may be full.
    fn reopen(&self, opening: Opening, digest: Hash, name: &str) {
        let path = opening.path();
        let error = loop {
            match Held::reopen(&self.origin, digest, name, path.clone()) {
                Ok(held) => return opening.done(held),
                Err(error)
                    if io_error(&error).is_some_and(is_full)
                        && self.shelf.make_room_on_disk(room::missing(&path)) => {}
                Err(error) => break error,
            }
        };
        let note = |what: String| {
            self.origin
                .journal
                .note(&format!("mirror: {digest} {what}"));
        };
        // What the file holds says nothing of this kind.
        let of_system = |error: &&io::Error| {
            error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound
        };
        let Some(why) = io_error(&error).filter(of_system) else {
            note(format!("is fetched anew: {error:#}"));
            return opening.lost();
        };
        let status = if is_full(why) {
            StatusCode::INSUFFICIENT_STORAGE
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let what = format!("cannot be opened now: {error:#}");
        let told = format!("the mirror has {digest}, which {what}");
        note(what);
        opening.failed(&Refusal::new(status, told));
    }

    fn begin(&self, opening: &Opening, digest: Hash, name: &str) -> Result<Held, Refusal> {
        let beginning = self.origin.begin(digest, name)?;
        if !opening.reserve(beginning.size()) {
            return Err(self.shelf.full(beginning.size()));
        }
        let cannot = |error: anyhow::Error| {
            let what = format!("the mirror cannot keep it: {error:#}");
            self.origin
                .journal
                .note(&format!("mirror: {digest}: {what}"));
            Refusal::new(StatusCode::INSUFFICIENT_STORAGE, what)
        };
        let path = opening.path();
        let file = loop {
            match room::reserve(&path, beginning.size()) {
                Ok(file) => break file,
                Err(error) if is_full(&error) && self.shelf.make_room_on_disk(beginning.size()) => {
                }
                Err(error) => {
                    let size = units::bytes(beginning.size());
                    let doing = format!(
                        "making room for {size} in {}",
                        self.shelf.folder().display()
                    );
                    return Err(cannot(anyhow::Error::new(error).context(doing)));
                }
            }
        };
        Held::create(&self.origin, beginning, path, file).map_err(cannot)
    }
}

/// What the system says behind an error.
fn io_error(error: &anyhow::Error) -> Option<&io::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), QuotaExceeded | StorageFull)
}

/// The token in a file, which others must not be able to read.
fn token(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let reading = || format!("reading the token in {shown}");
    let mode = fs::metadata(file).with_context(reading)?.mode();
    if mode & 0o077 != 0 {
        bail!("{shown} can be read by others: chmod 600 {shown}");
    }
    let text = fs::read_to_string(file).with_context(reading)?;
    let token = text.trim();
    let is_one = !token.is_empty() && token.len() <= MOST_TOKEN;
    if !is_one || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "{shown} holds no token: write the line that pitstop token new prints, and nothing else"
        );
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;
    use std::time::Instant;
    use tokio::runtime::{Builder, Runtime};

    /// A mirror of who listens there, and one thread for all that may block.
    fn mirror(folder: &Path, origin: &TcpListener) -> (Arc<Mirror>, Runtime) {
        let address = format!("http://{}", origin.local_addr().unwrap());
        let settings = Settings {
            retry_for: Duration::ZERO,
            ..Settings::default()
        };
        let mirror = Mirror {
            origin: Arc::new(Origin {
                address: Address::read(&address).unwrap(),
                http: HttpClient::new(settings).unwrap(),
                journal: Arc::new(Journal::new(true)),
            }),
            shelf: Arc::new(Shelf::open(folder, 1 << 20).unwrap()),
            is_guarded: false,
        };
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.max_blocking_threads(1).enable_all().build();
        (Arc::new(mirror), runtime.unwrap())
    }

    #[test]
    fn a_room_that_asks_while_the_index_comes_is_told_to_come_again() {
        let folder = tempfile::tempdir().unwrap();
        // Whoever calls there hears nothing.
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mirror, runtime) = mirror(folder.path(), &origin);
        let digest = blake3::hash(b"an image");
        let asks = || {
            let mirror = Arc::clone(&mirror);
            async move { mirror.image(digest, "sda.raw.gz").await.err().unwrap() }
        };
        let room: Vec<_> = (0..50).map(|_| runtime.spawn(asks())).collect();
        for one in room {
            let told = runtime.block_on(one).unwrap();
            assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(told.reason.contains("ask again"), "{}", told.reason);
        }
        // It came to nothing while nobody waited: the next who asks hears it.
        drop(origin);
        let began = Instant::now();
        while runtime.block_on(asks()).status != StatusCode::BAD_GATEWAY {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn an_image_that_cannot_be_opened_now_stays_and_one_that_is_none_goes() {
        let folder = tempfile::tempdir().unwrap();
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_, runtime) = mirror(folder.path(), &origin);
        let digest = blake3::hash(b"an image");
        let file = folder.path().join(format!("{digest}{}", shelf::HALF));
        // What the system says of it has nothing to do with what is in it.
        symlink(&file, &file).unwrap();
        let (mirror, _) = mirror(folder.path(), &origin);
        let ask = || runtime.block_on(mirror.image(digest, "x")).err().unwrap();
        for _ in 0..2 {
            let told = ask();
            assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(
                told.reason.contains("cannot be opened now"),
                "{}",
                told.reason
            );
            assert!(fs::symlink_metadata(&file).is_ok());
        }
        fs::remove_file(&file).unwrap();
        fs::write(&file, "half of a footer").unwrap();
        drop(origin);
        assert_eq!(ask().status, StatusCode::BAD_GATEWAY);
        assert!(!file.exists());
    }
}
