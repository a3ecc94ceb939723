mod faults;

use super::*;
use crate::message::{Complaint, Fault, Source, Standing, VERSION};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;

const SECRET: [u8; 32] = [7; 32];
const TOTAL: u64 = 1000;
const CHUNK: u64 = 1 << 20;

#[test]
fn names_make_no_chain_and_digests_do() {
    let mut coordinator = Coordinator::new(1, SECRET);
    let mut join = |number: u8, image: &str, content: &[u8]| {
        let machine = Machine {
            number,
            source: None,
            done: 0,
            standing: None,
            complaints: Vec::new(),
            behind: false,
            in_vain: 0,
        };
        let report = Report {
            image: image.into(),
            digest: blake3::hash(content).to_hex().to_string(),
            ..report(&machine, Stage::Working)
        };
        let now = Duration::from_secs(1);
        let (answer, notices) = coordinator.report(now, at(number).ip(), &report).unwrap();
        (answer.key, answer.standing.unwrap().source, notices)
    };
    let (key, source, _) = join(1, "/share/golden/sda.raw.gz", b"x");
    assert_eq!(source, Source::Server);
    let (same, source, notices) = join(2, "/share/lab3/nvme0n1.raw.gz", b"x");
    assert_eq!((same == key, source), (true, Source::Peer(at(1))));
    // Told under the name that the machine itself knows.
    assert_eq!(notices[0].image, "/share/lab3/nvme0n1.raw.gz");
    let (other, source, _) = join(3, "/share/golden/sda.raw.gz", b"y");
    assert_eq!((other == key, source), (false, Source::Server));
}

/// Else the second site would have an image over its thin line that its own mirror has.
#[test]
fn machines_with_mirrors_of_their_own_are_a_chain_of_their_own() {
    let mut coordinator = Coordinator::new(1, SECRET);
    let mut join = |number: u8, mirrors: Option<&str>| {
        let mut room = Room::new(0);
        room.join(number);
        let hash = |name: &str| blake3::hash(name.as_bytes()).to_hex().to_string();
        let report = Report {
            mirrors: mirrors.map(hash),
            ..report(room.machine(number), Stage::Working)
        };
        let now = Duration::from_secs(1);
        let (answer, _) = coordinator.report(now, at(number).ip(), &report).unwrap();
        (answer.standing.unwrap().source, answer.key)
    };
    let (first, key) = join(1, None);
    let (site, other) = join(2, Some("http://site2:8080"));
    assert_eq!((first, site), (Source::Server, Source::Server));
    assert_ne!(key, other, "one chain's proof is none in another");
    assert_eq!(join(3, None), (Source::Peer(at(1)), key));
    let (behind, same) = join(4, Some("http://site2:8080"));
    assert_eq!((behind, same), (Source::Peer(at(2)), other));
    assert_eq!(join(5, Some("http://site3:8080")).0, Source::Server);
}

#[test]
fn who_makes_machines_up_does_not_keep_others_out() {
    let mut coordinator = Coordinator::new(1, SECRET);
    let now = Duration::from_secs(1);
    let mut join = |from: u8, image: u32, node: u32| {
        let machine = Machine {
            number: 1,
            source: None,
            done: 0,
            standing: None,
            complaints: Vec::new(),
            behind: false,
            in_vain: 0,
        };
        let report = Report {
            digest: blake3::hash(&image.to_le_bytes()).to_hex().to_string(),
            node: format!("{node:032x}"),
            ..report(&machine, Stage::Working)
        };
        coordinator.report(now, at(from).ip(), &report).is_ok()
    };
    let images = (0..300).filter(|image| join(1, *image, *image)).count();
    assert_eq!(images, MOST_SESSIONS / 2);
    assert!(join(2, 1000, 1), "another machine, another image");
    let machines = (0..2500)
        .filter(|node| join(1, node % 100, 10_000 + node))
        .count();
    assert_eq!(machines, MOST_MEMBERS / 2 - MOST_SESSIONS / 2);
    assert!(join(2, 1, 2), "another machine, the same image");
    assert!(join(1, 0, 10_000), "who is known is heard");
}

