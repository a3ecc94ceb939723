//! TFTP for boot ROMs (RFC 1350, options of RFC 2347, 2348, 2349 and 7440). Reading only.
//!
//! Ours, on the codec that the payload's client has: the boot loader configurations are made when they
//! are asked for, which the servers on crates.io cannot do together with `windowsize`.

mod lookup;
mod netascii;
mod options;
mod transfer;
mod turns;

pub use turns::MOST_CLIENTS;

use crate::reached::Asked;
use crate::site::Sites;
use crate::url;
use pitstop_transport::fetch::tftp::packet::{Direction, Packet, Request, code};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use turns::{Turn, Turns};

/// Serves until the socket itself fails. `http_port` goes into the URLs of generated configurations.
pub async fn serve(socket: UdpSocket, sites: Arc<Sites>, http_port: u16) -> io::Result<()> {
    let turns = Arc::new(Turns::default());
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
                if let Some(turn) = turns.begin(peer, &buffer[..length]) {
                    let sites = Arc::clone(&sites);
                    // A thread of its own: one packet at a time, it is woken once for each.
                    tokio::task::spawn_blocking(move || {
                        answer(&sites, local, peer, &request, http_port, &turn);
                    });
                }
            }
            Ok(Packet::Request(request)) => {
                let who = peer.ip().to_canonical();
                let line = format!("{who} TFTP put {} refused", shown(&request));
                sites.journal.request(&line);
                let refusal = error(code::ACCESS, "this server is for reading only");
                let _ = socket.send_to(&refusal.encode(), peer).await;
            }
            Err(why) if is_request(&buffer[..length]) => {
                let who = peer.ip().to_canonical();
                sites
                    .journal
                    .request(&format!("{who} TFTP request refused: {why}"));
                let refusal = error(code::ILLEGAL, why.to_string());
                let _ = socket.send_to(&refusal.encode(), peer).await;
            }
            // Strays of transfers that ended, and noise: RFC 1350 has no answer for them on this port.
            _ => {}
        }
    }
}

/// Whether a datagram begins as a request does (RFC 1350 5).
fn is_request(datagram: &[u8]) -> bool {
    matches!(datagram, [0, 1 | 2, ..])
}

/// The name that a client asks for, for the journal.
fn shown(request: &Request) -> String {
    match request.name() {
        Ok(name) => name.to_owned(),
        Err(_) => request.file.escape_ascii().to_string(),
    }
}

fn answer(
    sites: &Sites,
    local: SocketAddr,
    peer: SocketAddr,
    request: &Request,
    http_port: u16,
    turn: &Turn,
) {
    let who = peer.ip().to_canonical();
    let what = format!("{who} TFTP get {}", shown(request));
    let outcome = || -> io::Result<String> {
        // Each transfer has a port of its own (RFC 1350 4).
        let socket = std::net::UdpSocket::bind((local.ip(), 0))?;
        socket.connect(peer)?;
        let own = SocketAddr::new(socket.local_addr()?.ip(), http_port);
        let found = sites
            .now()
            .map_err(|gone| error(code::UNDEFINED, format!("{gone:#}")))
            .and_then(|site| lookup::open(&site, request, who, &asked(own)));
        match found {
            Ok(content) => transfer::send(&socket, request, content, turn),
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
        Ok(end) => sites.journal.request(&format!("{what} {end}")),
        Err(error) => sites.journal.request(&format!("{what} failed: {error}")),
    }
}

/// As an http client asks who reaches the server under the address that this one sees: a server has several.
fn asked(own: SocketAddr) -> Asked {
    Asked {
        host: Some(url::reached_as(own).to_string()),
        secure: false,
    }
}

fn error(code: u16, message: impl Into<String>) -> Packet {
    Packet::Error {
        code,
        message: message.into(),
    }
}
