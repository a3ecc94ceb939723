//! One socket: questions in, answers out.

use super::keeper::Store;
use super::noise::Noise;
use super::{FleetNow, Heard, Journal, Settings};
use crate::answer::Answer;
use crate::boot::{self, Client, Here};
use crate::interfaces::{self, Interface};
use crate::lend::{Lender, Probe, Scene, Verdict};
use crate::probe;
use crate::proxy::{self, Port, Told};
use crate::question::Question;
use crate::socket::Socket;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use pitstop_fleet::Fleet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Ethernet's largest packet, and room for larger ones of a jumbo network.
const LARGEST: usize = 9216;
/// Addresses that are looked at side by side.
const PROBES: usize = 32;
/// Answers that wait for the file of leases at the same time. A disk that hangs keeps nobody else waiting.
const WRITES: usize = 256;
/// How many addresses of a range are looked at for one question, if others have them.
const TRIES: usize = 8;

/// What all sockets share.
pub struct Shared {
    pub settings: Settings,
    pub fleet: FleetNow,
    pub journal: Journal,
    pub heard: Heard,
    /// Of a server.
    pub lending: Option<(Arc<Mutex<Lender>>, Store)>,
}

pub struct Worker {
    interface: String,
    socket: Arc<Socket>,
    port: Port,
    shared: Arc<Shared>,
    probes: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    rival: Option<Ipv4Addr>,
}

/// A question where it came in.
struct Asked {
    question: Question,
    fleet: Option<Arc<Fleet>>,
    here: Here,
    own: Vec<Ipv4Addr>,
}

impl Asked {
    fn scene<'a>(&'a self, fleet: &'a Fleet) -> Scene<'a> {
        Scene {
            fleet,
            here: &self.here,
            own: &self.own,
            now: Timestamp::now(),
        }
    }
}

impl Worker {
    pub fn new(interface: String, socket: Socket, port: Port, shared: &Arc<Shared>) -> Self {
        Self {
            interface,
            socket: Arc::new(socket),
            port,
            shared: Arc::clone(shared),
            probes: Arc::new(Semaphore::new(PROBES)),
            writes: Arc::new(Semaphore::new(WRITES)),
            rival: None,
        }
    }

    /// Nothing that comes in ends it.
    pub async fn run(mut self) {
        let mut buffer = vec![0; LARGEST];
        let mut noise = Noise::default();
        loop {
            let Ok((length, from)) = self.socket.receive(&mut buffer).await else {
                // An answer that found nobody, or an interface that is down for now.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match Question::read(buffer.get(..length).unwrap_or_default()) {
                Ok(question) => self.asked(question, from).await,
                Err(why) => {
                    if let Some(line) = noise.heard(why, *from.ip(), &self.interface) {
                        (self.shared.journal)(&line);
                    }
                }
            }
        }
    }

    async fn asked(&mut self, question: Question, from: SocketAddrV4) {
        let Some(asked) = self.place(question) else {
            return;
        };
        if self.shared.lending.is_none() {
            let told = proxy::answer(
                asked.fleet.as_deref(),
                &asked.question,
                &asked.here,
                self.port,
            );
            match told {
                Told::Answer(answer, line) => {
                    // Who has an address already is answered where it asks from.
                    let has = self.port == Port::Pxe && !from.ip().is_unspecified();
                    let to = has.then_some(from);
                    self.send(&asked, &answer, to, &line).await;
                }
                Told::Nothing(line) => self.note(line),
            }
            return;
        }
        match self.decide(&asked, None) {
            Some(Verdict::Rival(server)) => self.note_rival(server),
            Some(Verdict::Probe(probe)) => self.probe(asked, probe),
            Some(verdict @ (Verdict::Kept(..) | Verdict::Changed(_))) => {
                self.carry_out_beside(asked, verdict);
            }
            Some(verdict) => self.carry_out(&asked, verdict).await,
            None => {}
        }
    }