/// A whole building begins at once, each machine speaks often, and one in the middle is switched off.
#[test]
fn two_thousand_machines_are_planned_without_a_look_at_all_for_each() {
    let mut coordinator = Coordinator::new(1, SECRET);
    let ip = |node: u32| {
        IpAddr::from([
            10,
            0,
            u8::try_from(node >> 8).unwrap(),
            u8::try_from(node & 255).unwrap(),
        ])
    };
    let mut sources = vec![None; 2000];
    let worked = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        Duration::from(time.unwrap())
    };
    let before = worked();
    let mut now = Duration::from_secs(1);
    for round in 0..3 {
        for node in 0..2000u32 {
            if round > 0 && node == 1000 {
                continue;
            }
            now += Duration::from_millis(1);
            let machine = Machine {
                number: 1,
                source: sources[node as usize],
                done: 0,
                standing: None,
                complaints: Vec::new(),
                behind: false,
                in_vain: 0,
            };
            let report = Report {
                node: format!("{node:032x}"),
                ..report(&machine, Stage::Working)
            };
            let (answer, _) = coordinator.report(now, ip(node), &report).unwrap();
            sources[node as usize] = answer.standing.map(|it| it.source);
        }
        now += Duration::from_secs(55);
    }
    let heads = sources.iter().filter(|it| **it == Some(Source::Server));
    assert_eq!(heads.count(), 1);
    let orphan = sources[1001];
    let taken_on = SocketAddr::new(ip(999), 4000);
    assert_eq!(orphan, Some(Source::Peer(taken_on)));
    // A look at all for each took minutes of a processor, whatever else that had to do.
    let took = worked().saturating_sub(before);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// A machine as the coordinator sees it.
#[derive(Debug, Clone)]
struct Machine {
    number: u8,
    source: Option<Source>,
    done: u64,
    standing: Option<Standing>,
    complaints: Vec<Complaint>,
    behind: bool,
    /// Bytes that came, by its word, and made no chunk.
    in_vain: u64,
}

/// A server and machines at one time.
struct Room {
    coordinator: Coordinator,
    now: Duration,
    machines: Vec<Machine>,
    notices: Vec<Notice>,
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4000))
}

fn report(machine: &Machine, stage: Stage) -> Report {
    Report {
        version: VERSION,
        image: "/share/golden/sda.raw.gz".into(),
        digest: blake3::hash(b"x").to_hex().to_string(),
        node: format!("{:032x}", machine.number),
        port: 4000,
        tls: false,
        mirrors: None,
        stage,
        partial: false,
        chunks: TOTAL,
        done: machine.done,
        received: machine.done * CHUNK + machine.in_vain,
        sent: 0,
        largest: CHUNK,
        behind: machine.behind,
        source: machine.source,
        complaints: machine.complaints.clone(),
    }
}

impl Room {
    fn new(machines: u8) -> Self {
        let mut room = Self {
            coordinator: Coordinator::new(1, SECRET),
            now: Duration::from_secs(100),
            machines: Vec::new(),
            notices: Vec::new(),
        };
        for number in 1..=machines {
            room.join(number);
        }
        room
    }

    fn join(&mut self, number: u8) {
        self.machines.push(Machine {
            number,
            source: None,
            done: 0,
            standing: None,
            complaints: Vec::new(),
            behind: false,
            in_vain: 0,
        });
        self.beat(number);
    }

    fn machine(&mut self, number: u8) -> &mut Machine {
        let mut machines = self.machines.iter_mut();
        machines.find(|it| it.number == number).unwrap()
    }

    fn beat(&mut self, number: u8) -> Standing {
        let (coordinator, now) = (&mut self.coordinator, self.now);
        let mut machines = self.machines.iter_mut();
        let machine = machines.find(|it| it.number == number).unwrap();
        let stage = if machine.done >= TOTAL {
            Stage::Done
        } else {
            Stage::Working
        };
        let word = report(machine, stage);
        let (answer, notices) = coordinator.report(now, at(number).ip(), &word).unwrap();
        self.notices.extend(notices);
        let standing = answer.standing.unwrap();
        machine.source = Some(standing.source);
        machine.complaints.clear();
        machine.standing = Some(standing.clone());
        standing
    }

    /// Half a second in which all get 6 chunks, but 2 those who have them through one of whom `slow` is true.
    fn pass_through(&mut self, slow: impl Fn(u8) -> bool) {
        let sources = self.sources();
        let above = |number: u8| {
            let found = sources.iter().find(|(it, _)| *it == number);
            found.map(|(_, from)| *from).filter(|from| *from > 0)
        };
        self.pass(|number| {
            let way = std::iter::successors(Some(number), |at| above(*at));
            if way.take(sources.len()).any(&slow) {
                2
            } else {
                6
            }
        });
    }

    /// Half a second in which each machine gets `chunks(number)` more.
    fn pass(&mut self, chunks: impl Fn(u8) -> u64) {
        self.now += BEAT;
        let numbers: Vec<u8> = self.machines.iter().map(|it| it.number).collect();
        for number in numbers {
            let machine = self.machine(number);
            machine.done = (machine.done + chunks(number)).min(TOTAL);
            self.beat(number);
        }
    }

    fn gone(&mut self, number: u8) {
        self.machines.retain(|it| it.number != number);
    }

    fn complains(&mut self, number: u8, about: u8, fault: Fault) -> Standing {
        let machine = self.machine(number);
        machine.complaints.push(Complaint {
            about: at(about),
            fault,
        });
        let grandparent = machine.standing.as_ref().and_then(|it| it.grandparent);
        machine.source = grandparent.map(Source::Peer);
        self.beat(number)
    }

