//! A room of machines in a model of time and links: what the plan and the manners of machines make of a crash, a slow line, a
//! liar, or a thousand machines. [`Coordinator`], [`Shelf`], [`Ticket`], `hearing`, `serving` and `manners` are those of the
//! program; bytes, sockets, disks and clocks are not. Times are of the model, and each run with the same wishes is the same.

mod links;
mod peers;
mod tests;
mod wishes;

use crate::coordinator::{Coordinator, Notice};
use crate::hearing::Hearing;
use crate::manners::{self, Stay};
use crate::message::{Fault, Report, Stage, VERSION};
use crate::serving::Serving;
use crate::shelf::Shelf;
use crate::ticket::Ticket;
use links::{LineId, Links};
use pitstop_imaging::image::{Chunk, Known};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;
use wishes::{Crash, Lie, Wish, Wishes};

const PORT: u16 = 4000;
/// As `retry-for` is by default in this model.
const PATIENCE: Duration = Duration::from_secs(60);
/// The server's clock when the first one joins.
const BEGAN: Duration = Duration::from_secs(100);

/// How it ended.
pub struct Outcome {
    /// From when it joined until it had all.
    pub took: Vec<Option<Duration>>,
    /// Hundredths of an image that left the server.
    pub from_server: u64,
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Joins(usize),
    Crashes(usize),
    Server(bool),
    /// The machine's word, unless a later one was set.
    Beat(usize, u64),
    Turn(usize),
    Meet(usize),
    Pump(usize),
    Arrive(usize, u64),
    Last(usize, bool),
    Sign(usize),
    Listen(usize),
    Proven {
        machine: usize,
        chunk: u64,
        from: Option<usize>,
    },
    Stay(usize),
}

struct Machine {
    wish: Wish,
    shelf: Shelf,
    ticket: Ticket,
    up: LineId,
    down: LineId,
    /// Proves and writes.
    hand: LineId,
    is_here: bool,
    beats: u64,
    flow: Option<usize>,
    /// To its children.
    flows: Vec<usize>,
    without: Duration,
    received: u64,
    sent: u64,
    done: Option<Duration>,
    stay: Option<Stay>,
}

/// From a parent, or the server, to a child.
struct Flow {
    child: usize,
    from: Option<usize>,
    generation: u64,
    leaf: bool,
    is_open: bool,
    serving: Option<Serving>,
    hearing: Option<Hearing>,
    on_their_way: u32,
    /// The last word, which comes behind all members: whether that is all.
    last: Option<bool>,
    busy: bool,
}

pub struct Room {
    wishes: Wishes,
    coordinator: Coordinator,
    server_is_here: bool,
    server: LineId,
    /// Up and down for each rack.
    racks: Vec<[LineId; 2]>,
    cores: Option<LineId>,
    links: Links,
    machines: Vec<Machine>,
    flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Duration, u64, What)>>,
    counter: u64,
    now: Duration,
    dice: fastrand::Rng,
    /// Members that left the server.
    server_sent: u64,
    notices: Vec<Notice>,
}

fn address(machine: usize, rack: u8) -> SocketAddr {
    let [high, low] = u16::try_from(machine).unwrap().to_be_bytes();
    // A network each for racks, as far as the plan can see; of one rack, machines are in one.
    if rack == 0 {
        SocketAddr::from(([10, 0, high, low], PORT))
    } else {
        SocketAddr::from(([10, rack, 0, low.wrapping_add(high.wrapping_mul(97))], PORT))
    }
}

impl Room {
    pub fn run(wishes: Wishes) -> Outcome {
        let mut room = Self::new(wishes);
        while let Some(Reverse((now, _, what))) = room.events.pop() {
            room.now = now;
            room.happens(&what);
        }
        let images = room.server_sent * 100 / room.wishes.chunks;
        Outcome {
            took: room
                .machines
                .iter()
                .map(|it| it.done.and_then(|done| done.checked_sub(it.wish.joins)))
                .collect(),
            from_server: images,
            notices: room.notices,
        }
    }

