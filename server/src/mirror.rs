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
use axum::http::{HeaderName, HeaderValue, StatusCode};
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

/// The folder below the root.
const FOLDER: &str = "mirror";
/// How long an origin that is away is waited for, within one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Far more than a token has.
const MOST_TOKEN: usize = 4096;

#[derive(clap::Args)]
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
    shelf: Shelf,
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
            shelf,
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

    /// The image with this digest. What is not here yet is looked for at the origin; its pieces come when they are asked for.
    ///
    /// # Errors
    /// The origin does not have it or does not answer, or there is no room.
    fn image(&self, digest: Hash, name: &str) -> Result<Arc<Held>, Refusal> {
        match self.shelf.find(digest) {
            Found::Open(held) => Ok(held),
            Found::Closed(opening) => {
                match Held::reopen(&self.origin, digest, name, opening.path()) {
                    Ok(held) => Ok(opening.done(held)),
                    Err(error) => {
                        let what = format!("mirror: {digest} is fetched anew: {error:#}");
                        self.origin.journal.note(&what);
                        opening.lost();
                        self.image(digest, name)
                    }
                }
            }
            Found::Missing(opening) => match self.begin(&opening, digest, name) {
                Ok(held) => Ok(opening.done(held)),
                Err(refusal) => {
                    opening.failed(&refusal);
                    Err(refusal)
                }
            },
            Found::Failed(refusal) => Err(refusal),
        }
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