    /// Carries out what waits for the disk, while other questions are answered.
    fn carry_out_beside(&self, asked: Asked, verdict: Verdict) {
        let Ok(turn) = Arc::clone(&self.writes).try_acquire_owned() else {
            // The client asks again.
            return;
        };
        let worker = self.another();
        tokio::spawn(async move {
            worker.carry_out(&asked, verdict).await;
            drop(turn);
        });
    }

    /// Where the question came in, as this computer's addresses and the fleet file are now.
    fn place(&self, question: Question) -> Option<Asked> {
        let all = interfaces::all().ok()?;
        let fleet = (self.shared.fleet)();
        let interface = all.iter().find(|one| one.name == self.interface)?;
        let near = || {
            let fleet = fleet.as_deref().filter(|_| self.shared.lending.is_some())?;
            near(&interface.addresses, fleet, &question)
        };
        let address = near().unwrap_or_else(|| self.address(interface, fleet.as_deref()));
        let settings = &self.shared.settings;
        // Files are where HTTP listens, whichever interface the question came by.
        let files = match settings.listen.to_canonical() {
            IpAddr::V4(ip) if !ip.is_unspecified() => ip,
            _ => address,
        };
        let url = settings
            .url
            .clone()
            .unwrap_or_else(|| format!("http://{}", SocketAddr::new(files.into(), settings.port)));
        Some(Asked {
            question,
            fleet,
            here: Here {
                interface: self.interface.clone(),
                address,
                files,
                url,
                chain: settings.chain,
            },
            own: all
                .iter()
                .flat_map(|one| &one.addresses)
                .map(Ipv4Net::addr)
                .collect(),
        })
    }

    /// Of several addresses the one that HTTP listens on, or one in a network of the fleet file.
    fn address(&self, interface: &Interface, fleet: Option<&Fleet>) -> Ipv4Addr {
        let listen = self.shared.settings.listen.to_canonical();
        let mut addresses = interface.addresses.iter().map(Ipv4Net::addr);
        let is_listening = |ip: &Ipv4Addr| IpAddr::V4(*ip) == listen;
        let in_fleet =
            |ip: &Ipv4Addr| fleet.is_some_and(|fleet| fleet.network_of(IpAddr::V4(*ip)).is_some());
        addresses
            .clone()
            .find(is_listening)
            .or_else(|| addresses.find(in_fleet))
            .unwrap_or_else(|| interface.address())
    }

    /// Asks the lender; after a probe, with what that found. A change is handed to the keeper in its turn.
    fn decide(&self, asked: &Asked, probed: Option<(Ipv4Addr, bool)>) -> Option<Verdict> {
        let fleet = asked.fleet.as_deref()?;
        let (lender, _) = self.shared.lending.as_ref()?;
        let mut lender = lender.lock().unwrap_or_else(PoisonError::into_inner);
        let scene = asked.scene(fleet);
        Some(match probed {
            Some((ip, taken)) => lender.probed(&asked.question, &scene, ip, taken),
            None => lender.answer(&asked.question, &scene),
        })
    }

    /// Looks for somebody at an address beside everything else, and goes on with the answer.
    fn probe(&self, asked: Asked, probe: Probe) {
        let Ok(turn) = Arc::clone(&self.probes).try_acquire_owned() else {
            // The client asks again.
            self.forget(&asked);
            return;
        };
        let worker = self.another();
        tokio::spawn(async move {
            worker.probe_in_turn(&asked, probe).await;
            drop(turn);
        });
    }