    /// From whom each gets its chunks: `0` is the server.
    fn sources(&self) -> Vec<(u8, u8)> {
        let source = |machine: &Machine| match machine.source {
            Some(Source::Peer(SocketAddr::V4(address))) => address.ip().octets()[3],
            _ => 0,
        };
        self.machines
            .iter()
            .map(|it| (it.number, source(it)))
            .collect()
    }

    fn told(&self, number: u8, what: &str) -> bool {
        self.notices
            .iter()
            .any(|notice| notice.about == at(number).ip() && notice.to_string().contains(what))
    }
}

#[test]
fn machines_make_a_chain_and_know_their_grandparents() {
    let room = Room::new(4);
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 2), (4, 3)]);
    let last = room.machines[3].standing.clone().unwrap();
    assert_eq!(last.grandparent, Some(at(2)));
    assert!(
        room.machines[1]
            .standing
            .clone()
            .unwrap()
            .grandparent
            .is_none()
    );
}

#[test]
fn two_chains_are_alike_in_length() {
    let mut room = Room::new(0);
    room.coordinator = Coordinator::new(2, SECRET);
    for number in 1..=6 {
        room.join(number);
    }
    let heads = room.sources().iter().filter(|(_, from)| *from == 0).count();
    assert_eq!(heads, 2);
    let deepest: Vec<(u8, u8)> = room.sources();
    assert_eq!(deepest, [(1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 4)]);
}

#[test]
fn the_child_of_a_machine_that_crashed_goes_to_its_grandparent() {
    let mut room = Room::new(5);
    room.gone(3);
    let standing = room.complains(4, 3, Fault::Silent);
    assert_eq!(standing.source, Source::Peer(at(2)));
    for _ in 0..12 {
        room.pass(|_| 10);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 1), (4, 2), (5, 4)]);
    assert!(room.told(3, "nothing more") && room.told(3, "says nothing any more"));
    // Its child never spoke of the head: the server finds out.
    room.gone(1);
    for _ in 0..12 {
        room.pass(|_| 10);
    }
    assert_eq!(room.sources(), [(2, 0), (4, 2), (5, 4)]);
}

/// As where many share the cores of one computer: each gets nothing now and then, in turn, and has caught up soon after.
/// Words come when they come: who spoke a while ago is compared by what came until then.
#[test]
fn a_late_joiner_is_at_the_end_even_when_the_first_are_done() {
    let mut room = Room::new(3);
    room.machine(1).done = TOTAL;
    room.pass(|_| 1);
    room.join(4);
    assert_eq!(room.machine(4).source, Some(Source::Peer(at(3))));
    // Nobody is left who waits: the next one begins anew.
    for number in 1..=4 {
        room.machine(number).done = TOTAL;
    }
    room.pass(|_| 0);
    room.pass(|_| 0);
    assert!(
        room.machines
            .iter()
            .all(|it| it.standing.as_ref().unwrap().leave)
    );
    room.join(5);
    assert_eq!(room.machine(5).source, Some(Source::Server));
}

#[test]
fn who_has_all_stays_while_its_child_has_not() {
    let mut room = Room::new(2);
    room.machine(2).done = TOTAL - 3;
    room.machine(1).done = TOTAL;
    room.beat(2);
    assert!(!room.beat(1).leave);
    room.machine(2).done = TOTAL;
    room.beat(2);
    assert!(room.beat(1).leave && room.beat(2).leave);
}

#[test]
fn who_has_all_is_not_kept_by_those_who_are_slow_or_late() {
    let mut room = Room::new(3);
    room.machine(1).done = TOTAL;
    room.pass(|_| 1);
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 2)]);
    assert!(!room.beat(1).leave);
    for _ in 0..7 {
        room.pass(|_| 1);
    }
    // After a while one goes on from the server, the other behind it.
    assert_eq!(room.sources(), [(1, 0), (2, 0), (3, 2)]);
    assert!(room.beat(1).leave);
}

#[test]
fn a_server_that_starts_anew_finds_the_chain_as_it_was() {
    for order in [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]] {
        let mut room = Room::new(4);
        room.pass(|_| 10);
        let before = room.sources();
        let key = |room: &mut Room| {
            let word = report(&room.machines[0], Stage::Looking);
            let (now, from) = (room.now, at(1).ip());
            room.coordinator.report(now, from, &word).unwrap().0.key
        };
        let old = key(&mut room);
        room.coordinator = Coordinator::new(1, SECRET);
        room.now = Duration::ZERO;
        assert_eq!(key(&mut room), old);
        for _ in 0..8 {
            room.now += BEAT;
            for number in order {
                room.machine(number).done += 10;
                room.beat(number);
                assert_eq!(room.sources(), before, "{order:?}");
            }
        }
        room.join(5);
        assert_eq!(room.machine(5).source, Some(Source::Peer(at(4))));
    }
}

