//! Whose turn it is: slots, and the order of those who came.

use pitstop_protocol::id::Id;
use std::collections::{HashMap, HashSet};

/// How many machines are at work at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub server: Option<u32>,
    /// Of a group.
    pub groups: HashMap<String, u32>,
}

/// What of a job matters for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub job: Id,
    /// The jobs that were set with it; its time comes first in the order.
    pub batch: Id,
    /// Where somebody moved it to.
    pub turn: Option<i64>,
    pub place: u32,
    pub slots: Option<u32>,
    pub groups: Vec<String>,
    /// The folder whose images it has from other machines: those of one folder take one of the server's slots together.
    pub chain: Option<String>,
    /// Where it writes images: two machines at once would mix theirs there.
    pub writes: Option<Place>,
}

/// A folder of a share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub share: String,
    pub folder: String,
}

impl Claim {
    /// Those that somebody moved come first. Then jobs that were set earlier; of those set together, the order that was asked
    /// for.
    pub fn order(&self) -> (i64, &Id, u32, &Id) {
        let turn = self.turn.unwrap_or(i64::MAX);
        (turn, &self.batch, self.place, &self.job)
    }
}

/// What a machine that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Go,
    /// From 1.
    Wait {
        place: u32,
        of: u32,
    },
}

/// The slots that are in use.
#[derive(Default)]
struct Used<'a> {
    all: u32,
    chains: HashSet<&'a str>,
    written: HashSet<&'a Place>,
    groups: HashMap<&'a str, u32>,
    batches: HashMap<&'a Id, u32>,
}

impl<'a> Used<'a> {
    fn take(&mut self, claim: &'a Claim) {
        let is_first = claim
            .chain
            .as_ref()
            .is_none_or(|chain| self.chains.insert(chain));
        self.all += u32::from(is_first);
        self.written.extend(&claim.writes);
        for group in &claim.groups {
            *self.groups.entry(group).or_default() += 1;
        }
        *self.batches.entry(&claim.batch).or_default() += 1;
    }

    fn has_room(&self, claim: &Claim, limits: &Limits) -> bool {
        let free = |used: u32, limit: Option<u32>| limit.is_none_or(|limit| used < limit);
        let group = |name: &String| {
            let used = self.groups.get(name.as_str()).copied();
            free(used.unwrap_or(0), limits.groups.get(name).copied())
        };
        let batch = self.batches.get(&claim.batch).copied().unwrap_or(0);
        let of_chain = |chain: &String| self.chains.contains(chain.as_str());
        let server = claim.chain.as_ref().is_some_and(of_chain) || free(self.all, limits.server);
        let written = |place: &Place| self.written.contains(place);
        let room = server && free(batch, claim.slots) && claim.groups.iter().all(group);
        room && !claim.writes.as_ref().is_some_and(written)
    }
}

