//! The only DHCP server of a network (RFC 2131 4.3): who gets which address, from the fleet file.

mod choose;

use crate::answer::Answer;
use crate::boot::{self, Client, Here};
use crate::leases::{Lease, Leases, State, after};
use crate::question::{Kind, Question, code};
use choose::Place;
use dhcproto::v4::{DhcpOption, MessageType};
use jiff::Timestamp;
use pitstop_fleet::Fleet;
use pitstop_protocol::host_name::Mac;
use std::net::{IpAddr, Ipv4Addr};

/// Seconds. How long an address is kept for a client that is looked for there, and for one that was offered it.
const PROBE: u64 = 10;
const OFFER: u64 = 60;
/// How long an address is left alone that the kernel knows somebody at. It may be wrong about who was there a while ago:
/// having been asked, it knows better by then.
const LOOK_AGAIN: u64 = 60;
/// The same where a client found somebody.
const LEFT_ALONE: u64 = 600;

/// Gives out addresses.
pub struct Lender {
    leases: Leases,
}

/// What holds when a question comes.
pub struct Scene<'a> {
    pub fleet: &'a Fleet,
    pub here: &'a Here,
    /// Every address of this computer.
    pub own: &'a [Ipv4Addr],
    pub now: Timestamp,
}

/// An address to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub ip: Ipv4Addr,
    /// Whose it was. The kernel may still know it there, though its time is over.
    pub former: Option<Mac>,
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Verdict {
    /// An answer, and its line for the journal.
    Answer(Box<Answer>, String),
    /// The same, once the file has what was lent.
    Kept(Box<Answer>, String),
    /// Somebody may have this address: see, then say so to [`Lender::probed`].
    Probe(Probe),
    /// The client takes this other server's offer.
    Rival(Ipv4Addr),
    /// No answer, and a change that the file is to have.
    Changed(String),
    Nothing(Option<String>),
}

impl Lender {
    pub fn new(leases: Leases) -> Self {
        Self { leases }
    }

    /// What the file is to have.
    pub fn text(&self) -> String {
        self.leases.text()
    }

    /// Frees what is only kept for a client that is not looked after further: it asks again, and is not met with silence.
    pub fn forget(&mut self, mac: Mac) {
        self.leases.forget_offers(mac);
    }

    pub fn answer(&mut self, question: &Question, scene: &Scene) -> Verdict {
        let place = match Place::of(question, scene) {
            Ok(place) => place,
            Err(why) => return Verdict::Nothing(Some(why)),
        };
        match question.kind {
            Kind::Discover => self.discover(question, scene, &place),
            Kind::Request => self.request(question, scene, &place),
            Kind::Release => self.release(question, scene, &place),
            Kind::Decline => self.decline(question, scene, &place),
            Kind::Inform => inform(question, scene, &place),
        }
    }

    /// Goes on with a discovery after [`Verdict::Probe`].
    pub fn probed(
        &mut self,
        question: &Question,
        scene: &Scene,
        ip: Ipv4Addr,
        taken: bool,
    ) -> Verdict {
        let (state, seconds) = if taken {
            (State::Taken, LOOK_AGAIN)
        } else {
            (State::Offered, OFFER)
        };
        self.keep(question, scene, ip, state, seconds);
        self.answer(question, scene)
    }

    fn keep(
        &mut self,
        question: &Question,
        scene: &Scene,
        ip: Ipv4Addr,
        state: State,
        seconds: u64,
    ) {
        let lease = Lease {
            mac: question.mac,
            name: question.hostname().map(str::to_owned),
            state,
            until: after(scene.now, seconds),
        };
        self.leases.set(ip, lease);
    }

    fn discover(&mut self, question: &Question, scene: &Scene, place: &Place) -> Verdict {
        let ip = match place.fixed {
            Some(ip) => ip,
            None => match place.choose(&self.leases, question, scene) {
                Some(ip) => ip,
                None => return Verdict::Nothing(Some(place.none_left())),
            },
        };
        let held = self
            .leases
            .get(ip)
            .filter(|lease| !lease.is_over(scene.now));
        match held.map(|lease| &lease.state) {
            _ if place.fixed.is_some() => {}
            Some(State::Lent | State::Offered) => {}
            // The client asks again while it is looked for.
            Some(State::Probed) => return Verdict::Nothing(None),
            // Only a network that this computer is on can be looked at.
            _ if question.relay.is_some() => self.keep(question, scene, ip, State::Offered, OFFER),
            _ => {
                let former = self.leases.former(ip);
                self.keep(question, scene, ip, State::Probed, PROBE);
                return Verdict::Probe(Probe { ip, former });
            }
        }
        let (answer, what) = grant(question, scene, place, MessageType::Offer, Some(ip));
        Verdict::Answer(answer, format!("{}: offered {ip}{what}", place.who))
    }

    fn request(&mut self, question: &Question, scene: &Scene, place: &Place) -> Verdict {
        if let Some(server) = question.server()
            && server != scene.here.address
            && !scene.own.contains(&server)
        {
            self.leases.forget_offers(question.mac);
            return Verdict::Rival(server);
        }
        let Some(wanted) = question.requested().or(question.client) else {
            return Verdict::Nothing(None);
        };
        let granted = match place.fixed {
            Some(ip) => ip == wanted,
            None => {
                place.may_have(wanted, scene)
                    && self.leases.is_free(wanted, question.mac, scene.now)
            }
        };
        if !granted {
            return self.refuse(question, scene, place, wanted);
        }
        let (answer, what) = grant(question, scene, place, MessageType::Ack, Some(wanted));
        let line = format!(
            "{}: has {wanted} for {} s{what}",
            place.who,
            place.seconds()
        );
        if place.fixed.is_some() {
            return Verdict::Answer(answer, line);
        }
        self.leases.forget_offers(question.mac);
        self.keep(question, scene, wanted, State::Lent, place.seconds());
        Verdict::Kept(answer, line)
    }