#[test]
fn one_chain_too_many_is_joined_to_the_other() {
    let mut room = Room::new(3);
    let mut alone = Room::new(0);
    alone.join(9);
    // Two that did not know of each other, as after a start of the server.
    room.machines.extend(alone.machines);
    room.pass(|_| 10);
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 2), (9, 3)]);
}

/// Whoever is on the network may say so.
#[test]
fn any_number_is_heard_in_any_order_without_a_panic() {
    let mut room = Room::new(3);
    let most = u64::MAX;
    for (step, received) in (0..).zip([0, 1, most, most, 5, 6, most, most]) {
        for number in 1..=3 {
            for late in [0, 300, 0] {
                let word = Report {
                    received: if number == 3 { 0 } else { received },
                    ..report(room.machine(number), Stage::Working)
                };
                let now = Duration::from_millis(100_000 + 500 * step - late);
                let heard = room.coordinator.report(now, at(number).ip(), &word);
                assert!(heard.is_ok());
            }
        }
    }
}

#[test]
fn nobody_speaks_for_another_and_no_server_plans_without_end() {
    let mut room = Room::new(2);
    let word = report(&room.machines[0], Stage::Working);
    let refused = room.coordinator.report(room.now, at(2).ip(), &word);
    assert_eq!(refused.err(), Some(Refused::NotYours));
    let left = report(&room.machines[0], Stage::Left);
    room.coordinator
        .report(room.now, at(2).ip(), &left)
        .unwrap();
    room.beat(2);
    assert_eq!(room.machine(2).source, Some(Source::Peer(at(1))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever machines do and say: nobody is its own ancestor, and all who live have somebody to get it from.
    #[test]
    fn any_order_of_events_leaves_a_forest(
        acts in prop::collection::vec((0u8..6, 1u8..9, 1u8..9), 1..80),
    ) {
        let mut room = Room::new(0);
        for (act, who, about) in acts {
            let is_here = room.machines.iter().any(|it| it.number == who);
            match act {
                0 | 1 if !is_here => room.join(who),
                2 if is_here => room.gone(who),
                3 if is_here => { room.complains(who, about, Fault::Wrong); }
                4 if is_here => { room.complains(who, about, Fault::Silent); }
                5 if is_here => {
                    room.machine(who).done = TOTAL;
                    room.beat(who);
                }
                _ => room.pass(|number| u64::from(number * who % 7)),
            }
        }
        // Those who are gone are forgotten, and what was said is settled.
        for _ in 0..14 {
            room.pass(|_| 0);
        }
        let sources = room.sources();
        for (number, _) in &sources {
            if room.machines.iter().any(|it| it.number == *number && it.done >= TOTAL) {
                continue;
            }
            let mut at = *number;
            for _ in 0..=sources.len() {
                if at == 0 {
                    break;
                }
                let found = sources.iter().find(|(it, _)| *it == at);
                prop_assert!(found.is_some(), "{} hangs on {}, who is gone: {:?}", number, at, sources);
                let done = room.machines.iter().any(|it| it.number == at && it.done >= TOTAL);
                at = if done { 0 } else { found.unwrap().1 };
            }
            prop_assert_eq!(at, 0, "{:?}", sources);
        }
    }
}

/// Two machines each of four networks, in turn: the chain goes into each network once, also when one comes later.
#[test]
fn a_chain_goes_into_each_network_once() {
    let mut coordinator = Coordinator::new(1, SECRET);
    let ip = |network: u8, host: u8| IpAddr::from([10, 1, network, host]);
    let mut sources = std::collections::BTreeMap::new();
    for round in 0..3u64 {
        for host in 1..=4 {
            for network in 0..4 {
                let from = ip(network, host);
                let machine = Machine {
                    number: 1,
                    source: sources.get(&from).copied(),
                    done: round,
                    standing: None,
                    complaints: Vec::new(),
                    behind: false,
                    in_vain: 0,
                };
                let report = Report {
                    node: format!("{:032x}", u32::from(network) * 256 + u32::from(host)),
                    ..report(&machine, Stage::Working)
                };
                let now = Duration::from_secs(round + 1);
                let (answer, _) = coordinator.report(now, from, &report).unwrap();
                sources.insert(from, answer.standing.unwrap().source);
            }
        }
    }
    let crossings = sources.iter().filter(|(to, from)| match (to, from) {
        (IpAddr::V4(to), Source::Peer(SocketAddr::V4(from))) => {
            to.octets()[2] != from.ip().octets()[2]
        }
        _ => false,
    });
    assert_eq!(crossings.count(), 3, "{sources:?}");
}
