//! Who is slow.
//!
//! Machines of a room share a switch, sometimes cores, and each stands still now and then: that is no verdict. A machine is
//! slow if it gets much less than its parent *within the same time*, in both halves of it, again and again, or somewhat
//! less for long; and if somebody waits for it. Where a quarter of the room was found slow, the room shares what is slow, and
//! nobody else is found much slower. Who was wronged comes back.

use super::{Id, Parent, Rank, Session, TOO_OFTEN};
use crate::coordinator::{Happened, beat};
use std::time::Duration;

/// How fast a machine is, is told over these times, as a part of what its parent gets in percent.
const MUCH: (Duration, u64) = (Duration::from_secs(1), 50);
const SOMEWHAT: (Duration, u64) = (Duration::from_secs(5), 80);
/// In each half of that time: members come whole, so that a short time is told less exactly.
const HALF: u64 = 65;
/// So often in a row it has to look slow, each time by something new. Until that is told, it speaks more often.
const STRIKES: u32 = 3;
const NEWS: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_millis(200);
/// In the first seconds of a machine its place changes most: a room of so many may speak that often then, a larger one less.
const SMALL: usize = 40;
const NEW: Duration = Duration::from_secs(3);
const SOON_OF_MANY: Duration = Duration::from_secs(1);
/// One part of so many machines may be found slow by [`MUCH`]; where more are, they share what is slow.
const PART: usize = 4;
/// Who keeps up for so long, as well as [`SOMEWHAT`] asks, is not slow any more. That is believed once.
const KEEPS_UP: Duration = Duration::from_secs(2);
/// Less than this says nothing about speed: members come whole.
const TELLING: u64 = 4 << 20;
/// A machine that gets nothing for so long while its parent has something is given another.
const NOTHING: Duration = Duration::from_secs(2);
/// The same, where the parent makes nothing of what comes to it.
const IN_VAIN: Duration = Duration::from_secs(1);
/// No machine has so many members that came and are not on its disk. Whose disk stands still says so; others have much fewer.
const IN_HAND: u64 = 32;
const IN_HAND_OF_OTHERS: u64 = 4;

/// What came to a machine and to its parent within one time.
struct Pair {
    mine: u64,
    parents: u64,
}

impl Pair {
    fn is_below(&self, percent: u64) -> bool {
        // A machine may say any number.
        u128::from(self.mine) * 100 < u128::from(self.parents) * u128::from(percent)
    }
}

impl Session {
    /// Finds out whether `me` is too slow for where it stands, or gets nothing.
    pub(super) fn judge(&mut self, me: Id, now: Duration) {
        let mine = &self.members[me];
        let Some(Parent::Peer(above)) = mine.parent() else {
            return;
        };
        let Some(parent) = self.members.get(above) else {
            return;
        };
        if mine.is_done() {
            return;
        }
        if self.gets_nothing(me, above) {
            let (told_by, ip) = (mine.address, parent.address.ip());
            self.notices.push((ip, Happened::Silent { told_by }));
            self.avoid(me, above);
            self.blame(me, above, now);
            return;
        }
        // Until bytes come that make no chunk.
        let largest = mine.largest.unwrap_or(u64::MAX);
        let is_at_work = parent.fruitless() < largest;
        if (self.goes_after_others(me, above) || self.has_less(me, above) && is_at_work)
            && let Some(member) = self.members.get_mut(me)
        {
            member.waited = now;
        }
        let (mine, parent) = (&self.members[me], &self.members[above]);
        // Who has all sends as fast as it can, and gets nothing itself.
        if parent.is_done() || mine.rank() == Rank::Leaf {
            return;
        }
        if mine.rank() == Rank::Slow && self.keeps_up(me, above) {
            self.notices.push((mine.address.ip(), Happened::KeepsUp));
            self.members.set_rank(me, Rank::Proper);
            return;
        }
        if parent.rank() < mine.rank() {
            // The first of the slow: that it is slower than those before it is known, and no fault of theirs.
            return;
        }
        let holds_up = mine.children(mine.rank()).next().is_some();
        if holds_up && (self.is_struck(me, above) || self.is_below(me, above, SOMEWHAT)) {
            self.slow(me, above, now);
        }
    }

    /// How long it may be silent now. Who has to show that it is not slow speaks sooner, and those above and below it too;
    /// and all of a small room do in the beginning.
    pub(super) fn beat(&self, me: Id, now: Duration) -> Duration {
        let mine = &self.members[me];
        let looks_slow = |id: Id| self.members.get(id).is_some_and(|it| it.strikes.0 > 0);
        let mut children = mine.children(Rank::Slow).take(2);
        let above = match mine.parent() {
            Some(Parent::Peer(above)) => Some(above),
            _ => None,
        };
        let is_new = now.saturating_sub(mine.first) < NEW;
        let is_small = self.len() <= SMALL;
        let is_told = looks_slow(me) || above.is_some_and(looks_slow) || children.any(looks_slow);
        match beat(self.len()) {
            _ if is_told || is_new && is_small => SOON,
            beat if is_new => beat.min(SOON_OF_MANY),
            beat => beat,
        }
    }

    /// What came to both in the last `time` of which both spoke, since `me` has that parent.
    fn pair(&self, me: Id, above: Id, time: Duration) -> Option<(Duration, Duration)> {
        let (mine, parent) = (&self.members[me], &self.members[above]);
        let to = mine.came.last()?.min(parent.came.last()?);
        let from = to.checked_sub(time)?;
        (from >= mine.since).then_some((from, to))
    }