    fn new(wishes: Wishes) -> Self {
        let mut links = Links::default();
        let racks = wishes.machines.iter().map(|it| it.rack).max().unwrap_or(0);
        let mut room = Self {
            coordinator: Coordinator::new(wishes.chains, [7; 32]),
            server_is_here: true,
            server: links.add(wishes.server),
            racks: (0..=racks)
                .map(|_| [links.add(wishes.uplink), links.add(wishes.uplink)])
                .collect(),
            cores: wishes.cores.map(|rate| links.add(rate)),
            links,
            machines: Vec::new(),
            flows: Vec::new(),
            events: BinaryHeap::new(),
            counter: 0,
            now: Duration::ZERO,
            dice: fastrand::Rng::with_seed(wishes.seed),
            server_sent: 0,
            notices: Vec::new(),
            wishes,
        };
        for wish in room.wishes.machines.clone() {
            room.add(wish);
        }
        if let Some((from, to)) = room.wishes.away {
            room.at(from, What::Server(false));
            room.at(to, What::Server(true));
        }
        room
    }

    fn add(&mut self, wish: Wish) {
        let known: Vec<Known> = (0..self.wishes.chunks)
            .map(|number| Known {
                chunk: Chunk {
                    number,
                    offset: 0,
                    size: 1,
                    hash: [0; 32],
                },
                there: false,
            })
            .collect();
        let machine = self.machines.len();
        self.at(wish.joins, What::Joins(machine));
        if let Some(Crash::Dies(then) | Crash::IsSwitchedOff(then)) = wish.crashes {
            self.at(then, What::Crashes(machine));
        }
        // Members are of one byte here, and the window holds what 64 MiB would.
        let window = usize::try_from((64 << 20) / self.wishes.member).unwrap();
        self.machines.push(Machine {
            shelf: Shelf::new(self.wishes.chunks, &known, window),
            ticket: Ticket::new(),
            up: self.links.add(wish.rate),
            down: self.links.add(wish.rate),
            hand: self.links.add(500 << 20),
            is_here: false,
            beats: 0,
            flow: None,
            flows: Vec::new(),
            without: Duration::ZERO,
            received: 0,
            sent: 0,
            done: None,
            stay: None,
            wish,
        });
    }

    fn at(&mut self, then: Duration, what: What) {
        self.counter += 1;
        self.events.push(Reverse((then, self.counter, what)));
    }

    fn soon(&mut self, wait: Duration, what: What) {
        self.at(self.now + wait, what);
    }

    fn happens(&mut self, what: &What) {
        match *what {
            What::Joins(machine) => {
                self.machines[machine].is_here = true;
                self.machines[machine].without = self.now;
                self.speaks(machine);
            }
            What::Crashes(machine) => self.machines[machine].is_here = false,
            What::Server(is_here) => {
                self.server_is_here = is_here;
                if is_here {
                    self.coordinator = Coordinator::new(self.wishes.chains, [7; 32]);
                }
            }
            What::Beat(machine, number) if self.machines[machine].beats == number => {
                self.beat(machine);
            }
            What::Beat(..) => {}
            What::Turn(machine) => self.turn(machine),
            What::Meet(flow) => self.meet(flow),
            What::Pump(flow) => self.pump(flow),
            What::Arrive(flow, chunk) => self.arrive(flow, chunk),
            What::Last(flow, all) => self.last(flow, all),
            What::Sign(flow) => self.sign(flow),
            What::Listen(flow) => self.listen(flow),
            What::Proven {
                machine,
                chunk,
                from,
            } => self.prove(machine, chunk, from),
            What::Stay(machine) => self.stay(machine),
        }
    }

    fn address(&self, machine: usize) -> SocketAddr {
        address(machine, self.machines[machine].wish.rack)
    }

