use super::*;
use crate::message::{Complaint, Fault, Source, Standing, VERSION};
use proptest::prelude::*;

const SECRET: [u8; 32] = [7; 32];
const TOTAL: u64 = 1000;
const CHUNK: u64 = 1 << 20;

/// A machine as the coordinator sees it.
#[derive(Debug, Clone)]
struct Machine {
    number: u8,
    source: Option<Source>,
    done: u64,
    standing: Option<Standing>,
    complaints: Vec<Complaint>,
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
        stage,
        partial: false,
        chunks: TOTAL,
        done: machine.done,
        received: machine.done * CHUNK,
        sent: 0,
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

#[test]
fn a_slow_machine_in_the_middle_goes_to_the_end_and_one_at_the_end_stays() {
    let mut room = Room::new(5);
    for _ in 0..20 {
        room.pass_through(|number| number == 3);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 5), (4, 2), (5, 4)]);
    assert!(room.machine(3).standing.clone().unwrap().leaf);
    assert!(room.told(3, "slower"));
    // Who comes later is no child of it.
    room.join(6);
    assert_eq!(room.machine(6).source, Some(Source::Peer(at(5))));

    let mut room = Room::new(3);
    for _ in 0..20 {
        room.pass(|number| if number < 3 { 6 } else { 2 });
    }
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 2)]);
    assert!(!room.told(3, "slower"));
}

#[test]
fn a_machine_that_sends_slowly_is_found_by_its_second_slow_child() {
    let mut room = Room::new(5);
    // 2 gets fast and sends slowly: whoever has it from 2 is slow.
    for _ in 0..30 {
        let sources = room.sources();
        room.pass_through(|number| sources.contains(&(number, 2)));
    }
    let from_two = room.sources().iter().filter(|(_, from)| *from == 2).count();
    assert_eq!(from_two, 0, "{:?}", room.sources());
    assert!(room.told(2, "slower"));
}

#[test]
fn a_liar_gets_no_more_children_and_who_blames_all_is_the_one() {
    let mut room = Room::new(4);
    let standing = room.complains(3, 2, Fault::Wrong);
    assert_eq!(standing.source, Source::Peer(at(1)));
    room.pass(|_| 10);
    assert_eq!(room.sources(), [(1, 0), (2, 4), (3, 1), (4, 3)]);
    assert!(room.told(2, "lied to 10.0.0.3"));
    // It finds fault with the next one too.
    room.complains(3, 1, Fault::Wrong);
    room.pass(|_| 10);
    assert!(room.machine(3).standing.clone().unwrap().leaf);
    assert!(room.told(3, "found fault with two"));
    // And is believed no more.
    let before = room.notices.len();
    room.complains(3, 4, Fault::Wrong);
    assert_eq!(room.notices.len(), before);
}

#[test]
fn nobody_is_spoken_ill_of_by_strangers() {
    let mut room = Room::new(4);
    room.complains(4, 1, Fault::Wrong);
    room.pass(|_| 10);
    assert!(!room.machine(1).standing.clone().unwrap().leaf);
    assert!(!room.told(1, "lied to"));
}

#[test]
fn a_machine_that_hangs_and_lives_is_left_by_the_server_s_word() {
    let mut room = Room::new(4);
    // 2 takes, says that it lives, and gives nothing.
    for _ in 0..16 {
        room.pass(|number| match number {
            1 | 2 => 6,
            _ => 0,
        });
    }
    let sources = room.sources();
    let of = |number: u8| sources.iter().find(|(it, _)| *it == number).unwrap().1;
    assert_ne!(of(3), 2, "{sources:?}");
    assert!(room.told(2, "nothing more"));
}

#[test]
fn when_all_wait_for_the_server_nobody_is_blamed() {
    let mut room = Room::new(4);
    for _ in 0..40 {
        room.pass(|_| 0);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 2), (4, 3)]);
    assert!(room.notices.iter().all(|it| it.what == Happened::Joined));
}

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
    // One goes on from the server, the other behind it.
    assert_eq!(room.sources(), [(1, 0), (2, 0), (3, 2)]);
    assert!(room.beat(1).leave);
    // Who lacks only little is waited for, for a while.
    let mut room = Room::new(2);
    room.machine(1).done = TOTAL;
    room.machine(2).done = TOTAL - 20;
    room.pass(|_| 1);
    assert_eq!(room.sources(), [(1, 0), (2, 1)]);
    assert!(!room.beat(1).leave);
    for _ in 0..4 {
        room.pass(|_| 0);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 0)]);
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
