//! https: by the server's own certificate authority, or with the admin's certificate. See docs/tls.md.

mod authority;
mod certificate;
mod der;
mod keeper;
mod names;
mod plain;
mod stream;

pub use authority::Authority;
pub use certificate::{Facts, Name};
pub use keeper::{Keeper, watch};
pub use names::host_of_url;
pub use plain::only_loaders;
pub use stream::Secure;

use crate::fleet::Watched;
use crate::journal::Journal;
use crate::url;
use anyhow::{Context, bail};
use keeper::Source;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Beside http's 8080.
const DEFAULT_PORT: u16 = 8443;

#[derive(clap::Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("https").args(["tls", "tls_cert"]).multiple(true))]
pub struct TlsOptions {
    /// Serve machines, the page and the API over https, with a certificate of the server's own authority; http then
    /// serves boot loaders alone
    #[arg(long)]
    tls: bool,
    /// Where https listens [default: the address of --listen, port 8443]
    #[arg(long, value_name = "ADDR:PORT", requires = "https")]
    tls_listen: Option<SocketAddr>,
    /// A name or an address of this server for its certificate, beside those that it finds itself; may be repeated
    #[arg(
        long = "name",
        value_name = "NAME",
        requires = "https",
        conflicts_with = "tls_cert"
    )]
    names: Vec<Name>,
    /// Use this certificate (PEM, with its chain) in place of one of its own; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// What all requests have to know of https.
#[derive(Debug)]
pub struct Tls {
    /// Under which machines at work and people reach the server, without a slash at its end.
    pub url: String,
    pub port: u16,
    pub keeper: Arc<Keeper>,
}

impl Tls {
    /// The https URL for a client that asked for `host`, the name and port of http: where the certificate has that name.
    pub fn url_for(&self, host: &str) -> Option<String> {
        let name = Name::of_authority(host)?;
        let known = self.keeper.facts().is_for(&name);
        known.then(|| format!("https://{}:{}", name.in_url(), self.port))
    }
}

/// https before the server has begun to serve.
pub struct Start {
    pub tls: Arc<Tls>,
    pub listener: TcpListener,
    pub config: Arc<ServerConfig>,
    pub lines: Vec<String>,
}

impl TlsOptions {
    fn is_on(&self) -> bool {
        self.tls || self.tls_cert.is_some()
    }

    /// Opens the port and takes up a certificate, unless https is off. `http` is where http listens.
    ///
    /// # Errors
    /// The port cannot be had, there is no certificate, or `--url` is not https.
    pub async fn start(
        &self,
        root: &Path,
        given_url: Option<&str>,
        http: SocketAddr,
        fleet: &Arc<Watched>,
        journal: &Arc<Journal>,
    ) -> anyhow::Result<Option<Start>> {
        if !self.is_on() {
            return Ok(None);
        }
        if let Some(url) = given_url.filter(|url| !url.starts_with("https://")) {
            bail!("with --tls machines at work use https: write --url https://… in place of {url}");
        }
        let wanted = self.tls_listen;
        let wanted = wanted.unwrap_or_else(|| SocketAddr::new(http.ip(), DEFAULT_PORT));
        let listener = TcpListener::bind(wanted)
            .await
            .with_context(|| format!("listening on {wanted} for https"))?;
        let address = listener
            .local_addr()
            .context("asking for the address of https")?;
        let url = given_url.map_or_else(|| url::own("https", address), str::to_owned);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let source = self.source(root, &url, fleet)?;
        let keeper = Keeper::new(source, Arc::clone(&provider), Arc::clone(journal))?;
        let keeper = Arc::new(keeper);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("setting up TLS")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&keeper) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let lines = vec![format!("https on https://{address}"), keeper.line()];
        Ok(Some(Start {
            tls: Arc::new(Tls {
                url,
                port: address.port(),
                keeper,
            }),
            listener,
            config: Arc::new(config),
            lines,
        }))
    }

    fn source(&self, root: &Path, url: &str, fleet: &Arc<Watched>) -> anyhow::Result<Source> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Ok(Source::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            });
        }
        let mut given: std::collections::BTreeSet<Name> = self.names.iter().cloned().collect();
        // What machines are told to ask for.
        given.extend(names::host_of_url(url));
        Ok(Source::Own {
            authority: Box::new(Authority::open_or_make(root)?),
            given,
            fleet: Arc::clone(fleet),
        })
    }
}
