//! Keeps the address while the machine works (RFC 2131 4.4.5).
//!
//! An address that the server takes back is kept all the same: giving it up would tear the connections of a
//! half-written disk. It is said, and asked for again.

use super::settings::Times;
use super::{Granted, transaction};
use crate::net::dhcp::settings::Settings;
use crate::net::dhcp::socket::ClientSocket;
use crate::net::nics::Nic;
use dhcproto::v4::MessageType;
use pitstop_imaging::event::Reporter;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

/// RFC 2131 4.4.5: no more often than once a minute.
const LEAST_WAIT: Duration = Duration::from_secs(60);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is due at a point of a lease's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nothing, for so long.
    Nothing(Duration),
    /// The server that granted it is asked; the next try comes after the wait.
    Renew(Duration),
    /// Anybody is asked.
    Rebind(Duration),
    /// The same, but the address is no longer ours.
    Expired(Duration),
}

fn due(age: Duration, times: &Times) -> Due {
    let half = |end: Duration| {
        let left = end.saturating_sub(age);
        (left / 2).max(LEAST_WAIT.min(left))
    };
    if age < times.renew {
        Due::Nothing(times.renew.saturating_sub(age))
    } else if age < times.rebind {
        Due::Renew(half(times.rebind))
    } else if age < times.lease {
        Due::Rebind(half(times.lease))
    } else {
        Due::Expired(LEAST_WAIT)
    }
}

/// An address for a time.
pub trait Held {
    /// Since it was asked for.
    fn age(&self) -> Duration;
    fn times(&self) -> &Times;
}

impl Held for Granted {
    fn age(&self) -> Duration {
        self.since.elapsed()
    }

    fn times(&self) -> &Times {
        &self.settings.times
    }
}

/// Who is asked to renew a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The server that granted it.
    Granter,
    Anybody,
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Reply<G> {
    Granted(Box<G>),
    No(String),
    Nothing,
}

/// Renews the lease for as long as the process lives. For a thread of its own.
pub fn keep(nic: &Nic, granted: Granted, reporter: &dyn Reporter) {
    let address = granted.settings.address;
    keep_by(address.into(), granted, reporter, |held: &Granted, whom| {
        let server = match whom {
            Whom::Granter => held.settings.server,
            Whom::Anybody => Ipv4Addr::BROADCAST,
        };
        ask(nic, address, server)
    });
}

/// The same with any protocol: `ask` does the renewal.
pub fn keep_by<G: Held>(
    address: IpAddr,
    mut granted: G,
    reporter: &dyn Reporter,
    ask: impl Fn(&G, Whom) -> anyhow::Result<Reply<G>>,
) {
    let mut lost = false;
    loop {
        let (whom, wait) = match due(granted.age(), granted.times()) {
            Due::Nothing(wait) => {
                thread::sleep(wait);
                continue;
            }
            Due::Renew(wait) => (Whom::Granter, wait),
            Due::Rebind(wait) => (Whom::Anybody, wait),
            Due::Expired(wait) => {
                if !lost {
                    lost = true;
                    reporter.warn(format!(
                        "the DHCP lease of {address} has ended and no server renews it: \
                         the address is kept"
                    ));
                }
                (Whom::Anybody, wait)
            }
        };
        let asked = Instant::now();
        match ask(&granted, whom) {
            Ok(Reply::Granted(renewed)) => {
                reporter.debug(format!("DHCP lease of {address} renewed"));
                granted = *renewed;
                lost = false;
                continue;
            }
            Ok(Reply::No(why)) => {
                if !lost {
                    lost = true;
                    reporter.warn(format!(
                        "the DHCP server takes {address} back ({why}): the address is kept"
                    ));
                }
            }
            Ok(Reply::Nothing) => {
                reporter.debug(format!("no answer to the renewal of {address}"));
            }
            Err(error) => reporter.warn(format!("renewing the lease of {address}: {error:#}")),
        }
        thread::sleep(wait.saturating_sub(asked.elapsed()));
    }
}

/// One question and the wait for the answer to it. The no of a server that was not asked is none; where all are
/// asked, a grant counts for more than a no.
pub(super) fn ask(
    nic: &Nic,
    address: Ipv4Addr,
    server: Ipv4Addr,
) -> anyhow::Result<Reply<Granted>> {
    let socket = ClientSocket::configured(nic)?;
    let since = Instant::now();
    let transaction = transaction(nic, false, since);
    socket.send(&transaction.renew(address)?, server)?;
    let mut refused = None;
    while let Some(answer) = socket.receive(&transaction, since + PATIENCE)? {
        match (answer.kind, Settings::read(&answer)) {
            (MessageType::Ack, Some(settings)) if settings.address == address => {
                return Ok(Reply::Granted(Box::new(Granted { settings, since })));
            }
            (MessageType::Nak, _) if server.is_broadcast() => {
                refused = Some(super::reason(&answer));
            }
            (MessageType::Nak, _) if answer.other_than(server).is_none() => {
                return Ok(Reply::No(super::reason(&answer)));
            }
            _ => {}
        }
    }
    Ok(refused.map_or(Reply::Nothing, Reply::No))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        renew: Duration::from_secs(1800),
        rebind: Duration::from_secs(3150),
        lease: Duration::from_secs(3600),
    };

    #[test]
    fn a_lease_is_renewed_at_half_time_and_more_often_towards_its_end() {
        let at = |seconds| due(Duration::from_secs(seconds), &TIMES);
        let seconds = Duration::from_secs;
        assert_eq!(at(0), Due::Nothing(seconds(1800)));
        assert_eq!(at(1800), Due::Renew(seconds(675)));
        assert_eq!(at(3100), Due::Renew(seconds(50)));
        assert_eq!(at(3150), Due::Rebind(seconds(225)));
        assert_eq!(at(3599), Due::Rebind(seconds(1)));
        assert_eq!(at(3600), Due::Expired(seconds(60)));
        assert_eq!(at(999_999), Due::Expired(seconds(60)));
    }
}
