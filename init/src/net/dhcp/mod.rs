//! A DHCP client (RFC 2131) on the codec of `dhcproto`.
//!
//! `mozim` was looked at: it is asynchronous, decides itself how long it waits, and tells neither the answer's
//! boot fields nor why a server said no.

#[cfg(test)]
mod netns_faults;
#[cfg(test)]
mod netns_test;
mod packet;
pub mod renew;
pub mod settings;
mod socket;

use crate::net::nics::Nic;
use anyhow::Context;
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use packet::{Answer, Transaction};
use pitstop_imaging::event::Reporter;
use settings::Settings;
use socket::ClientSocket;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Waits between questions: a link that has just come up loses the first ones, a switch port in its
/// spanning tree delay loses them for 50 s.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// How often an offer is taken up before another one is looked for.
const REQUESTS: u32 = 3;

/// What a server that says no gets before it is asked again (RFC 2131 3.2 wants ten for the worst).
const AFTER_NO: Duration = Duration::from_secs(2);

/// An address that is ours.
#[derive(Debug, Clone)]
pub struct Granted {
    pub settings: Settings,
    /// When it was asked for: its times run from here (RFC 2131 4.4.1).
    pub since: Instant,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAddress {
    /// Nobody answered, or nobody granted what was offered.
    Silence,
    /// Somebody answered, and what it said is of no use.
    Unusable(String),
}

/// Growing waits with a jitter, so that machines that were switched on together do not ask together.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_WAIT }
    }
}

impl Backoff {
    /// The next wait: a quarter more or less than 1, 2, 4, 8, 8, … seconds.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST_WAIT);
        wait * 3 / 4 + wait / 2 / 256 * (random() % 256)
    }
}

/// Asks for an address on one card until `until`. The inner error says why nobody gave one.
///
/// # Errors
/// The card went away or down.
pub fn acquire(
    nic: &Nic,
    began: Instant,
    until: Instant,
    backoff: &mut Backoff,
    reporter: &dyn Reporter,
) -> anyhow::Result<Result<Granted, NoAddress>> {
    let socket = ClientSocket::unconfigured(nic)?;
    let mut client = Client {
        nic,
        socket,
        began,
        until,
        reporter,
        broadcast: false,
        no_use: Vec::new(),
        others: Vec::new(),
        flaw: None,
    };
    client.broadcast = client.socket.needs_broadcast();
    while Instant::now() < until {
        let transaction = client.transaction();
        let Some(offer) = client.discover(&transaction, backoff)? else {
            // Some relays do not send to an address that does not answer ARP yet: the other way, then.
            client.broadcast = client.socket.needs_broadcast() || !client.broadcast;
            continue;
        };
        reporter.debug(format!(
            "DHCP on {}: {} offers {}",
            nic.name, offer.server, offer.address
        ));
        match client.request(&transaction, &offer)? {
            Verdict::Granted(granted) => return Ok(Ok(*granted)),
            Verdict::No(why) => {
                client.no_use.push(offer.server);
                reporter.warn(format!(
                    "DHCP on {}: {} refuses the address that it offered: {why}",
                    nic.name, offer.server
                ));
                thread::sleep(AFTER_NO);
            }
            Verdict::Nothing => client.no_use.push(offer.server),
        }
    }
    Ok(Err(client
        .flaw
        .map_or(NoAddress::Silence, NoAddress::Unusable)))
}

struct Client<'a> {
    nic: &'a Nic,
    socket: ClientSocket,
    began: Instant,
    until: Instant,
    reporter: &'a dyn Reporter,
    broadcast: bool,
    /// Servers that offered and did not grant: any other's offer is better.
    no_use: Vec<Ipv4Addr>,
    /// Servers that were told of, because they answer beside the chosen one.
    others: Vec<Ipv4Addr>,
    /// What was wrong with an offer.
    flaw: Option<String>,
}

enum Verdict {
    Granted(Box<Granted>),
    No(String),
    Nothing,
}

impl Client<'_> {
    fn transaction(&self) -> Transaction {
        transaction(self.nic, self.broadcast, self.began)
    }

    /// One question and the wait for an offer.
    fn discover(
        &mut self,
        transaction: &Transaction,
        backoff: &mut Backoff,
    ) -> anyhow::Result<Option<Settings>> {
        self.send(&transaction.discover()?)?;
        let deadline = (Instant::now() + backoff.wait()).min(self.until);
        let mut second_choice = None;
        while let Some(answer) = self.receive(transaction, deadline)? {
            if answer.kind != MessageType::Offer {
                continue;
            }
            match Settings::read(&answer) {
                Some(offer) if !self.no_use.contains(&offer.server) => return Ok(Some(offer)),
                Some(offer) => second_choice = Some(offer),
                None => self.flaw = settings::flaw(&answer).or(self.flaw.take()),
            }
        }
        Ok(second_choice)
    }

    fn request(&mut self, transaction: &Transaction, offer: &Settings) -> anyhow::Result<Verdict> {
        let mut backoff = Backoff::default();
        for _ in 0..REQUESTS {
            let since = Instant::now();
            self.send(&transaction.request(offer.address, offer.server)?)?;
            let deadline = since + backoff.wait();
            while let Some(answer) = self.receive(transaction, deadline)? {
                let settings = Settings::read(&answer);
                if let Some(other) = answer.other_than(offer.server) {
                    // A PXE proxy is no server of addresses.
                    if settings.is_some() || answer.kind == MessageType::Nak {
                        self.leave_aside(other);
                    }
                    continue;
                }
                match (answer.kind, settings) {
                    (MessageType::Ack, Some(settings)) => {
                        return Ok(Verdict::Granted(Box::new(Granted { settings, since })));
                    }
                    (MessageType::Nak, _) => return Ok(Verdict::No(reason(&answer))),
                    // The same offer again.
                    _ => {}
                }
            }
        }
        Ok(Verdict::Nothing)
    }

    /// RFC 2131 3.1: a client chooses one server, and the others take it as a no.
    fn leave_aside(&mut self, server: Ipv4Addr) {
        if !self.others.contains(&server) {
            self.others.push(server);
            self.reporter.warn(format!(
                "DHCP on {}: there is a second DHCP server, {server}: its answers are ignored",
                self.nic.name
            ));
        }
    }

    fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        self.socket
            .send(message, Ipv4Addr::BROADCAST)
            .with_context(|| format!("asking for an address on {}", self.nic.name))
    }

    fn receive(
        &self,
        transaction: &Transaction,
        deadline: Instant,
    ) -> anyhow::Result<Option<Answer>> {
        self.socket
            .receive(transaction, deadline)
            .with_context(|| format!("waiting for DHCP answers on {}", self.nic.name))
    }
}

fn transaction(nic: &Nic, broadcast: bool, began: Instant) -> Transaction {
    Transaction {
        id: random(),
        mac: nic.mac,
        broadcast,
        seconds: u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX),
    }
}

/// What a server says beside its no (option 56).
fn reason(answer: &Answer) -> String {
    match answer.options.get(OptionCode::Message) {
        Some(DhcpOption::Message(text)) => text.escape_debug().to_string(),
        _ => "it gives no reason".into(),
    }
}

/// From the kernel; from the clock while the kernel has none yet.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        for base in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.wait();
            let base = Duration::from_secs(base);
            assert!(wait >= base * 3 / 4 && wait <= base * 5 / 4, "{wait:?}");
        }
        let waits: Vec<Duration> = (0..8).map(|_| backoff.wait()).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
}
