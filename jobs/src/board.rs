//! Who is at work and who waits, as the server heard it. A slot is a lease: a word of the machine keeps it, silence frees it.
//!
//! Times are since the server's start, by a clock that nobody sets: a jump of the wall's clock frees no slot. What is
//! at work is in the jobs' files too. A server that starts gives each of those one lease of grace: those that still
//! work speak up, and nobody else gets their slots before.

use crate::turns::{Claim, Limits, Turn, turn};
use pitstop_protocol::id::Id;
use std::collections::BTreeMap;
use std::time::Duration;

/// Of a machine that waits fewer words are missed: it asks more often.
const WAITS_FOR: u32 = 3;

/// The slots that are given, and the queue.
#[derive(Debug, Clone)]
pub struct Board {
    lease: Duration,
    work: BTreeMap<Id, Held>,
    wait: BTreeMap<Id, Held>,
    /// Those whose image is not there yet: no slot is any use to them.
    early: BTreeMap<Id, Held>,
}

#[derive(Debug, Clone)]
struct Held {
    claim: Claim,
    run: Id,
    heard: Duration,
}

/// A machine that was not heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub job: Id,
    /// The run that had a slot; `None` of one that waited.
    pub run: Option<Id>,
}

impl Board {
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            work: BTreeMap::new(),
            wait: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// A machine is ready, and what it needs is not there. It takes no place in the queue.
    pub fn is_early(&mut self, claim: Claim, run: Id, now: Duration) {
        let job = claim.job.clone();
        self.leave(&job);
        let heard = now;
        self.early.insert(job, Held { claim, run, heard });
    }

    /// A machine is ready to begin. Whoever is told to go has the slot.
    pub fn ask(&mut self, claim: Claim, run: Id, limits: &Limits, now: Duration) -> Turn {
        let job = claim.job.clone();
        self.early.remove(&job);
        let asker = Held {
            claim,
            run,
            heard: now,
        };
        if let Some(held) = self.work.get_mut(&job) {
            // The answer was lost on its way, or the machine was reset: it is the same machine, and the slot is its.
            *held = asker;
            return Turn::Go;
        }
        self.wait.insert(job.clone(), asker);
        let work = self.work.values().map(|held| &held.claim);
        let wait = self.wait.values().map(|held| &held.claim);
        let turn = turn(work, wait, &job, limits);
        if turn == Turn::Go
            && let Some(held) = self.wait.remove(&job)
        {
            self.work.insert(job, held);
        }
        turn
    }

    /// A machine is at work: also one whose slot was freed, or of before the server's start. It cannot be stopped, so it
    /// counts, and the next one waits for it.
    pub fn beat(&mut self, claim: Claim, run: &Id, now: Duration) {
        let job = claim.job.clone();
        self.wait.remove(&job);
        self.early.remove(&job);
        let held = self.work.entry(job).or_insert_with(|| Held {
            claim,
            run: run.clone(),
            heard: now,
        });
        if held.run == *run {
            held.heard = now;
        }
    }

    /// The job's slot is free, and it waits no more.
    pub fn leave(&mut self, job: &Id) {
        self.work.remove(job);
        self.wait.remove(job);
        self.early.remove(job);
    }

    /// Takes those out that were silent for too long.
    pub fn silent(&mut self, now: Duration) -> Vec<Gone> {
        let late = |held: &Held, limit| now.saturating_sub(held.heard) > limit;
        let mut gone = Vec::new();
        self.work.retain(|job, held| {
            let stays = !late(held, self.lease);
            if !stays {
                gone.push(Gone {
                    job: job.clone(),
                    run: Some(held.run.clone()),
                });
            }
            stays
        });
        for waiting in [&mut self.wait, &mut self.early] {
            waiting.retain(|job, held| {
                let stays = !late(held, self.lease / WAITS_FOR);
                if !stays {
                    gone.push(Gone {
                        job: job.clone(),
                        run: None,
                    });
                }
                stays
            });
        }
        gone
    }

    /// How many are at work.
    pub fn at_work(&self) -> usize {
        self.work.len()
    }

    /// How many have come whose image is not there yet.
    pub fn early(&self) -> usize {
        self.early.len()
    }

    /// The jobs that have a slot, each with its run.
    pub fn working(&self) -> impl Iterator<Item = (&Id, &Id)> {
        self.work.iter().map(|(job, held)| (job, &held.run))
    }

    /// The job at work that writes where this one is to write.
    pub fn writes_there(&self, claim: &Claim) -> Option<&Id> {
        let writes = claim.writes.as_ref()?;
        let mut work = self.work.iter();
        let there = work.find(|(_, held)| held.claim.writes.as_ref() == Some(writes));
        there.map(|(job, _)| job)
    }

