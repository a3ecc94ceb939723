//! TFTP for boot ROMs (RFC 1350, options of RFC 2347, 2348, 2349 and 7440). Reading only.
//!
//! Ours, on the codec that the payload's client has: the boot loader configurations are made when they
//! are asked for, which the servers on crates.io cannot do together with `windowsize`.

mod lookup;
mod options;
mod transfer;

use crate::site::Site;
use crate::url;
use pitstop_transport::fetch::tftp::packet::{Direction, Packet, Request, code};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UdpSocket;

/// Machines that are served at once. More of them ask again after a second or two, as every client does.
pub const MOST_CLIENTS: usize = 1024;

/// Clients with a transfer under way: a request that is repeated because the answer is slow begins no second one.
#[derive(Default)]
struct Busy(Mutex<HashSet<SocketAddr>>);

impl Busy {
    fn begin(self: &Arc<Self>, peer: SocketAddr) -> Option<BusyGuard> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (peers.len() < MOST_CLIENTS && peers.insert(peer)).then(|| BusyGuard {
            busy: Arc::clone(self),
            peer,
        })
    }
}

struct BusyGuard {
    busy: Arc<Busy>,
    peer: SocketAddr,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut peers = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.remove(&self.peer);
    }
}

/// Serves until the socket itself fails. `http_port` goes into the URLs of generated configurations.
pub async fn serve(socket: UdpSocket, site: Arc<Site>, http_port: u16) -> io::Result<()> {
    let busy = Arc::new(Busy::default());
    let local = socket.local_addr()?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer that found nobody comes back as an error of the next call.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        match Packet::parse(&buffer[..length]) {
            Ok(Packet::Request(request)) if request.direction == Direction::Read => {
                if let Some(guard) = busy.begin(peer) {
                    let site = Arc::clone(&site);
                    // A thread of its own: one packet at a time, it is woken once for each.
                    tokio::task::spawn_blocking(move || {
                        answer(&site, local, peer, &request, http_port);
                        drop(guard);
                    });
                }
            }
            Ok(Packet::Request(request)) => {
                site.journal
                    .note(&format!("{} TFTP put {} refused", peer.ip(), request.file));
                let refusal = error(code::ACCESS, "this server is for reading only");
                let _ = socket.send_to(&refusal.encode(), peer).await;
            }
            // Strays of transfers that ended, and noise: RFC 1350 has no answer for them on this port.
            _ => {}
        }
    }
}

fn answer(site: &Site, local: SocketAddr, peer: SocketAddr, request: &Request, http_port: u16) {
    let who = peer.ip().to_canonical();
    let what = format!("{who} TFTP get {}", request.file);
    let outcome = || -> io::Result<String> {
        // Each transfer has a port of its own (RFC 1350 4).
        let socket = std::net::UdpSocket::bind((local.ip(), 0))?;
        socket.connect(peer)?;
        let url = if site.url_given {
            site.url.clone()
        } else {
            // The address that this client sees, on a server with several.
            url::own(SocketAddr::new(socket.local_addr()?.ip(), http_port))
        };
        match lookup::open(site, request, who, &url) {
            Ok(content) => transfer::send(&socket, request, content),
            Err(refusal) => {
                socket.send(&refusal.encode())?;
                Ok(match refusal {
                    Packet::Error { message, .. } => format!("refused: {message}"),
                    _ => "refused".into(),
                })
            }
        }
    };
    match outcome() {
        Ok(end) => site.journal.note(&format!("{what} {end}")),
        Err(error) => site.journal.note(&format!("{what} failed: {error}")),
    }
}

fn error(code: u16, message: impl Into<String>) -> Packet {
    Packet::Error {
        code,
        message: message.into(),
    }
}