/// The turn of the job `who`, one of those that `wait`, beside those that `work`. A machine whose group or set is full
/// keeps nobody of another one from a slot.
pub fn turn<'a>(
    work: impl Iterator<Item = &'a Claim>,
    wait: impl Iterator<Item = &'a Claim>,
    who: &Id,
    limits: &Limits,
) -> Turn {
    let mut used = Used::default();
    work.for_each(|claim| used.take(claim));
    let mut queue: Vec<&Claim> = wait.collect();
    queue.sort_by_key(|claim| claim.order());
    let (mut place, mut of) = (1, 0);
    for claim in queue {
        let goes = used.has_room(claim, limits);
        if goes {
            used.take(claim);
        } else {
            of += 1;
        }
        if claim.job == *who {
            if goes {
                return Turn::Go;
            }
            place = of;
        }
    }
    Turn::Wait { place, of }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn id(number: u32) -> Id {
        Id::new(Timestamp::UNIX_EPOCH, number)
    }

    fn claim(number: u32, batch: u32, place: u32, group: &str, slots: Option<u32>) -> Claim {
        Claim {
            job: id(number),
            batch: id(batch),
            turn: None,
            place,
            slots,
            groups: vec![group.to_owned()],
            chain: None,
            writes: None,
        }
    }

    fn limits(server: u32, group: u32) -> Limits {
        Limits {
            server: Some(server),
            groups: HashMap::from([("a".to_owned(), group)]),
        }
    }

    fn ask(work: &[Claim], wait: &[Claim], who: u32, limits: &Limits) -> Turn {
        turn(work.iter(), wait.iter(), &id(who), limits)
    }

    #[test]
    fn who_came_goes_in_the_order_that_was_asked_for() {
        let wait = [
            claim(3, 1, 2, "a", None),
            claim(1, 1, 0, "a", None),
            claim(2, 1, 1, "a", None),
        ];
        let two = limits(2, 9);
        assert_eq!(ask(&[], &wait, 1, &two), Turn::Go);
        assert_eq!(ask(&[], &wait, 2, &two), Turn::Go);
        assert_eq!(ask(&[], &wait, 3, &two), Turn::Wait { place: 1, of: 1 });
        let one = limits(1, 9);
        assert_eq!(ask(&[], &wait, 3, &one), Turn::Wait { place: 2, of: 2 });
        let at_work = [claim(7, 7, 0, "b", None)];
        assert_eq!(
            ask(&at_work, &wait, 1, &one),
            Turn::Wait { place: 1, of: 3 }
        );
        assert_eq!(ask(&at_work, &wait, 3, &Limits::default()), Turn::Go);
    }

    #[test]
    fn who_was_moved_goes_before_those_who_were_not() {
        let moved = |number, turn| Claim {
            turn: Some(turn),
            ..claim(number, 9, 0, "a", None)
        };
        let wait = [claim(1, 1, 0, "a", None), moved(2, 5), moved(3, -5)];
        let full = [claim(8, 8, 0, "b", None)];
        let one = limits(1, 9);
        for (who, place) in [(3, 1), (2, 2), (1, 3)] {
            assert_eq!(ask(&full, &wait, who, &one), Turn::Wait { place, of: 3 });
        }
    }

    #[test]
    fn a_chain_takes_one_of_the_server_s_slots_and_each_machine_one_of_its_set() {
        let in_chain = |number, chain: &str, slots| Claim {
            chain: Some(chain.to_owned()),
            ..claim(number, 0, number, "none", slots)
        };
        let limits = limits(2, 9);
        let turn_of = |work: &[Claim], who: Claim| {
            let wait = [who];
            turn(work.iter(), wait.iter(), &wait[0].job, &limits)
        };
        let work = [
            in_chain(1, "x", None),
            in_chain(2, "x", None),
            claim(3, 3, 0, "none", None),
        ];
        assert_eq!(turn_of(&work, in_chain(4, "x", None)), Turn::Go);
        assert_ne!(turn_of(&work, in_chain(4, "y", None)), Turn::Go);
        assert_ne!(turn_of(&work, claim(4, 4, 0, "none", None)), Turn::Go);
        assert_ne!(turn_of(&work, in_chain(4, "x", Some(2))), Turn::Go);
    }

    #[test]
    fn two_machines_do_not_write_into_one_folder_at_once() {
        let into = |number, folder: &str| Claim {
            writes: Some(Place {
                share: "http://server/share".into(),
                folder: folder.into(),
            }),
            ..claim(number, number, 0, "none", None)
        };
        let wait = [into(2, "golden"), into(3, "golden"), into(4, "other")];
        let any = Limits::default();
        let work = [into(1, "golden")];
        assert_eq!(ask(&work, &wait, 2, &any), Turn::Wait { place: 1, of: 2 });
        assert_eq!(ask(&work, &wait, 3, &any), Turn::Wait { place: 2, of: 2 });
        assert_eq!(ask(&work, &wait, 4, &any), Turn::Go);
        assert_eq!(ask(&[], &wait, 2, &any), Turn::Go);
        assert_ne!(ask(&[], &wait, 3, &any), Turn::Go);
    }

    #[test]
    fn a_full_group_or_set_keeps_nobody_else_waiting() {
        let wait = [
            claim(1, 1, 0, "a", None),
            claim(2, 2, 0, "b", Some(1)),
            claim(3, 2, 1, "b", Some(1)),
            claim(4, 4, 0, "c", None),
        ];
        let full = [claim(9, 9, 0, "a", None)];
        let limits = limits(9, 1);
        assert_eq!(
            ask(&full, &wait, 1, &limits),
            Turn::Wait { place: 1, of: 2 }
        );
        assert_eq!(ask(&full, &wait, 2, &limits), Turn::Go);
        assert_eq!(
            ask(&full, &wait, 3, &limits),
            Turn::Wait { place: 2, of: 2 }
        );
        assert_eq!(ask(&full, &wait, 4, &limits), Turn::Go);
    }
}