    /// Has a machine report now.
    fn speaks(&mut self, machine: usize) {
        self.next_beat(machine, Duration::ZERO);
    }

    fn next_beat(&mut self, machine: usize, wait: Duration) {
        self.machines[machine].beats += 1;
        let number = self.machines[machine].beats;
        self.soon(wait, What::Beat(machine, number));
    }

    fn report(&self, machine: usize, stage: Stage) -> Report {
        let it = &self.machines[machine];
        let said = it.ticket.say();
        let (chunks, left) = it.shelf.progress();
        let claims = it.wish.lies == Some(Lie::Claims);
        let honest = it.received;
        let here = self.now.saturating_sub(it.wish.joins);
        let line = it.wish.rate * u64::try_from(here.as_millis()).unwrap() / 1000;
        Report {
            version: VERSION,
            image: "/share/golden/sda.raw.gz".into(),
            digest: blake3::hash(b"x").to_hex().to_string(),
            node: format!("{machine:032x}"),
            port: PORT,
            tls: false,
            mirrors: None,
            stage,
            partial: false,
            chunks,
            done: if claims { 0 } else { chunks - left },
            received: if claims { line } else { honest },
            sent: it.sent,
            largest: self.wishes.member,
            behind: false,
            source: said.source,
            complaints: said.complaints,
        }
    }

    fn beat(&mut self, machine: usize) {
        let it = &self.machines[machine];
        if !it.is_here {
            return;
        }
        let stage = if it.shelf.is_complete() {
            Stage::Done
        } else {
            Stage::Working
        };
        if !self.server_is_here {
            self.next_beat(machine, manners::AWAY);
            self.turn(machine);
            return;
        }
        let said = it.ticket.say();
        let report = self.report(machine, stage);
        let from = self.address(machine).ip();
        let heard = self
            .coordinator
            .report(BEGAN + self.now, from, &report)
            .unwrap();
        self.notices.extend(heard.1);
        let answer = heard.0;
        self.machines[machine]
            .ticket
            .heard(&said, answer.standing.as_ref());
        let beat = Duration::from_millis(answer.beat_ms);
        let wait = manners::silent_for(beat, stage, self.children(machine));
        self.next_beat(machine, wait);
        self.turn(machine);
    }

    fn children(&self, machine: usize) -> usize {
        let flows = self.machines[machine].flows.iter();
        flows
            .filter(|flow| self.flows[**flow].serving.is_some())
            .count()
    }

    fn leave(&mut self, machine: usize) {
        if self.server_is_here {
            let left = self.report(machine, Stage::Left);
            let from = self.address(machine).ip();
            let told = self.coordinator.report(BEGAN + self.now, from, &left);
            self.notices.extend(told.unwrap().1);
        }
        self.machines[machine].is_here = false;
    }

    fn stay(&mut self, machine: usize) {
        let children = self.children(machine);
        let now = self.now;
        let it = &mut self.machines[machine];
        if !it.is_here {
            return;
        }
        let may_leave = it.ticket.may_leave();
        let stay = it.stay.get_or_insert_with(|| Stay::new(now));
        if stay.is_over(now, children, may_leave) {
            self.leave(machine);
        } else {
            self.soon(Duration::from_millis(20), What::Stay(machine));
        }
    }

    fn blames(&mut self, machine: usize, peer: usize, fault: Fault) {
        self.close(machine);
        let peer = self.address(peer);
        self.machines[machine].ticket.complain(peer, fault);
        self.speaks(machine);
        self.turn(machine);
    }

    fn close(&mut self, machine: usize) {
        if let Some(flow) = self.machines[machine].flow.take() {
            self.flows[flow].is_open = false;
            self.flows[flow].serving = None;
            self.flows[flow].hearing = None;
            if let Some(from) = self.flows[flow].from {
                self.machines[from].flows.retain(|it| *it != flow);
            }
        }
    }
}
