//! A UDP socket on one interface. It hears broadcasts there alone, shares its port with servers on other interfaces, and
//! says which of the interface's addresses an answer is from.

use crate::holder;
use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, bind, sendmsg,
    setsockopt, socket, sockopt,
};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

pub struct Socket(UdpSocket);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum NoSocket {
    #[error(
        "UDP port {port} on {interface} is taken{}: stop that server, or leave DHCP to it and give it the boot loaders \
         (pitstop fleet generate)",
        by(.holder.as_deref())
    )]
    Taken {
        port: u16,
        interface: String,
        holder: Option<String>,
    },
    #[error(
        "opening UDP port {port} on {interface} is not allowed: run it as root, or with the capability \
         CAP_NET_BIND_SERVICE"
    )]
    NotAllowed { port: u16, interface: String },
    #[error("opening UDP port {port} on {interface}")]
    Other {
        port: u16,
        interface: String,
        source: io::Error,
    },
}

fn by(holder: Option<&str>) -> String {
    match holder {
        Some(holder) => format!(" by {holder}"),
        None => " (ss -lnup tells by whom)".into(),
    }
}

impl Socket {
    pub fn bind(interface: &str, port: u16) -> Result<Self, NoSocket> {
        open(interface, port, false).map_err(|errno| {
            let interface = interface.to_owned();
            match errno {
                Errno::EADDRINUSE => NoSocket::Taken {
                    port,
                    interface,
                    holder: holder::of_udp_port(port),
                },
                Errno::EACCES | Errno::EPERM => NoSocket::NotAllowed { port, interface },
                other => NoSocket::Other {
                    port,
                    interface,
                    source: other.into(),
                },
            }
        })
    }

    /// On a port that others on this computer may have, too: a client's.
    pub fn bind_beside_others(interface: &str, port: u16) -> anyhow::Result<Self> {
        open(interface, port, true)
            .with_context(|| format!("opening UDP port {port} on {interface}"))
    }

    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddrV4)> {
        let (length, from) = self.0.recv_from(buffer).await?;
        match from {
            SocketAddr::V4(from) => Ok((length, from)),
            SocketAddr::V6(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Drops what has come so far.
    pub fn drain(&self) {
        let mut buffer = [0; 64];
        while self.0.try_recv_from(&mut buffer).is_ok() {}
    }

    /// Sends from this address of the interface.
    pub async fn send(&self, bytes: &[u8], to: SocketAddrV4, from: Ipv4Addr) -> io::Result<()> {
        let source = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(from).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let to = SockaddrIn::from(to);
        let send = || {
            let (data, about) = (
                [IoSlice::new(bytes)],
                [ControlMessage::Ipv4PacketInfo(&source)],
            );
            let fd = self.0.as_raw_fd();
            sendmsg(fd, &data, &about, MsgFlags::empty(), Some(&to)).map_err(io::Error::from)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(drop)
    }
}

fn open(interface: &str, port: u16, shared: bool) -> nix::Result<Socket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    if shared {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    let all = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    bind(socket.as_raw_fd(), &all)?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket));
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Ok(Socket(socket.map_err(errno)?))
}
