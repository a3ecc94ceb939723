//! A blocking face for the HTTP client: connects, sends and reads with a limit on silence, not on the whole.
//!
//! The connections live on a small runtime of their own. Every function here blocks the calling thread and
//! must not be called from within another async runtime.

mod backoff;
mod body;
mod error;
mod upload;

pub(crate) use backoff::{Backoff, jittered};
pub use body::Response;
use error::Asked;
pub use error::{HttpError, HttpFailure};
pub(crate) use error::{asks_for_patience, behind, is_away, refusal};
pub use upload::Upload;

use crate::fetch::{Roots, tls};
use anyhow::Context as _;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_protocol::job::{RETRY_FOR, Transfer};
use pitstop_protocol::redacted;
use reqwest::{Method, redirect};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

/// In the answer of a mirror to what it does not take: the URL of the server that does.
pub const MIRROR_OF: &str = "pitstop-mirror-of";

/// How patient the client is, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For a connection to come about.
    pub connect: Duration,
    /// Silence of the server that ends a transfer.
    pub stall: Duration,
    /// How long a server may think about a whole upload, or a copy or a move, before it answers: it may have to bring it to another
    /// disk.
    pub settle: Duration,
    /// Before the first repetition of what failed; doubles from there.
    pub first_wait: Duration,
    /// How long a server that was there and is away is waited for.
    pub retry_for: Duration,
    pub roots: Roots,
    /// `None`: only what a URL itself carries.
    pub access: Option<Access>,
    /// Who is told that something is tried again.
    pub reporter: Listener,
}

/// Somebody who listens, or nobody.
#[derive(Clone, Default)]
pub struct Listener(pub Option<Arc<dyn Reporter>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "some" } else { "none" })
    }
}

impl Settings {
    /// As a job wants servers to be talked to.
    pub fn of_job(transfer: &Transfer, reporter: Listener) -> Self {
        Self {
            retry_for: transfer.retry_for,
            access: transfer.access.clone(),
            reporter,
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            settle: Duration::from_secs(15 * 60),
            first_wait: Duration::from_secs(1),
            retry_for: RETRY_FOR,
            roots: Roots::default(),
            access: None,
            reporter: Listener::default(),
        }
    }
}

/// Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    client: reqwest::Client,
    /// For uploads: each on a fresh connection, because a body that streams cannot be sent again
    /// when an idle connection turns out to be dead.
    uploads: reqwest::Client,
    trusts_somebody: bool,
    settings: Settings,
    /// A request was given up, and nothing has been answered since.
    away: AtomicBool,
    /// Some server has answered: addresses are right.
    known: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for nobody: a transfer whose owner is gone is not wanted any more.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpClient").field(&self.0.settings).finish()
    }
}

