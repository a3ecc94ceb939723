//! Who gets the image from whom.

use super::{Name, Parent, SOME, STAYS, Session, network};
use std::time::Duration;

impl Session {
    /// Sees to it that `me` has a parent that it can have.
    pub(super) fn settle(&mut self, me: &Name, chains: usize, now: Duration) {
        if self.members[me].is_done() {
            return;
        }
        if self.keeps_its_parent(me, now) && self.heads().filter(|it| *it != me).count() < chains {
            self.set_parent(me, Some(Parent::Server), now);
            return;
        }
        let good = match self.members[me].parent.clone() {
            None => false,
            Some(Parent::Server) => !self.is_one_too_many(me, chains),
            Some(Parent::Peer(above)) => self.may_have(me, &above) && !self.is_second(me, &above),
        };
        if good {
            return;
        }
        let parent = Some(self.place(me, chains));
        if self.members[me].parent != parent {
            self.set_parent(me, parent, now);
        }
    }

    /// Whether its parent has all, and would have gone long ago.
    pub(super) fn keeps_its_parent(&self, me: &Name, now: Duration) -> bool {
        let Some(Parent::Peer(above)) = &self.members[me].parent else {
            return false;
        };
        let mine = &self.members[me];
        let is_far = mine.leaf || mine.left > SOME.max(mine.chunks / 20);
        let is_over = |time: Duration| is_far || now.saturating_sub(time) > STAYS;
        let parent = self.members.get(above);
        parent.and_then(|it| it.done).is_some_and(is_over)
    }

    /// The best parent for `me`: the server where a chain is to begin, else the end of the shortest chain, of its own
    /// network if there is one.
    pub(super) fn place(&self, me: &Name, chains: usize) -> Parent {
        let mine = &self.members[me];
        // One that has all is as good as the server while it is here.
        let heads = self
            .members
            .iter()
            .filter(|(name, member)| *name != me && member.parent == Some(Parent::Server));
        if heads.count() < chains && !mine.leaf {
            return Parent::Server;
        }
        let stays = |name: &Name| !self.members[name].is_done() || self.is_waited_for(name);
        let ends = self.order.iter().filter(|name| {
            *name != me
                && stays(name)
                && self.may_have(me, name)
                && !self.has_proper_child(name, me)
        });
        let best = ends.min_by_key(|name| {
            let end = &self.members[*name];
            let far = network(end.address.ip()) != network(mine.address.ip());
            (far, self.depth(name))
        });
        best.map_or(Parent::Server, |name| Parent::Peer(name.clone()))
    }

    /// Whether `above` can be the parent of `me`: it has or will have all, and hangs on the server in the end.
    pub(super) fn may_have(&self, me: &Name, above: &Name) -> bool {
        let Some(parent) = self.members.get(above) else {
            return false;
        };
        let fits = !parent.leaf && !parent.partial && !self.members[me].avoids.contains(above);
        fits && self.reaches_source(above, me)
    }

    /// Whether the way up from `name` ends at the server or at a machine that has all, and does not pass `without`.
    pub(super) fn reaches_source(&self, name: &Name, without: &Name) -> bool {
        let mut at = name;
        for _ in 0..=self.members.len() {
            if at == without {
                return false;
            }
            match self.members.get(at) {
                None => return false,
                Some(member) if member.is_done() => return true,
                Some(member) => match &member.parent {
                    Some(Parent::Server) => return true,
                    Some(Parent::Peer(above)) => at = above,
                    None => return false,
                },
            }
        }
        false
    }

    pub(super) fn depth(&self, name: &Name) -> usize {
        let (mut at, mut depth) = (name, 0);
        while let Some(Parent::Peer(above)) = self.members.get(at).and_then(|it| it.parent.as_ref())
            && depth <= self.members.len()
        {
            (at, depth) = (above, depth + 1);
        }
        depth
    }

    /// Machines that the server sends to.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Name> {
        self.order.iter().filter(|name| {
            let member = self.members.get(*name);
            member.is_some_and(|it| it.parent == Some(Parent::Server) && !it.is_done())
        })
    }

    /// Whether the server sends to more machines than it should, `me` is not among those that came first, and there is
    /// another place for it.
    pub(super) fn is_one_too_many(&self, me: &Name, chains: usize) -> bool {
        let early = self.heads().take(chains).any(|head| head == me);
        !early && self.place(me, chains) != Parent::Server
    }

    /// Whether another one is the proper child of `above` already.
    pub(super) fn is_second(&self, me: &Name, above: &Name) -> bool {
        let mine = &self.members[me];
        !mine.leaf
            && self.children(above).iter().any(|other| {
                let other_one = &self.members[other];
                other != me
                    && !other_one.leaf
                    && !other_one.is_done()
                    && (other_one.since, other) < (mine.since, me)
            })
    }

    pub(super) fn has_proper_child(&self, name: &Name, but: &Name) -> bool {
        let children = self.children(name);
        children.iter().any(|child| {
            let member = &self.members[child];
            child != but && !member.leaf && !member.is_done()
        })
    }

    pub(super) fn children(&self, name: &Name) -> Vec<Name> {
        let children = self.members.iter().filter(
            |(_, member)| matches!(&member.parent, Some(Parent::Peer(above)) if above == name),
        );
        children.map(|(child, _)| child.clone()).collect()
    }

    /// Whether a child does not have all yet.
    pub(super) fn is_waited_for(&self, name: &Name) -> bool {
        let children = self.children(name);
        children.iter().any(|child| !self.members[child].is_done())
    }
}
