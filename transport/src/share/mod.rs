//! The share: where images, logs and info files are kept. One trait, whatever carries it: HTTP, NFS, a folder.
//!
//! Paths are relative, `/`-separated, never empty, without `.` or `..`: `10.0.2.15/sda.raw.gz`.

pub mod delete;
mod directory;
mod http;
mod mirrored;
mod new_image;
pub mod nfs;
mod s3;
pub mod signed;
pub mod stick;
mod throttle;
pub mod trees;
pub mod unlock;

pub use directory::DirectoryShare;
pub use http::{
    BaseLost, Grown, Growth, HttpImage, HttpShare, LAST_ROUND, RELAY, RELAY_WANTED, ROUND, RelayAt,
    relay_at,
};
pub use mirrored::{Mirrored, WithMirrors};
pub use new_image::{NewImage, why_whole};
pub use s3::{
    ByServer, Changed, Condition, Keys, Listed, Object, S3Share, Signed, Signer, Signing,
};
pub use stick::Stick;
pub use throttle::{Throttle, Throttled};

use crate::fetch::http::behind;
use crate::fetch::{HttpClient, Listener, Settings};
use anyhow::{Context as _, bail};
use pitstop_imaging::image::{Again, ImageSource};
use pitstop_imaging::inventory::DATA;
use pitstop_protocol::job::Transfer;
use pitstop_protocol::machine::folder;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_protocol::store::SignAt;
use s3::WHAT_TO_DO;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stick::StickShare;

/// What reaching shares and configurations takes: connections and mount points.
#[derive(Debug, Clone)]
pub struct Carriers {
    pub http: HttpClient,
    /// A folder under which NFS exports are mounted.
    pub mounts: PathBuf,
    /// This machine's address, which an NFS 4.0 server calls back.
    pub address: IpAddr,
    /// Who signs for a store of a machine's job, if anybody.
    pub sign_at: Option<SignAt>,
    /// The stick that brings a share along, where one is plugged in.
    pub stick: Arc<Stick>,
}

impl Carriers {
    /// For a machine whose address is `address`; exports are mounted under `mounts`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up: a trusted certificate that cannot be read.
    pub fn new(address: IpAddr, mounts: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            http: HttpClient::new(Settings::default())?,
            mounts: mounts.to_owned(),
            address,
            sign_at: None,
            stick: Stick::at(Path::new(DATA)),
        })
    }

    /// The same, as the job wants servers to be talked to.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up anew.
    pub fn for_job(self, transfer: &Transfer, listener: Listener) -> anyhow::Result<Self> {
        let settings = Settings::of_job(transfer, listener);
        Ok(Self {
            http: HttpClient::new(settings)?,
            sign_at: transfer.sign.clone(),
            ..self
        })
    }
}

/// Reaches or mounts a share. Whether it is the right one, its marker tells.
///
/// # Errors
/// An export that cannot be mounted, a folder that is not there. An HTTP server is not asked yet.
pub fn connect(url: &ShareUrl, carriers: &Carriers) -> anyhow::Result<Box<dyn Share>> {
    match url {
        ShareUrl::Http(url) => Ok(Box::new(HttpShare::new(url, &carriers.http))),
        ShareUrl::Nfs(nfs) => {
            let mounted = nfs::mount(nfs, carriers)?;
            let share = DirectoryShare::mounted(mounted, url.to_string());
            Ok(Box::new(share.with_context(|| format!("opening {url}"))?))
        }
        ShareUrl::S3(s3) => {
            let Some(at) = &carriers.sign_at else {
                bail!("{url}: no server is known that signs for this job; {WHAT_TO_DO}");
            };
            let server = ByServer::new(s3, at, carriers.address, carriers.http.settings())?;
            let signing = Signing::Server(Arc::new(server));
            let share = S3Share::new(s3, &carriers.http, signing);
            Ok(Box::new(share.written_by(folder(carriers.address))))
        }
        ShareUrl::Directory(path) if carriers.stick.holds(path) => {
            Ok(Box::new(StickShare::open(path, &carriers.stick)?))
        }
        ShareUrl::Directory(path) => Ok(Box::new(DirectoryShare::open(path)?)),
    }
}