    fn refuse(
        &self,
        question: &Question,
        scene: &Scene,
        place: &Place,
        wanted: Ipv4Addr,
    ) -> Verdict {
        let why = match place.fixed {
            Some(ip) => format!("its address is {ip}"),
            None if !place.net.contains(&wanted) => format!("it is in {}", place.net),
            None if place.may_have(wanted, scene) => "somebody else has it".into(),
            // Somebody else may have lent it: who is not known here is not spoken to (RFC 2131 4.3.2).
            None if !self.knows(question, place) => return Verdict::Nothing(None),
            None => "no range has it".into(),
        };
        let mut answer = Answer::new(question, MessageType::Nak, scene.here.address);
        answer.to_all();
        answer.add(DhcpOption::Message(format!("not {wanted}: {why}")));
        Verdict::Answer(
            Box::new(answer),
            format!("{}: refused {wanted}: {why}", place.who),
        )
    }

    /// Whether a client is in the fleet file, has or had an address from here, or says that it was offered one.
    fn knows(&self, question: &Question, place: &Place) -> bool {
        let ips = place.net.network()..=place.net.broadcast();
        place.machine.is_some()
            || question.server().is_some()
            || self.leases.of(question.mac, ips).is_some()
    }

    fn release(&mut self, question: &Question, scene: &Scene, place: &Place) -> Verdict {
        match question.client {
            Some(ip) if self.leases.release(ip, question.mac, scene.now) => {
                Verdict::Changed(format!("{}: gave {ip} back", place.who))
            }
            _ => Verdict::Nothing(None),
        }
    }

    fn decline(&mut self, question: &Question, scene: &Scene, place: &Place) -> Verdict {
        let Some(ip) = question.requested() else {
            return Verdict::Nothing(None);
        };
        let what = format!("{}: does not take {ip}: another machine has it", place.who);
        if place.fixed == Some(ip) {
            return Verdict::Nothing(Some(format!("{what}, which has to give it up")));
        }
        if self
            .leases
            .get(ip)
            .is_none_or(|lease| lease.mac != question.mac)
        {
            return Verdict::Nothing(None);
        }
        self.keep(question, scene, ip, State::Taken, LEFT_ALONE);
        Verdict::Changed(what)
    }
}

/// A client that has an address from elsewhere asks for the rest (RFC 2131 4.3.5).
fn inform(question: &Question, scene: &Scene, place: &Place) -> Verdict {
    match question.client {
        Some(ip) if place.net.contains(&ip) => {
            let (answer, what) = grant(question, scene, place, MessageType::Ack, None);
            let line = format!("{}: told of the network{what}", place.who);
            Verdict::Answer(answer, line)
        }
        _ => Verdict::Nothing(None),
    }
}

/// An answer with all that the network says, and what the journal adds of what it is to load.
fn grant(
    question: &Question,
    scene: &Scene,
    place: &Place,
    kind: MessageType,
    ip: Option<Ipv4Addr>,
) -> (Box<Answer>, String) {
    let mut answer = Answer::new(question, kind, scene.here.address);
    if let Some(ip) = ip {
        answer.give(ip);
        let seconds = u32::try_from(place.seconds()).unwrap_or(u32::MAX);
        answer.add(DhcpOption::AddressLeaseTime(seconds));
        answer.add(DhcpOption::Renewal(seconds / 2));
        // T2 as RFC 2131 4.4.5 has it.
        answer.add(DhcpOption::Rebinding(seconds / 8 * 7));
    }
    let network = place.network;
    answer.add(DhcpOption::SubnetMask(place.net.netmask()));
    answer.add(DhcpOption::BroadcastAddr(place.net.broadcast()));
    if let Some(IpAddr::V4(router)) = network.router {
        answer.add(DhcpOption::Router(vec![router]));
    }
    for (ips, option) in [
        (
            &network.dns,
            DhcpOption::DomainNameServer as fn(Vec<Ipv4Addr>) -> DhcpOption,
        ),
        (&network.ntp, DhcpOption::NtpServers),
    ] {
        let ips: Vec<Ipv4Addr> = ips.iter().filter_map(|ip| v4(*ip)).collect();
        if !ips.is_empty() {
            answer.add(option(ips));
        }
    }
    if let Some(domain) = &network.domain {
        answer.add(DhcpOption::DomainName(domain.clone()));
    }
    if let Some(machine) = place.machine {
        answer.add(DhcpOption::Hostname(machine.name.clone()));
    }
    let what = add_boot(&mut answer, question, scene, place);
    (Box::new(answer), what)
}

fn add_boot(answer: &mut Answer, question: &Question, scene: &Scene, place: &Place) -> String {
    let firmware = match Client::of(question) {
        Client::Boots(firmware) if boot::may_boot(Some(scene.fleet), place.machine) => firmware,
        Client::CannotBoot(which) => return format!(", but nothing here boots {which}"),
        Client::Boots(_) | Client::Other => return String::new(),
    };
    if firmware.is_http() {
        // Firmware takes no answer for one to HTTP boot that does not say so (UEFI 2.10, 24.7.3).
        answer.add_raw(code::CLASS, boot::HTTP.as_bytes());
    }
    let file = scene.here.boot_file(Some(scene.fleet), question, firmware);
    answer.boot(question, &file);
    format!(", {} is to load {file}", boot::title(firmware))
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests;