    async fn probe_in_turn(&self, asked: &Asked, mut probe: Probe) {
        let own = asked.question.mac;
        for _ in 0..TRIES {
            let Here {
                interface, address, ..
            } = &asked.here;
            let ip = probe.ip;
            let known = [own, probe.former.unwrap_or(own)];
            let holder = probe::holder(ip, interface, *address, &known).await;
            if let Some(mac) = &holder {
                self.note(Some(format!(
                    "{mac} has {ip}, which is in the range of DHCP on {interface}: it is left alone"
                )));
            }
            match self.decide(asked, Some((ip, holder.is_some()))) {
                Some(Verdict::Probe(next)) => probe = next,
                Some(verdict) => return self.carry_out(asked, verdict).await,
                None => return,
            }
        }
        self.forget(asked);
    }

    /// Nobody looks at the address that is kept for a client: it is free again.
    fn forget(&self, asked: &Asked) {
        if let Some((lender, _)) = &self.shared.lending {
            let mut lender = lender.lock().unwrap_or_else(PoisonError::into_inner);
            lender.forget(asked.question.mac);
        }
    }

    fn another(&self) -> Self {
        Self {
            interface: self.interface.clone(),
            socket: Arc::clone(&self.socket),
            port: self.port,
            shared: Arc::clone(&self.shared),
            probes: Arc::clone(&self.probes),
            writes: Arc::clone(&self.writes),
            rival: self.rival,
        }
    }

    async fn carry_out(&self, asked: &Asked, verdict: Verdict) {
        match verdict {
            Verdict::Answer(answer, line) => self.send(asked, &answer, None, &line).await,
            Verdict::Kept(answer, line) => {
                self.keep().await;
                self.send(asked, &answer, None, &line).await;
            }
            Verdict::Changed(line) => {
                self.note(Some(line));
                self.keep().await;
            }
            Verdict::Nothing(line) => self.note(line),
            Verdict::Probe(_) | Verdict::Rival(_) => {}
        }
    }

    /// Waits until what is lent now is on the disk: an address must not be forgotten that a client has (RFC 2131 3.1).
    async fn keep(&self) {
        let Some((lender, store)) = &self.shared.lending else {
            return;
        };
        let written = {
            let lender = lender.lock().unwrap_or_else(PoisonError::into_inner);
            store.hand_in(lender.text())
        };
        // The keeper notes what it cannot write.
        let _ = written.await;
    }

    async fn send(&self, asked: &Asked, answer: &Answer, to: Option<SocketAddrV4>, line: &str) {
        let question = &asked.question;
        if let (Some(ip), Client::Boots(_)) = (
            to.map_or_else(|| answer.given(), |to| Some(*to.ip())),
            Client::of(question),
        ) {
            (self.shared.heard)(ip, question.mac, question.uuid());
        }
        let to = to.unwrap_or_else(|| answer.to());
        let sent = match answer.bytes() {
            Ok(bytes) => {
                let sent = self.socket.send(&bytes, to, asked.here.address).await;
                sent.map_err(anyhow::Error::from)
            }
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => (self.shared.journal)(line),
            Err(error) => {
                (self.shared.journal)(&format!("{line}: sending it to {to} failed: {error:#}"));
            }
        }
    }

    fn note(&self, line: Option<String>) {
        if let Some(line) = line {
            (self.shared.journal)(&line);
        }
    }

    /// Told once: every machine that takes another server's offer says so to everybody.
    fn note_rival(&mut self, server: Ipv4Addr) {
        if self.rival != Some(server) {
            self.rival = Some(server);
            self.note(Some(format!(
                "{server} DHCP on {}: another server gives addresses, too: switch one of the two off",
                self.interface
            )));
        }
    }
}

/// Of several networks on one wire that of the machine which asks: this computer's address there.
fn near(addresses: &[Ipv4Net], fleet: &Fleet, question: &Question) -> Option<Ipv4Addr> {
    let machine = boot::machine(Some(fleet), question)?;
    let network = fleet.network_of(machine.ip?)?;
    let is_there = |ip: &Ipv4Addr| fleet.network_of(IpAddr::V4(*ip)) == Some(network);
    addresses.iter().map(Ipv4Net::addr).find(is_there)
}

#[cfg(test)]
mod tests;