/// What is known of a file on the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
}

/// A file being written under a temporary name. Dropped without [`finish`](Pending::finish), nothing of it stays.
pub trait Pending: Write + Send {
    /// Flushes, proves that the share holds every byte that was written, and only then puts the file
    /// under its name. An error means that the name still has what it had before.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;

    /// Has the share hold all of it, proven, but for the name, where it can: then little is left that
    /// [`finish`](Pending::finish) could fail at. Nothing is written behind that.
    fn land(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// The same for a name that nothing is to have yet: what somebody else has put there meanwhile stays, and this is an
    /// error. A share that cannot tell in one step puts the file there as [`finish`](Pending::finish) does.
    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.finish()
    }

    /// What a run that dies now leaves to the next one.
    fn standing(&self) -> Standing {
        Standing::Alone
    }
}

/// Somebody else writes a file of this name at the same time, and has gone on with it or begun it anew: whatever is under names that
/// this run would give is theirs by now, or soon will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TakenOver(String);

impl TakenOver {
    /// With the sentence that is told.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// That which was behind a failure, however it was wrapped on the way.
    pub fn behind(error: &anyhow::Error) -> Option<&Self> {
        behind(error)
    }
}

/// What is said where somebody was faster.
fn taken(name: impl std::fmt::Display) -> String {
    format!("{name} is there by now: somebody else has written it meanwhile, and theirs stays")
}

/// How an upload stands to the runs before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody goes on with it, at least not yet.
    Alone,
    /// All of it so far is there from an earlier run.
    Found,
    /// It sends what a later run can go on with.
    Sends,
}

/// A new image whose share takes parts of the one before without their being sent.
pub trait PendingAgain: Pending + Again {}

/// A new image that begins, and the one before as it is now.
pub struct NewAgain {
    pub before: Box<dyn ImageSource>,
    pub pending: Box<dyn PendingAgain>,
}

/// A place that holds images: an HTTP server, a mounted NFS export, a local directory.
pub trait Share: Send + Sync {
    /// The URL or path, without credentials, for messages.
    fn name(&self) -> &str;

    /// `None` when there is no such file.
    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>>;

    /// The whole file from its beginning. The reader fails if the body ends early.
    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>>;

    /// Where a folder of the share is on this machine; `None` where there is no such folder, or the share gives files alone.
    fn folder(&self, _path: &str) -> anyhow::Result<Option<PathBuf>> {
        Ok(None)
    }

    /// The file for random access: what the image engine reads chunks from.
    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>>;

    /// Where machines that restore this file are told who has it for them; `None` where nobody plans that.
    fn relay(&self, _path: &str) -> anyhow::Result<Option<RelayAt>> {
        Ok(None)
    }

    /// A round of a file that another machine is still sending, by its number or the last there is. Most shares follow no such files.
    ///
    /// # Errors
    /// The share does not answer, or not with a round.
    fn growing(&self, _path: &str, _round: Option<u64>) -> anyhow::Result<Growth> {
        Ok(Growth::Awaited { there: None })
    }

    /// Begins a file that appears under `path` only when [`Pending::finish`] says so. Parent folders are made.
    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>>;

    /// As [`create`](Self::create), where the share can take parts of the image `before` and proves them; `None` where it
    /// cannot, and where there is none.
    fn create_again(&self, _path: &str, _before: &str) -> anyhow::Result<Option<NewAgain>> {
        Ok(None)
    }

    /// Moves a file within the share, replacing what is there.
    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()>;

    /// Removes a file. One that is not there is no error.
    fn remove(&self, path: &str) -> anyhow::Result<()>;

    /// Adds lines to the end of a file, which is made if missing. Other machines append to the same file.
    fn append(&self, path: &str, text: &str) -> anyhow::Result<()>;
}
