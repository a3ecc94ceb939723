use super::*;
use crate::coordinator::Happened;

const MEMBER: u64 = 1 << 20;
const LINE: u64 = 100_000_000 / 8;

fn wish(rate: u64) -> Wish {
    Wish {
        rate,
        joins: Duration::ZERO,
        rack: 0,
        crashes: None,
        lies: None,
    }
}

/// So many machines on lines of 100 Mbit/s, as `bench/many` has them.
fn room(machines: usize) -> Wishes {
    let machines = (0..machines).map(|number| Wish {
        joins: Duration::from_millis(30) * u32::try_from(number).unwrap(),
        ..wish(LINE)
    });
    Wishes {
        machines: machines.collect(),
        chunks: 100,
        member: MEMBER,
        server: LINE,
        uplink: LINE * 1000,
        chains: 1,
        cores: None,
        away: None,
        stalls: 0,
        seed: 1,
    }
}

/// Seconds until the last one of those that count has all.
fn slowest(outcome: &Outcome, but: &[usize]) -> f64 {
    let took = outcome.took.iter().enumerate();
    took.filter(|(number, _)| !but.contains(number))
        .map(|(number, took)| {
            took.unwrap_or_else(|| panic!("machine {number} has not all: {:?}", outcome.notices))
                .as_secs_f64()
        })
        .fold(0.0, f64::max)
}

fn one() -> f64 {
    slowest(&Room::run(room(1)), &[])
}