    /// The jobs that wait for a slot, in the order in which they get one.
    pub fn waiting(&self) -> Vec<&Id> {
        let mut claims: Vec<&Claim> = self.wait.values().map(|held| &held.claim).collect();
        claims.sort_by_key(|claim| claim.order());
        claims.into_iter().map(|claim| &claim.job).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LEASE: Duration = Duration::from_secs(45);

    fn id(number: u32) -> Id {
        Id::new(Timestamp::UNIX_EPOCH, number)
    }

    fn claim(number: u32) -> Claim {
        Claim {
            job: id(number),
            batch: id(0),
            turn: None,
            place: number,
            slots: None,
            groups: Vec::new(),
            chain: None,
            writes: None,
        }
    }

    fn limits(slots: u32) -> Limits {
        Limits {
            server: Some(slots),
            ..Limits::default()
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_machine_that_is_switched_off_frees_its_slot_within_a_minute() {
        let mut board = Board::new(LEASE);
        let one = limits(1);
        assert_eq!(board.ask(claim(1), id(1), &one, secs(0)), Turn::Go);
        let waits = Turn::Wait { place: 1, of: 1 };
        assert_eq!(board.ask(claim(2), id(2), &one, secs(30)), waits);
        board.beat(claim(1), &id(1), secs(10));
        board.ask(claim(2), id(2), &one, secs(44));
        assert_eq!(board.silent(secs(55)), []);
        let gone = Gone {
            job: id(1),
            run: Some(id(1)),
        };
        assert_eq!(board.silent(secs(56)), [gone]);
        assert_eq!(board.ask(claim(2), id(2), &one, secs(56)), Turn::Go);
        // It was only cut off: it works on, and counts.
        board.beat(claim(1), &id(1), secs(57));
        assert_eq!(board.at_work(), 2);
    }

    #[test]
    fn one_that_waited_and_was_switched_off_blocks_nobody() {
        let mut board = Board::new(LEASE);
        let one = limits(1);
        board.ask(claim(9), id(9), &one, secs(0));
        board.ask(claim(1), id(1), &one, secs(0));
        assert_eq!(
            board.ask(claim(2), id(2), &one, secs(5)),
            Turn::Wait { place: 2, of: 2 }
        );
        board.leave(&id(9));
        assert_ne!(board.ask(claim(2), id(2), &one, secs(14)), Turn::Go);
        assert_eq!(
            board.silent(secs(16)),
            [Gone {
                job: id(1),
                run: None
            }]
        );
        assert_eq!(board.ask(claim(2), id(2), &one, secs(16)), Turn::Go);
    }

    #[test]
    fn one_whose_image_is_not_there_takes_no_place_and_is_missed_all_the_same() {
        let mut board = Board::new(LEASE);
        let one = limits(1);
        board.is_early(claim(1), id(1), secs(0));
        assert_eq!(board.waiting(), Vec::<&Id>::new());
        assert_eq!(board.ask(claim(2), id(2), &one, secs(0)), Turn::Go);
        let gone = Gone {
            job: id(1),
            run: None,
        };
        assert_eq!(board.silent(secs(16)), [gone]);
        board.is_early(claim(1), id(1), secs(20));
        // The image came.
        let waits = Turn::Wait { place: 1, of: 1 };
        assert_eq!(board.ask(claim(1), id(1), &one, secs(21)), waits);
        board.leave(&id(2));
        assert_eq!(board.ask(claim(1), id(1), &one, secs(22)), Turn::Go);
        assert_eq!(board.silent(secs(40)), []);
    }

    #[test]
    fn an_answer_that_was_lost_and_a_reset_cost_no_second_slot() {
        let mut board = Board::new(LEASE);
        for run in [1, 1, 2] {
            assert_eq!(board.ask(claim(1), id(run), &limits(1), secs(0)), Turn::Go);
        }
        assert_eq!(board.at_work(), 1);
        // The try before the reset has nothing to say any more.
        board.beat(claim(1), &id(1), secs(40));
        assert_eq!(board.silent(secs(50)).len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(u32),
        Beat(u32),
        End(u32),
        Pass(u64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let machine = 1u32..8;
        prop_oneof![
            4 => machine.clone().prop_map(Step::Ask),
            3 => machine.clone().prop_map(Step::Beat),
            1 => machine.prop_map(Step::End),
            2 => (1u64..60).prop_map(Step::Pass),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// What is on the disk is a map of the jobs at work; machines beat only while they hold a slot.
        #[test]
        fn never_more_at_work_than_slots_and_no_slot_is_lost(
            slots in 1u32..4,
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let limits = limits(slots);
            let mut board = Board::new(LEASE);
            let mut disk: BTreeMap<u32, Id> = BTreeMap::new();
            let mut now = secs(0);
            for step in steps {
                match step {
                    Step::Ask(machine) => {
                        let before = board.at_work();
                        let had = disk.contains_key(&machine);
                        if board.ask(claim(machine), id(machine), &limits, now) == Turn::Go {
                            prop_assert!(had || before < slots as usize);
                            disk.insert(machine, id(machine));
                        }
                    }
                    Step::Beat(machine) => {
                        if let Some(run) = disk.get(&machine) {
                            board.beat(claim(machine), run, now);
                        }
                    }
                    Step::End(machine) => {
                        if disk.remove(&machine).is_some() {
                            board.leave(&id(machine));
                        }
                    }
                    Step::Pass(seconds) => {
                        now += secs(seconds);
                        for gone in board.silent(now) {
                            disk.retain(|machine, _| gone.run.is_none() || id(*machine) != gone.job);
                        }
                    }
                    Step::Restart => {
                        board = Board::new(LEASE);
                        now = secs(0);
                        for (machine, run) in &disk {
                            board.beat(claim(*machine), run, now);
                        }
                    }
                }
                prop_assert!(board.at_work() <= slots as usize);
                prop_assert_eq!(board.at_work(), disk.len());
            }
            // Everybody fell silent: every slot can be had again.
            now += LEASE + secs(1);
            board.silent(now);
            for machine in 100..100 + slots {
                prop_assert_eq!(board.ask(claim(machine), id(machine), &limits, now), Turn::Go);
            }
        }
    }
}
