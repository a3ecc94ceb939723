//! Who is slow, silent, or lies.

use super::*;

#[test]
fn a_slow_machine_in_the_middle_goes_to_the_end_and_one_at_the_end_stays() {
    let mut room = Room::new(5);
    for _ in 0..20 {
        room.pass_through(|number| number == 3);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 1), (3, 5), (4, 2), (5, 4)]);
    assert!(room.machine(3).standing.clone().unwrap().leaf);
    assert!(room.told(3, "slower"));
    // Who comes later is no child of it, and another one that is slow is.
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
fn the_slow_stay_a_chain_of_their_own_and_nobody_before_them_is_called_slow() {
    let mut room = Room::new(9);
    for _ in 0..60 {
        room.pass(|number| if [3, 5, 7].contains(&number) { 2 } else { 6 });
    }
    let slow = [(3, 9), (5, 3), (7, 5)];
    assert!(
        slow.iter().all(|it| room.sources().contains(it)),
        "{:?}",
        room.sources()
    );
    assert!([3, 5, 7].iter().all(|number| room.told(*number, "slower")));
    assert!(!room.told(9, "slower"), "{:?}", room.notices);
}

#[test]
fn who_stands_still_for_a_moment_is_not_slow() {
    let mut room = Room::new(8);
    for time in 0..40u64 {
        room.pass(|number| match (time + u64::from(number)) % 4 {
            0 => 0,
            1 => 12,
            _ => 6,
        });
    }
    assert!(room.notices.iter().all(|it| it.what == Happened::Joined));
    assert_eq!(room.sources()[7], (8, 7));
}

#[test]
fn words_at_different_times_make_nobody_slow() {
    let mut room = Room::new(3);
    for time in 1..80u64 {
        room.now += Duration::from_millis(125);
        for number in 1..=3 {
            room.machine(number).done = time * 3 / 2;
        }
        // The first speaks every half second, the second late, now and then not at all.
        for (number, every) in [(1, 4), (2, 11), (3, 5)] {
            if time % every == 0 {
                room.beat(number);
            }
        }
    }
    assert!(room.notices.iter().all(|it| it.what == Happened::Joined));
}

#[test]
fn who_was_slow_for_a_while_and_keeps_up_again_passes_it_on_again() {
    let mut room = Room::new(4);
    for _ in 0..8 {
        room.pass_through(|number| number == 2);
    }
    assert_eq!(room.sources(), [(1, 0), (2, 4), (3, 1), (4, 3)]);
    assert!(room.machine(2).standing.clone().unwrap().leaf);
    for _ in 0..8 {
        room.pass(|_| 6);
    }
    assert!(!room.machine(2).standing.clone().unwrap().leaf);
    assert!(room.told(2, "keeps up"));
    room.join(5);
    assert_eq!(room.machine(5).source, Some(Source::Peer(at(2))));
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

/// As one that has no place for what it takes, and as one that says so to be left in peace.
#[test]
fn a_machine_that_takes_and_takes_and_has_no_more_of_it_is_left() {
    let mut room = Room::new(4);
    for _ in 0..4 {
        room.machine(2).in_vain += 6 * CHUNK;
        room.pass(|number| if number == 1 { 6 } else { 0 });
    }
    assert!(room.told(2, "nothing more"), "{:?}", room.notices);
    assert_eq!(room.sources()[2], (3, 1));
    // What waits for a disk that stands still is no such thing.
    let mut room = Room::new(4);
    room.machine(2).behind = true;
    for time in 0..20 {
        room.machine(2).in_vain = (6 * CHUNK * time).min(21 * CHUNK);
        room.pass(|number| if number == 1 { 6 } else { 0 });
    }
    assert!(!room.told(2, "nothing more"), "{:?}", room.notices);
}

#[test]
fn who_is_served_after_others_blames_nobody_for_that() {
    let mut room = Room::new(4);
    // 2 is the last one from now on, whom all others go before.
    room.complains(3, 2, Fault::Wrong);
    room.pass(|_| 10);
    room.join(5);
    let chain = [(1, 0), (2, 4), (3, 1), (4, 3), (5, 4)];
    assert_eq!(room.sources(), chain);
    // 5 came late: all that 4 can send goes to it.
    for _ in 0..12 {
        room.pass(|number| if number == 2 { 0 } else { 6 });
    }
    assert_eq!(room.sources(), chain);
    assert!(!room.told(4, "nothing more"));
    // Nobody goes before 2 any more.
    room.gone(5);
    for _ in 0..24 {
        room.pass(|number| if number == 2 { 0 } else { 6 });
    }
    assert!(room.told(4, "nothing more"));
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
fn a_machine_whose_own_disk_stands_still_blames_nobody() {
    let mut room = Room::new(4);
    for _ in 0..4 {
        room.pass(|_| 6);
    }
    // 3 takes nothing for three seconds: what came before is not on its disk yet.
    room.machine(3).behind = true;
    for _ in 0..6 {
        room.pass(|number| if number < 3 { 6 } else { 0 });
    }
    let is_its_own = |it: &Notice| it.what == Happened::Joined || it.about == at(3).ip();
    assert!(room.notices.iter().all(is_its_own), "{:?}", room.notices);
    // If it goes on like that, it is the slow one, and who waits for it is not.
    for _ in 0..12 {
        let waits = room.sources()[3] == (4, 3);
        room.pass(|number| {
            if number == 3 || number == 4 && waits {
                0
            } else {
                6
            }
        });
    }
    assert!(room.told(3, "slower"), "{:?}", room.notices);
    assert!(room.notices.iter().all(is_its_own), "{:?}", room.notices);
    assert_eq!(room.sources()[3], (4, 2));
}

/// It says so, and says no more of it than others do.
#[test]
fn one_that_was_behind_and_gets_nothing_afterwards_is_heard() {
    let mut room = Room::new(3);
    room.machine(3).behind = true;
    for _ in 0..4 {
        room.pass(|number| if number < 3 { 6 } else { 0 });
    }
    room.machine(3).behind = false;
    for _ in 0..7 {
        room.pass(|number| if number < 3 { 6 } else { 0 });
    }
    assert!(room.told(2, "nothing more"), "{:?}", room.notices);
}

#[test]
fn who_is_put_behind_one_that_has_less_waits_until_that_has_more() {
    let mut room = Room::new(3);
    for _ in 0..4 {
        room.pass(|number| if number == 3 { 1 } else { 6 });
    }
    // 2 stood still for a while, and has 20 more than 3 all the same.
    room.complains(3, 2, Fault::Silent);
    room.pass(|_| 0);
    assert_eq!(room.sources(), [(1, 0), (2, 3), (3, 1)]);
    for _ in 0..6 {
        room.pass(|number| if number == 2 { 0 } else { 4 });
    }
    for _ in 0..2 {
        room.pass(|_| 4);
    }
    assert!(!room.told(3, "nothing more"), "{:?}", room.notices);
    for _ in 0..8 {
        room.pass(|number| if number == 2 { 0 } else { 4 });
    }
    assert!(room.told(3, "nothing more"), "{:?}", room.notices);
}
