//! Who gets the image from whom.

use super::{Id, Member, Parent, Rank, Session};
use std::time::Duration;

/// Who has all stays so long for a child that has the rest by then: it may have lost two seconds by no fault of its own.
const STAYS: Duration = Duration::from_secs(3);
/// For one that was not slow before, and does not look as if it had the rest by then.
const HESITATES: Duration = Duration::from_secs(1);
/// How fast that one is, is told over this time.
const LATELY: Duration = Duration::from_secs(1);

/// Where a machine is put.
struct Place {
    parent: Parent,
    /// Who hangs on it from then on.
    before: Option<Id>,
}

impl Session {
    /// Sees to it that `me` has a parent that it can have.
    pub(super) fn settle(&mut self, me: Id, chains: usize, now: Duration) {
        if self.members[me].is_done() {
            return;
        }
        let may_go = self.members.heads().filter(|it| *it != me).count() < chains;
        if may_go && self.keeps_its_parent(me, now) {
            self.members.hang(me, Some(Parent::Server), now);
            return;
        }
        let good = match self.members[me].parent() {
            None => false,
            Some(Parent::Server) => !self.is_one_too_many(me, chains),
            // Nobody hangs on itself: if something comes to `me`, it comes by its parent.
            Some(Parent::Peer(above)) => {
                self.members[me].is_rooted() && self.fits(me, above) && !self.is_second(me, above)
            }
        };
        if good {
            return;
        }
        let place = self.place(me, chains);
        if self.members[me].parent() != Some(place.parent) {
            self.members.hang(me, Some(place.parent), now);
        }
        if let Some(before) = place.before {
            self.members.hang(before, Some(Parent::Peer(me)), now);
        }
    }

    /// Whether its parent has all, and would have gone by now.
    fn keeps_its_parent(&self, me: Id, now: Duration) -> bool {
        let Some(Parent::Peer(above)) = self.members[me].parent() else {
            return false;
        };
        let stays = self.stay_for(me);
        let is_over = |done: Duration| now.saturating_sub(done) > stays;
        let parent = self.members.get(above);
        parent.and_then(Member::done).is_some_and(is_over)
    }

    /// How long who has all stays for `me`. Then that gets the rest from the server, so that it keeps nobody from its work.
    fn stay_for(&self, me: Id) -> Duration {
        let mine = &self.members[me];
        let lately = mine.had.last().and_then(|to| {
            let from = to.checked_sub(LATELY)?;
            mine.had.between(from, to)
        });
        let ends_soon =
            lately.is_none_or(|chunks| chunks.saturating_mul(STAYS.as_secs()) >= mine.left);
        match mine.rank() {
            Rank::Proper | Rank::Slow if ends_soon => STAYS,
            Rank::Proper => HESITATES,
            Rank::Slow | Rank::Leaf => Duration::ZERO,
        }
    }

    /// The best place for `me`: at the server where a chain is to begin; else behind the last one of its network, so that a
    /// chain goes into each network and out of it once; else at the end of the shortest chain.
    fn place(&self, me: Id, chains: usize) -> Place {
        let mine = &self.members[me];
        let parent = |parent| Place {
            parent,
            before: None,
        };
        // One that has all is as good as the server while it is here.
        let served = self.members.served().filter(|other| *other != me);
        if mine.rank() == Rank::Proper && served.take(chains).count() < chains {
            return parent(Parent::Server);
        }
        if let Some(place) = self.place_in_network(me) {
            return place;
        }
        let mut ends: Vec<Id> = self.members.ends(mine.rank()).collect();
        // Where it is already, it keeps no place from itself.
        if let Some(Parent::Peer(above)) = mine.parent()
            && !self.is_second(me, above)
        {
            ends.push(above);
        }
        let ends = ends.into_iter().filter(|end| self.may_have(me, *end));
        let best = ends.min_by_key(|end| {
            let end = &self.members[*end];
            (end.network() != mine.network(), end.depth())
        });
        parent(best.map_or(Parent::Server, Parent::Peer))
    }

    /// A place behind one of its own network, whose child is of another one and goes behind `me`. Who is half through does
    /// not change its parent for that.
    fn place_in_network(&self, me: Id) -> Option<Place> {
        let mine = &self.members[me];
        if mine.rank() != Rank::Proper {
            return None;
        }
        let borders = self.members.borders(mine.network());
        let places = borders.filter_map(|above| {
            let before = self.members[above].children(Rank::Proper).next()?;
            let child = &self.members[before];
            let is_early = child.left > child.chunks / 2;
            let fits = before != me && is_early && self.fits(before, me);
            (fits && self.may_have(me, above)).then_some((above, before))
        });
        let (above, before) = places.min_by_key(|(above, _)| self.members[*above].depth())?;
        Some(Place {
            parent: Parent::Peer(above),
            before: Some(before),
        })
    }

    /// Whether `above` can be the parent of `me`: it has or will have all, and does not have it from `me`.
    pub(super) fn may_have(&self, me: Id, above: Id) -> bool {
        let parent = self.members.get(above);
        parent.is_some_and(Member::is_rooted)
            && self.fits(me, above)
            && !self.members.is_below(above, me)
    }

    /// Whether `above` is one from whom `me` takes something.
    pub(super) fn fits(&self, me: Id, above: Id) -> bool {
        let mine = &self.members[me];
        self.members.get(above).is_some_and(|parent| {
            let rank = parent.rank();
            rank != Rank::Leaf && rank <= mine.rank() && !mine.avoids.contains(&above)
        })
    }

    /// Whether the server sends to more machines than it should, `me` is not among those that came first, and there is
    /// another place for it.
    fn is_one_too_many(&self, me: Id, chains: usize) -> bool {
        let early = self.members.heads().take(chains).any(|head| head == me);
        !early && self.place(me, chains).parent != Parent::Server
    }

    /// Whether another one hangs on `above` before `me`. Leaves do not mind.
    fn is_second(&self, me: Id, above: Id) -> bool {
        let mine = &self.members[me];
        let before = |id: Id| {
            let member = &self.members[id];
            (member.rank(), member.since, id)
        };
        let parent = self.members.get(above);
        mine.rank() != Rank::Leaf
            && parent.is_some_and(|it| {
                it.children(mine.rank())
                    .any(|other| before(other) < before(me))
            })
    }
}
