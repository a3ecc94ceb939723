//! The ports of http and https: who answers there what, and the end of it.

use crate::connections::{Connections, Peer};
use crate::http;
use crate::site::Sites;
use crate::tls;
use anyhow::{Context, anyhow};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The servers of both ports.
pub struct Web {
    running: JoinSet<io::Result<()>>,
    stop: watch::Sender<()>,
}

impl Web {
    /// Serves the whole site over https where there is https, and then over http what boot loaders need.
    pub fn start(http: TcpListener, https: Option<tls::Start>, sites: &Arc<Sites>) -> Self {
        // One address has its share of connections on both ports together.
        let table = Arc::clone(&sites.connections);
        let mut web = Self {
            running: JoinSet::new(),
            stop: watch::channel(()).0,
        };
        let http = Connections::new(http, Arc::clone(&table));
        match https {
            None => web.serve(http, http::router(sites)),
            Some(https) => {
                web.serve(http, http::loaders(sites));
                let connections = Connections::new(https.listener, table);
                let listener = tls::Secure::new(connections, https.config);
                web.serve(listener, http::router(sites));
                tokio::spawn(tls::watch(Arc::clone(&https.tls.keeper)));
            }
        }
        web
    }

    fn serve<L>(&mut self, listener: L, router: axum::Router)
    where
        L: Listener<Addr = SocketAddr>,
        Peer: for<'a> Connected<IncomingStream<'a, L>>,
    {
        let mut stopped = self.stop.subscribe();
        let service = router.into_make_service_with_connect_info::<Peer>();
        let server = axum::serve(listener, service).with_graceful_shutdown(async move {
            // Either a message or a sender that is gone.
            let _ = stopped.changed().await;
        });
        self.running.spawn(async move { server.await });
    }

    /// Waits until one of the servers cannot go on, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        let Some(ended) = self.running.join_next().await else {
            return anyhow!("no HTTP server is running");
        };
        match ended.context("the HTTP server") {
            Ok(Err(error)) => anyhow!(error).context("the HTTP server"),
            Ok(Ok(())) => anyhow!("the HTTP server has ended"),
            Err(error) => error,
        }
    }

    /// Takes no more requests, and waits for the answers to those that are under way.
    pub async fn end(self) {
        drop(self.stop);
        self.running.join_all().await;
    }
}