    fn within(&self, me: Id, above: Id, from: Duration, to: Duration) -> Option<Pair> {
        Some(Pair {
            mine: self.members[me].came.between(from, to)?,
            parents: self.members[above].came.between(from, to)?,
        })
    }

    /// Whether its parent sends to it only what another one leaves room for. It says itself when that takes too long.
    fn goes_after_others(&self, me: Id, above: Id) -> bool {
        let is_first = self.members[me].rank() == Rank::Proper;
        !is_first && self.members[above].children(Rank::Proper).next().is_some()
    }

    /// Whether its parent may have nothing that it lacks: it was put behind one that got less so far.
    fn has_less(&self, me: Id, above: Id) -> bool {
        self.members[above].left >= self.members[me].left
    }

    /// Whether bytes come to `above`, by its word, and no chunks: more than wait and are in hand where a disk stands still.
    fn takes_in_vain(&self, me: Id, above: Id) -> bool {
        let parent = &self.members[above];
        let members = if parent.is_behind() {
            IN_HAND
        } else {
            IN_HAND_OF_OTHERS
        };
        let under_way = |largest: u64| largest.saturating_mul(members).max(TELLING);
        let most = self.members[me].largest.map(under_way);
        most.is_some_and(|most| parent.fruitless() >= most)
    }

    /// Whether nothing comes to it, and neither what goes before it, nor what its parent lacks, nor its own disk is why.
    fn gets_nothing(&self, me: Id, above: Id) -> bool {
        let (mine, parent) = (&self.members[me], &self.members[above]);
        // Who tells the truth makes chunks of what comes.
        let in_vain = self.takes_in_vain(me, above);
        if self.goes_after_others(me, above) || self.has_less(me, above) && !in_vain {
            return false;
        }
        let time = if in_vain { IN_VAIN } else { NOTHING };
        let since = mine.since.max(mine.waited).max(mine.behind);
        if parent.is_done() {
            let to = mine.came.last();
            let from = to.and_then(|to| to.checked_sub(time));
            return to
                .zip(from)
                .filter(|(_, from)| *from >= since)
                .is_some_and(|(to, from)| mine.came.between(from, to) == Some(0));
        }
        self.pair(me, above, time)
            .filter(|(from, _)| *from >= since)
            .and_then(|(from, to)| self.within(me, above, from, to))
            .is_some_and(|pair| pair.mine == 0 && pair.parents >= TELLING)
    }

    fn is_below(&self, me: Id, above: Id, (time, percent): (Duration, u64)) -> bool {
        self.pair(me, above, time)
            .and_then(|(from, to)| self.within(me, above, from, to))
            .is_some_and(|pair| pair.parents >= TELLING && pair.is_below(percent))
    }

    /// Whether `me` has been much slower than its parent as often as it takes.
    fn is_struck(&mut self, me: Id, above: Id) -> bool {
        let (time, _) = MUCH;
        let Some((from, to)) = self.pair(me, above, time) else {
            return false;
        };
        let (strikes, last) = self.members[me].strikes;
        if strikes > 0 && to < last + NEWS {
            return false;
        }
        let middle = from + time / 2;
        let halves = [(from, middle), (middle, to)];
        let both = halves.iter().all(|(from, to)| {
            let pair = self.within(me, above, *from, *to);
            pair.is_some_and(|pair| pair.is_below(HALF))
        });
        // To whom nothing comes at all, that is told by itself: it is not the slow one then, most likely.
        let comes = self
            .within(me, above, from, to)
            .is_some_and(|pair| pair.mine > 0);
        let looks_slow = both
            && comes
            && self.is_below(me, above, MUCH)
            && self.members.slow() * PART < self.members.len();
        let Some(member) = self.members.get_mut(me) else {
            return false;
        };
        let strikes = if looks_slow { strikes + 1 } else { 0 };
        member.strikes = (strikes, to);
        strikes >= STRIKES
    }

    fn keeps_up(&self, me: Id, above: Id) -> bool {
        let Some((from, to)) = self.pair(me, above, KEEPS_UP) else {
            return false;
        };
        let pair = self.within(me, above, from, to);
        let is_proper = self.members[above].rank() == Rank::Proper;
        is_proper
            && self.members[me].was_slow < TOO_OFTEN
            && pair.is_some_and(|pair| pair.parents >= TELLING && !pair.is_below(SOMEWHAT.1))
    }

    /// `me` goes to the end. A parent whose every child is slow is slow itself, and has no more of them.
    fn slow(&mut self, me: Id, above: Id, now: Duration) {
        let (mut about, mut rank) = (me, Rank::Slow);
        if let Some(parent) = self.members.get_mut(above) {
            parent.slow_children += 1;
            if parent.slow_children >= TOO_OFTEN {
                (about, rank) = (above, Rank::Leaf);
            }
        }
        let Some(member) = self.members.get_mut(about) else {
            return;
        };
        member.was_slow += 1;
        if member.rank() != Rank::Proper {
            rank = Rank::Leaf;
        }
        let ip = member.address.ip();
        self.notices.push((ip, Happened::Slow));
        self.retire(about, rank, now);
    }
}