impl HttpClient {
    /// # Errors
    /// When a trusted certificate cannot be read, or threads cannot be started.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let (tls, trusts_somebody) = tls::client_config(&settings.roots)?;
        let client = |idle: usize| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                .no_proxy()
                .referer(false)
                .user_agent(concat!("pitstop/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(settings.connect)
                .tcp_nodelay(true)
                .tcp_keepalive(settings.stall / 2)
                // A peer that acknowledges nothing, or whose window stays shut, ends an upload.
                .tcp_user_timeout(settings.stall)
                .pool_max_idle_per_host(idle)
                .redirect(same_host_only())
                .build()
                .context("setting up HTTP")
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .context("starting the threads for HTTP")?;
        Ok(Self(Arc::new(Inner {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            client: client(usize::MAX)?,
            uploads: client(0)?,
            trusts_somebody,
            settings,
            away: AtomicBool::new(false),
            known: AtomicBool::new(false),
        })))
    }

    /// The last try brought no answer, and no more come: until the server answers again everything is tried once.
    /// What is left to clean up and to log must not wait for it over and over.
    pub fn give_up(&self) {
        self.0.away.store(true, Ordering::Relaxed);
    }

    /// Whether a server was given up and has not answered since.
    pub fn is_away(&self) -> bool {
        self.0.away.load(Ordering::Relaxed)
    }

    fn is_known(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        self.0.away.store(false, Ordering::Relaxed);
        self.0.known.store(true, Ordering::Relaxed);
    }

    /// A request's beginning, with the credentials that this server may see.
    fn signed(
        &self,
        client: &reqwest::Client,
        method: &Method,
        url: &Url,
    ) -> reqwest::RequestBuilder {
        let builder = client.request(method.clone(), url.clone());
        let access = self.0.settings.access.as_ref();
        // A redirect to another host or port loses the header: the client sees to that.
        match access.and_then(|access| access.for_server_of(url)) {
            Some(Credentials::Bearer { token }) => builder.bearer_auth(token),
            Some(Credentials::Basic { user, password }) => builder.basic_auth(user, Some(password)),
            None => builder,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// A request without a body, to be completed and sent.
    pub fn request(&self, method: Method, url: &Url) -> Request {
        Request {
            http: self.clone(),
            builder: self.signed(&self.0.client, &method, url),
            asked: Asked::new(method, url),
            limit: self.0.settings.stall,
        }
    }

    /// Begins a PUT whose body is written piece by piece.
    ///
    /// # Errors
    /// When the URL cannot be asked for at all.
    pub fn upload(&self, url: &Url) -> Result<Upload, HttpError> {
        self.upload_with(url, &[])
    }

    /// The same, with headers.
    ///
    /// # Errors
    /// As of [`upload`](Self::upload).
    pub fn upload_with(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
    ) -> Result<Upload, HttpError> {
        let asked = Asked::new(Method::PUT, url);
        self.check_trust(&asked)?;
        let builder = self.signed(&self.0.uploads, &Method::PUT, url);
        let builder = headers.iter().fold(builder, |builder, (name, value)| {
            builder.header(*name, value)
        });
        Ok(Upload::begin(self.clone(), builder, asked))
    }

    fn check_trust(&self, asked: &Asked) -> Result<(), HttpError> {
        if asked.url.starts_with("https:") && !self.0.trusts_somebody {
            return Err(asked.error(
                HttpFailure::Trust,
                match &self.0.settings.roots {
                    Roots::Folder(folder) => format!(
                        "no certificate authority was put in (there is none in {}): add one with \
                         mkimage, or use http",
                        folder.display()
                    ),
                    Roots::File(file) => {
                        format!("there is no certificate in {}", file.display())
                    }
                    Roots::System => "this system trusts no certificate authority".into(),
                },
            ));
        }
        Ok(())
    }
}

/// A request being put together.
pub struct Request {
    http: HttpClient,
    builder: reqwest::RequestBuilder,
    asked: Asked,
    /// For the head of the answer.
    limit: Duration,
}

impl Request {
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        // A value that no header can hold becomes an error of send().
        self.builder = self.builder.header(name, value);
        self
    }

    /// Of work that takes the server a while before it answers: it may have to copy a whole image.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.limit = self.http.settings().settle;
        self
    }

    /// The client it will be sent by.
    pub fn client(&self) -> &HttpClient {
        &self.http
    }

    /// Sends `bytes` with their length.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<bytes::Bytes>) -> Self {
        self.builder = self.builder.body(bytes.into());
        self
    }

    /// Sends the request and waits for the head of the answer, whatever its status.
    ///
    /// # Errors
    /// No answer: not connected, silent for too long, or broken.
    pub fn send(self) -> Result<Response, HttpError> {
        self.begin().wait()
    }

    /// Sends the request without waiting.
    pub fn begin(self) -> Soon {
        let Self {
            http,
            builder,
            asked,
            limit,
        } = self;
        if let Err(error) = http.check_trust(&asked) {
            return Soon(Err(error));
        }
        let handle = http.0.handle.clone();
        let answer = handle.spawn(async move {
            match tokio::time::timeout(limit, builder.send()).await {
                Err(_elapsed) => Err(asked.stalled(limit)),
                Ok(Err(cause)) => Err(asked.failed(cause)),
                Ok(Ok(inner)) => {
                    http.answered();
                    Ok(Response::new(http, inner, asked))
                }
            }
        });
        Soon(Ok((answer, handle)))
    }
}

/// The answer to a request that is on its way. Dropped, the request is given up.
pub struct Soon(Result<(Answer, Handle), HttpError>);

type Answer = tokio::task::JoinHandle<Result<Response, HttpError>>;

impl Soon {
    /// The answer to a request that could not be made.
    pub(crate) fn failed(error: HttpError) -> Self {
        Self(Err(error))
    }

    /// # Errors
    /// As [`Request::send`].
    pub fn wait(mut self) -> Result<Response, HttpError> {
        match &mut self.0 {
            Err(error) => Err(error.clone()),
            Ok((answer, handle)) => handle.block_on(answer).unwrap_or_else(|_gone| {
                Err(HttpError {
                    method: Method::OPTIONS,
                    url: "HTTP".into(),
                    failure: HttpFailure::Broken,
                    what: "the client is ending".into(),
                })
            }),
        }
    }
}

impl Drop for Soon {
    fn drop(&mut self) {
        if let Ok((answer, _)) = &self.0 {
            answer.abort();
        }
    }
}

/// Credentials and jobs do not follow a redirect to somebody else, nor from https to http.
fn same_host_only() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let Some(first) = attempt.previous().first() else {
            return attempt.follow();
        };
        let same_host = first.host_str() == attempt.url().host_str();
        let downgrade = first.scheme() == "https" && attempt.url().scheme() != "https";
        if !same_host || downgrade {
            let elsewhere = redacted(attempt.url());
            return attempt.error(format!(
                "the server redirects to {elsewhere}, which is not followed"
            ));
        }
        if attempt.previous().len() > 5 {
            return attempt.error("the server redirects in circles");
        }
        attempt.follow()
    })
}
