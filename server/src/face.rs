//! What has to be there before the site is: what the server is to its clients, and where it tells what goes on.

use crate::connections::Table;
use crate::fleet::Watched;
use crate::journal::Journal;
use crate::tls::{self, Start, Tls, TlsOptions};
use crate::url::{self, Served};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub struct Face {
    pub served: Served,
    pub tls: Option<Arc<Tls>>,
    pub journal: Arc<Journal>,
    pub fleet: Arc<Watched>,
    pub connections: Arc<Table>,
}

impl Face {
    /// For a server that listens at `http`, under the URL `given` where one was; with https where `options` want it.
    ///
    /// # Errors
    /// https cannot be had.
    pub async fn new(
        options: &TlsOptions,
        root: &Path,
        given: Option<&str>,
        http: SocketAddr,
        journal: Journal,
    ) -> anyhow::Result<(Self, Option<Start>)> {
        let journal = Arc::new(journal);
        let fleet = Arc::new(Watched::new(root, Arc::clone(&journal)));
        let https = options.start(root, given, http, &fleet, &journal).await?;
        let tls = https.as_ref().map(|https| Arc::clone(&https.tls));
        let face = Self {
            served: served(given, http, tls.as_deref()),
            tls,
            connections: Table::of_process(Arc::clone(&journal)),
            journal,
            fleet,
        };
        Ok((face, https))
    }
}

/// The URLs under which this server is reached. Boot loaders stay on http, on the same host.
fn served(given: Option<&str>, http: SocketAddr, tls: Option<&Tls>) -> Served {
    let own = || url::own("http", http);
    let Some(tls) = tls else {
        let url = given.map_or_else(own, str::to_owned);
        return Served {
            boot_url: url.clone(),
            url,
        };
    };
    let host = given.and_then(tls::host_of_url);
    Served {
        url: tls.url.clone(),
        boot_url: host.map_or_else(own, |host| {
            format!("http://{}:{}", host.in_url(), http.port())
        }),
    }
}