fn nobody_is_told_of(outcome: &Outcome) {
    let news = |it: &&Notice| !matches!(it.what, Happened::Joined | Happened::Done { .. });
    let told: Vec<&Notice> = outcome.notices.iter().filter(news).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn eight_take_about_as_long_as_one() {
    let outcome = Room::run(room(8));
    let ratio = slowest(&outcome, &[]) / one();
    assert!(ratio < 1.10, "{ratio}");
    assert!(outcome.from_server < 105, "{}", outcome.from_server);
    nobody_is_told_of(&outcome);
}

#[test]
fn a_room_whose_machines_stand_still_now_and_then_has_no_slow_ones() {
    for seed in 0..4 {
        let stalls = Wishes {
            stalls: 10,
            seed,
            ..room(16)
        };
        let outcome = Room::run(stalls);
        nobody_is_told_of(&outcome);
        assert!(outcome.from_server < 105, "{}", outcome.from_server);
    }
}

#[test]
fn one_that_crashes_half_way_costs_the_others_what_it_takes_to_notice() {
    let then = Duration::from_secs(4);
    for (crash, at_most) in [(Crash::Dies(then), 1.2), (Crash::IsSwitchedOff(then), 1.55)] {
        let mut wishes = room(8);
        wishes.machines[2].crashes = Some(crash);
        let outcome = Room::run(wishes);
        let ratio = slowest(&outcome, &[2]) / one();
        assert!(ratio < at_most, "{crash:?}: {ratio}");
        assert!(outcome.from_server < 110, "{}", outcome.from_server);
    }
}

#[test]
fn one_that_is_slow_in_the_middle_holds_up_the_others_for_two_seconds() {
    let mut wishes = room(8);
    wishes.machines[2].rate = LINE * 32 / 100;
    let outcome = Room::run(wishes);
    let ratio = slowest(&outcome, &[2]) / one();
    assert!(ratio < 1.3, "{ratio}");
    assert!(outcome.from_server < 180, "{}", outcome.from_server);
    let third = address(2, 0).ip();
    let slow = outcome
        .notices
        .iter()
        .filter(|it| it.what == Happened::Slow);
    assert!(slow.map(|it| it.about).eq([third]), "{:?}", outcome.notices);
}

#[test]
fn who_comes_late_has_all_in_the_time_of_one() {
    let mut wishes = room(8);
    wishes.machines[7].joins = Duration::from_secs(4);
    let outcome = Room::run(wishes);
    let ratio = slowest(&outcome, &[]) / one();
    assert!(ratio < 1.2, "{ratio}");
    assert!(outcome.from_server < 160, "{}", outcome.from_server);
}

#[test]
fn a_liar_is_named_and_the_others_lose_little() {
    for (lie, ratio_at_most) in [(Lie::FlipsBits, 1.2), (Lie::Claims, 1.3)] {
        let mut wishes = room(8);
        wishes.machines[2].lies = Some(lie);
        let outcome = Room::run(wishes);
        let ratio = slowest(&outcome, &[2]) / one();

        assert!(ratio < ratio_at_most, "{lie:?}: {ratio}");
        let third = address(2, 0).ip();
        let named = outcome.notices.iter().any(|it| {
            let named = matches!(it.what, Happened::Lied { .. } | Happened::Silent { .. });
            named && it.about == third
        });
        assert!(named, "{lie:?}: {:?}", outcome.notices);
    }
}

#[test]
fn a_server_that_is_away_for_ten_seconds_costs_ten_seconds() {
    let mut wishes = room(8);
    wishes.away = Some((Duration::from_secs(4), Duration::from_secs(14)));
    let outcome = Room::run(wishes);
    let took = slowest(&outcome, &[]);
    assert!(took < 1.2 * one() + 10.5, "{took}");
    assert!(outcome.from_server < 110, "{}", outcome.from_server);
}

#[test]
fn the_same_wishes_are_the_same_room() {
    let mut wishes = room(12);
    wishes.stalls = 20;
    wishes.machines[5].crashes = Some(Crash::Dies(Duration::from_secs(3)));
    let (first, second) = (Room::run(wishes.clone()), Room::run(wishes));
    assert_eq!(first.took, second.took);
    assert_eq!(first.notices, second.notices);
}

/// Ports of 1 Gbit/s in racks of 40 with uplinks of 10; the server has a port of 10 too.
fn building(machines: usize, chains: usize) -> Wishes {
    const GBE: u64 = 1_000_000_000 / 8;
    let machines = (0..machines).map(|number| Wish {
        rack: u8::try_from(1 + number / 40).unwrap(),
        joins: Duration::from_millis(20) * u32::try_from(number % 100).unwrap(),
        ..wish(GBE)
    });
    Wishes {
        machines: machines.collect(),
        chunks: 1000,
        server: GBE * 10,
        uplink: GBE * 10,
        chains,
        ..room(0)
    }
}

/// Prints rows for docs/benchmarks.md; bench/many calls it.
#[cfg(feature = "predictions")]
#[test]
fn predictions() {
    let alone = one();
    for machines in [1, 4, 8, 16] {
        print_row(&format!("{machines} at 100 Mbit/s"), room(machines), alone);
    }
    let alone = slowest(&Room::run(building(1, 1)), &[]);
    for machines in [40, 200, 1000] {
        for chains in [1, 8] {
            let what = format!("predicted: {machines}, `--chains {chains}`");
            print_row(&what, building(machines, chains), alone);
        }
    }
}

#[cfg(feature = "predictions")]
fn print_row(what: &str, wishes: Wishes, alone: f64) {
    let outcome = Room::run(wishes);
    let (took, images) = (slowest(&outcome, &[]), outcome.from_server);
    let ratio = took / alone;
    let (whole, part) = (images / 100, images % 100);
    println!("| {what} | {took:.1} s | {ratio:.2} | {whole}.{part:02} |");
}

/// A building whose racks are networks: each uplink carries the image in once, and out once.
#[test]
fn a_chain_through_racks_crosses_each_uplink_once() {
    let outcome = Room::run(Wishes {
        chunks: 300,
        ..building(80, 1)
    });
    let alone = Room::run(Wishes {
        chunks: 300,
        ..building(1, 1)
    });
    let ratio = slowest(&outcome, &[]) / slowest(&alone, &[]);
    assert!(ratio < 1.6, "{ratio}");
    assert_eq!(outcome.from_server, 100);
}
