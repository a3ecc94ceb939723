//! The sockets of a DHCP client.
//!
//! Servers may send to the address that they are about to grant, which the kernel does not yet take as its
//! own: answers are read below IP (packet(7)). Questions go out by an ordinary socket on the client's port,
//! which also keeps the kernel from answering "port unreachable".

use super::packet::{Answer, Transaction, udp_payload};
use super::{CLIENT_PORT, SERVER_PORT};
use crate::net::netlink::wait_readable;
use crate::net::nics::Nic;
use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recv, setsockopt, socket,
    sockopt,
};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Ethernet's largest packet, and room for larger ones of a jumbo network.
const PACKET: usize = 9216;

/// `ETH_P_IP`
const IPV4: u16 = 0x0800;

/// Talks to servers over one network card.
pub struct ClientSocket {
    udp: UdpSocket,
    /// `None` on a kernel without packet sockets: then only broadcast answers are heard.
    packets: Option<OwnedFd>,
}

impl ClientSocket {
    /// For a card without an address.
    pub fn unconfigured(nic: &Nic) -> anyhow::Result<Self> {
        let act = || format!("opening a DHCP socket on {}", nic.name);
        Ok(Self {
            udp: udp(nic).with_context(act)?,
            packets: match packets(nic) {
                Ok(socket) => Some(socket),
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
                Err(error) => return Err(error).with_context(act),
            },
        })
    }

    /// For a card that has an address.
    pub fn configured(nic: &Nic) -> anyhow::Result<Self> {
        let udp = udp(nic).with_context(|| format!("opening a DHCP socket on {}", nic.name))?;
        Ok(Self { udp, packets: None })
    }

    /// Whether only broadcast answers are heard.
    pub fn needs_broadcast(&self) -> bool {
        self.packets.is_none()
    }

    /// Sends to one server, or to all: `255.255.255.255`.
    pub fn send(&self, message: &[u8], to: Ipv4Addr) -> io::Result<()> {
        self.udp
            .send_to(message, SocketAddrV4::new(to, SERVER_PORT))
            .map(drop)
    }

    /// The next answer to `transaction` before `deadline`; `None` when there was none.
    pub fn receive(
        &self,
        transaction: &Transaction,
        deadline: Instant,
    ) -> io::Result<Option<Answer>> {
        let mut buffer = [0; PACKET];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if !wait_readable(self.fd(), left)? {
                continue;
            }
            let length = match recv(self.fd().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            let payload = match self.packets {
                Some(_) => udp_payload(bytes),
                None => Some(bytes),
            };
            if let Some(answer) = payload.and_then(|payload| transaction.answer(payload)) {
                return Ok(Some(answer));
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.packets {
            Some(socket) => socket.as_fd(),
            None => self.udp.as_fd(),
        }
    }
}

/// Bound to the card but to no address: a server's no is broadcast even to those who have one (RFC 2131 4.3.2).
fn udp(nic: &Nic) -> io::Result<UdpSocket> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(&nic.name))?;
    bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)),
    )?;
    Ok(UdpSocket::from(socket))
}

fn packets(nic: &Nic) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing until it is bound to the card: not a packet of another one.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: IPV4.to_be(),
        sll_ifindex: i32::try_from(nic.index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a whole sockaddr_ll of `length` bytes that outlives the call.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
