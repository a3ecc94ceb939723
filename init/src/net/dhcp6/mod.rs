//! A DHCPv6 client (RFC 8415) on the codec of `dhcproto`, for networks whose routers say that there is a server.

#[cfg(test)]
mod netns_test;
mod packet;

use super::dhcp::renew::{Held, Reply, Whom};
use super::dhcp::settings::Times;
use super::dhcp::{Backoff, random};
use super::nics::Nic;
use anyhow::Context;
use dhcproto::v6::MessageType;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt,
};
use packet::{Answer, Question};
use pitstop_imaging::event::Reporter;
use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub use packet::{Identity, Told};

const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// RFC 8415 7.1, `All_DHCP_Relay_Agents_and_Servers`.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// How often an offer is taken up before another one is looked for.
const REQUESTS: u32 = 3;

/// How long an answer to a renewal may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address that is ours.
#[derive(Debug, Clone)]
pub struct Granted {
    pub address: Ipv6Addr,
    pub told: Told,
    server: Vec<u8>,
    times: Times,
    since: Instant,
}

impl Held for Granted {
    fn age(&self) -> Duration {
        self.since.elapsed()
    }

    fn times(&self) -> &Times {
        &self.times
    }
}

/// A card that asks.
pub struct Client<'a> {
    nic: &'a Nic,
    identity: &'a Identity,
    socket: UdpSocket,
    began: Instant,
}

impl<'a> Client<'a> {
    pub fn open(nic: &'a Nic, identity: &'a Identity) -> anyhow::Result<Self> {
        Ok(Self {
            nic,
            identity,
            socket: udp(nic).with_context(|| format!("opening a DHCPv6 socket on {}", nic.name))?,
            began: Instant::now(),
        })
    }

    /// Asks for an address until `until`. `Ok(None)` when nobody gave one. The first offer is taken, without a wait
    /// for better ones (RFC 8415 18.2.1 has it a second long).
    pub fn acquire(
        &self,
        until: Instant,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Option<Granted>> {
        let mut backoff = Backoff::default();
        while Instant::now() < until {
            let question = self.question(MessageType::Solicit);
            let deadline = (Instant::now() + backoff.wait()).min(until);
            let offered = self.exchange(&question, deadline, |answer| {
                let refusal = answer.refusal.clone().filter(|_| answer.address.is_none());
                if let Some(why) = refusal {
                    reporter.warn(format!("DHCPv6 on {}: no address: {why}", self.nic.name));
                }
                answer.kind == MessageType::Advertise && answer.address.is_some()
            })?;
            if let Some(offer) = offered
                && let Some(granted) = self.request(&offer)?
            {
                return Ok(Some(granted));
            }
        }
        Ok(None)
    }

    fn request(&self, offer: &Answer) -> anyhow::Result<Option<Granted>> {
        let mut backoff = Backoff::default();
        for _ in 0..REQUESTS {
            let since = Instant::now();
            let question = Question {
                server: Some(&offer.server),
                address: offer.address.map(|(address, _)| address),
                ..self.question(MessageType::Request)
            };
            let reply = self.exchange(&question, since + backoff.wait(), is_reply)?;
            if let Some(granted) = reply.and_then(|reply| granted(reply, since)) {
                return Ok(Some(granted));
            }
        }
        Ok(None)
    }

    /// Asks for what servers tell beside an address (RFC 8415 18.2.6), until `until`.
    pub fn inform(&self, until: Instant) -> anyhow::Result<Option<Told>> {
        let mut backoff = Backoff::default();
        while Instant::now() < until {
            let question = self.question(MessageType::InformationRequest);
            let deadline = (Instant::now() + backoff.wait()).min(until);
            if let Some(reply) = self.exchange(&question, deadline, is_reply)? {
                return Ok(Some(reply.told));
            }
        }
        Ok(None)
    }

    /// Asks to keep an address.
    pub fn renew(&self, held: &Granted, whom: Whom) -> anyhow::Result<Reply<Granted>> {
        let since = Instant::now();
        let (kind, server) = match whom {
            Whom::Granter => (MessageType::Renew, Some(held.server.as_slice())),
            Whom::Anybody => (MessageType::Rebind, None),
        };
        let question = Question {
            server,
            address: Some(held.address),
            ..self.question(kind)
        };
        let Some(reply) = self.exchange(&question, since + PATIENCE, is_reply)? else {
            return Ok(Reply::Nothing);
        };
        let refusal = reply.refusal.clone();
        match granted(reply, since).filter(|granted| granted.address == held.address) {
            Some(granted) => Ok(Reply::Granted(Box::new(granted))),
            None => Ok(Reply::No(
                refusal.unwrap_or_else(|| "it gives no reason".into()),
            )),
        }
    }

    fn question(&self, kind: MessageType) -> Question<'static> {
        let [id @ .., _] = random().to_ne_bytes();
        Question {
            kind,
            id,
            elapsed: self.began.elapsed(),
            server: None,
            address: None,
        }
    }

    /// Asks all servers, and waits for an answer that will do.
    fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
        mut will_do: impl FnMut(&Answer) -> bool,
    ) -> anyhow::Result<Option<Answer>> {
        let asking = || format!("asking DHCPv6 servers on {}", self.nic.name);
        let servers = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.nic.index);
        self.socket
            .send_to(&self.identity.ask(question)?, servers)
            .with_context(asking)?;
        let mut buffer = [0; 1500];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if !super::wait_readable(&self.socket, left).with_context(asking)? {
                continue;
            }
            let length = self.socket.recv(&mut buffer).with_context(asking)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = self.identity.answer(question, bytes)
                && will_do(&answer)
            {
                return Ok(Some(answer));
            }
        }
    }
}

fn is_reply(answer: &Answer) -> bool {
    answer.kind == MessageType::Reply
}

fn granted(reply: Answer, since: Instant) -> Option<Granted> {
    let (address, times) = reply.address?;
    Some(Granted {
        address,
        told: reply.told,
        server: reply.server,
        times,
        since,
    })
}

fn udp(nic: &Nic) -> std::io::Result<UdpSocket> {
    let socket = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(&nic.name))?;
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?;
    Ok(UdpSocket::from(socket))
}
