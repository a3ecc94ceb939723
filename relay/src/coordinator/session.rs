//! One image: its machines, and the chain that they make.
//!
//! A machine is *proper*, with at most one proper child, or a *leaf*: slow, a liar, or without all of the image. Leaves have
//! no children and hang on the end of the chain, where they hold up nobody.

use super::{BEAT, Happened, MOST_MEMBERS, Refused};
use crate::message::{Complaint, Fault, Report, Source, Stage, Standing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A machine that says nothing for so many beats is gone.
const BEATS_OF_SILENCE: u32 = 10;
/// How fast a machine is, is told over these times: much slower than its parent, or somewhat slower for longer.
const MUCH: (Duration, u64) = (Duration::from_secs(1), 50);
const SOMEWHAT: (Duration, u64) = (Duration::from_secs(5), 80);
/// Less than this says nothing about speed: members come whole.
const TELLING: u64 = 4 << 20;
/// A machine that gets nothing for so long while its parent has something is given another.
const NOTHING: Duration = Duration::from_secs(4);
/// A machine that was part of the plan of a server before this one keeps its parent for so long: that one has to say
/// something first.
const GRACE: Duration = Duration::from_secs(3);
/// Who has all stays so long for a child that lacks only some chunks, and not at all for one that is slow or late: that
/// gets the rest from the server, so that it keeps nobody from its work.
const STAYS: Duration = Duration::from_secs(1);
const SOME: u64 = 16;
/// Reports that are kept to tell the speed.
const KEPT: Duration = Duration::from_secs(8);
/// Who was blamed by so many, or had so many slow children, is the one at fault.
const TOO_OFTEN: usize = 2;

type Name = String;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Parent {
    Server,
    Peer(Name),
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    first: Duration,
    seen: Duration,
    /// When it said how much had come, newest last.
    came: VecDeque<(Duration, u64)>,
    from_server: u64,
    partial: bool,
    /// All that are not zeros, and those that it lacks.
    chunks: u64,
    left: u64,
    done: bool,
    done_since: Duration,
    leaf: bool,
    parent: Option<Parent>,
    /// It had a parent in this plan.
    placed: bool,
    /// Since when it has that parent.
    since: Duration,
    /// Peers that it is not sent to again.
    avoids: BTreeSet<Name>,
    /// Those that it says lied.
    accuses: BTreeSet<Name>,
    /// Those who say that it gave them nothing.
    blamed_by: BTreeSet<Name>,
    slow_children: usize,
}

#[derive(Debug, Default)]
pub struct Session {
    members: BTreeMap<Name, Member>,
    /// In the order in which they came.
    order: Vec<Name>,
    notices: Vec<(IpAddr, Happened)>,
}

impl Session {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn take_notices(&mut self) -> Vec<(IpAddr, Happened)> {
        std::mem::take(&mut self.notices)
    }

    /// Takes a word of one machine; its place, unless it goes.
    pub fn report(
        &mut self,
        now: Duration,
        from: IpAddr,
        report: &Report,
        chains: usize,
    ) -> Result<Option<Standing>, Refused> {
        let me = &report.node;
        if report.stage == Stage::Left {
            if self
                .members
                .get(me)
                .is_some_and(|it| it.address.ip() == from)
            {
                self.remove(me, now);
            }
            return Ok(None);
        }
        self.note(now, from, report)?;
        for complaint in &report.complaints {
            self.complaint(me, *complaint, now);
        }
        self.follow(me, report.source, now);
        self.judge(me, now);
        if let Some(kept) = self.keeps(me, report.source, now) {
            return Ok(Some(kept));
        }
        self.settle(me, chains, now);
        Ok(self.standing(me))
    }

    /// Writes down what the machine says of itself.
    fn note(&mut self, now: Duration, from: IpAddr, report: &Report) -> Result<(), Refused> {
        let address = SocketAddr::new(from, report.port);
        if !self.members.contains_key(&report.node) {
            if self.members.len() >= MOST_MEMBERS {
                return Err(Refused::TooMany);
            }
            self.members.insert(
                report.node.clone(),
                Member::new(address, now, report.partial),
            );
            self.order.push(report.node.clone());
            self.notices.push((from, Happened::Joined));
        }
        let Some(member) = self.members.get_mut(&report.node) else {
            return Ok(());
        };
        if member.address != address {
            return Err(Refused::NotYours);
        }
        member.seen = now;
        let before = member.came.back().map_or(0, |(_, bytes)| *bytes);
        if member.parent == Some(Parent::Server) {
            member.from_server += report.received.saturating_sub(before);
        }
        member.came.push_back((now, report.received));
        while member.came.len() > 2 && member.came[1].0 + KEPT < now {
            member.came.pop_front();
        }
        member.chunks = report.chunks;
        member.left = report.chunks - report.done;
        if report.stage == Stage::Done && !member.done {
            member.done = true;
            member.done_since = now;
            // It is a source now: who was its parent may become its child.
            if member.parent != Some(Parent::Server) {
                member.parent = None;
            }
            self.notices.push((
                from,
                Happened::Done {
                    received: report.received,
                    sent: report.sent,
                    from_server: member.from_server,
                },
            ));
        }
        Ok(())
    }

    fn complaint(&mut self, me: &Name, complaint: Complaint, now: Duration) {
        let Some(about) = self.at(complaint.about).filter(|about| about != me) else {
            return;
        };
        let told_by = self.members[me].address;
        let ip = complaint.about.ip();
        // Of others it can know nothing; and who found fault with too many is believed no more.
        let is_parent = self.members[me].parent == Some(Parent::Peer(about.clone()));
        self.avoid(me, &about);
        if !is_parent || self.members[me].accuses.len() >= TOO_OFTEN {
            self.set_parent(me, None, now);
            return;
        }
        match complaint.fault {
            Fault::Wrong => {
                self.notices.push((ip, Happened::Lied { told_by }));
                self.accuse(me, &about);
                self.retire(&about, now);
            }
            Fault::Silent | Fault::Unreachable => {
                self.notices.push((ip, Happened::Silent { told_by }));
                self.blame(me, &about, now);
            }
            // It has what it wanted for itself alone.
            Fault::Lacks => {
                if let Some(about) = self.members.get_mut(&about) {
                    about.partial = true;
                }
                self.retire(&about, now);
            }
        }
    }

    fn avoid(&mut self, me: &Name, about: &Name) {
        if let Some(member) = self.members.get_mut(me) {
            member.avoids.insert(about.clone());
        }
    }

    /// Who says of two others that they lie has the fault itself, most likely.
    fn accuse(&mut self, me: &Name, about: &Name) {
        let Some(member) = self.members.get_mut(me) else {
            return;
        };
        member.accuses.insert(about.clone());
        if member.accuses.len() >= TOO_OFTEN && !member.leaf {
            member.leaf = true;
            self.notices.push((member.address.ip(), Happened::Blames));
        }
    }

    /// `about` gives `me` nothing: `me` takes its place, and it goes to the end.
    fn blame(&mut self, me: &Name, about: &Name, now: Duration) {
        let was_mine = self.members[me].parent == Some(Parent::Peer(about.clone()));
        let Some(blamed) = self.members.get_mut(about) else {
            return;
        };
        blamed.blamed_by.insert(me.clone());
        let too_often = blamed.blamed_by.len() >= TOO_OFTEN;
        let above = blamed.parent.clone();
        if too_often {
            self.retire(about, now);
        } else if was_mine {
            self.set_parent(me, above, now);
            if !self.members[about].done {
                self.set_parent(about, None, now);
            }
        }
    }

    /// Makes a machine a leaf; its children go to its parent.
    fn retire(&mut self, about: &Name, now: Duration) {
        let Some(member) = self.members.get_mut(about) else {
            return;
        };
        member.leaf = true;
        let above = member.parent.clone();
        for child in self.children(about) {
            self.set_parent(&child, above.clone(), now);
        }
        // It finds its place at the end with its next word; who has all needs none.
        if !self.members[about].done {
            self.set_parent(about, None, now);
        }
    }

    /// A machine that was part of the plan of a server before this one goes on where it is.
    fn follow(&mut self, me: &Name, source: Option<Source>, now: Duration) {
        let mine = &self.members[me];
        if mine.placed || mine.done || mine.leaf {
            return;
        }
        let wants = match source {
            None => return,
            Some(Source::Server) => Parent::Server,
            Some(Source::Peer(address)) => match self.at(address) {
                Some(name) if self.may_have(me, &name) => Parent::Peer(name),
                _ => return,
            },
        };
        self.set_parent(me, Some(wants), now);
    }

    /// The place of a machine whose parent is not known yet, while that may still come.
    fn keeps(&self, me: &Name, source: Option<Source>, now: Duration) -> Option<Standing> {
        let mine = &self.members[me];
        let is_new = now.saturating_sub(mine.first) < GRACE && mine.avoids.is_empty();
        let source = source.filter(|_| is_new && !mine.placed && !mine.done)?;
        Some(Standing {
            source,
            grandparent: None,
            leaf: mine.leaf,
            leave: false,
        })
    }

    /// Finds out whether `me` is too slow for where it stands, or gets nothing.
    fn judge(&mut self, me: &Name, now: Duration) {
        let mine = &self.members[me];
        let Some(Parent::Peer(above)) = mine.parent.clone() else {
            return;
        };
        let Some(parent) = self.members.get(&above) else {
            return;
        };
        if mine.done || mine.leaf {
            return;
        }
        let since = now.saturating_sub(mine.since);
        let nothing = since >= NOTHING
            && mine.came_in(NOTHING, now) == Some(0)
            && (parent.done || parent.came_in(NOTHING, now) >= Some(TELLING));
        if nothing {
            let (told_by, ip) = (mine.address, parent.address.ip());
            self.notices.push((ip, Happened::Silent { told_by }));
            self.avoid(me, &above);
            self.blame(me, &above, now);
            return;
        }
        let is_slow = |(time, percent): (Duration, u64)| {
            let (Some(mine), Some(parents)) = (mine.came_in(time, now), parent.came_in(time, now))
            else {
                return false;
            };
            since >= time && parents >= TELLING && mine * 100 < parents * percent
        };
        let holds_up = !parent.done && self.has_proper_child(me, me);
        if holds_up && (is_slow(MUCH) || is_slow(SOMEWHAT)) {
            self.slow(me, &above, now);
        }
    }

    /// `me` goes to the end. A parent whose every child is slow is slow itself.
    fn slow(&mut self, me: &Name, above: &Name, now: Duration) {
        let mut about = me.clone();
        if let Some(parent) = self.members.get_mut(above) {
            parent.slow_children += 1;
            if parent.slow_children >= TOO_OFTEN {
                about.clone_from(above);
            }
        }
        let ip = self.members[&about].address.ip();
        self.notices.push((ip, Happened::Slow));
        self.retire(&about, now);
    }

    /// Sees to it that `me` has a parent that it can have.
    fn settle(&mut self, me: &Name, chains: usize, now: Duration) {
        if self.members[me].done {
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
        let parent = self.place(me, chains);
        if self.members[me].parent != parent {
            self.set_parent(me, parent, now);
        }
    }

    /// Whether its parent has all, and would have gone long ago.
    fn keeps_its_parent(&self, me: &Name, now: Duration) -> bool {
        let Some(Parent::Peer(above)) = &self.members[me].parent else {
            return false;
        };
        let mine = &self.members[me];
        let is_far = mine.leaf || mine.left > SOME.max(mine.chunks / 20);
        let is_over = |time: Duration| is_far || now.saturating_sub(time) > STAYS;
        let parent = self.members.get(above);
        parent.is_some_and(|it| it.done && is_over(it.done_since))
    }

    /// The best parent for `me`: the server where a chain is to begin, else the end of the shortest chain, of its own
    /// network if there is one.
    fn place(&self, me: &Name, chains: usize) -> Option<Parent> {
        let mine = &self.members[me];
        // One that has all is as good as the server while it is here.
        let heads = self
            .members
            .iter()
            .filter(|(name, member)| *name != me && member.parent == Some(Parent::Server));
        if heads.count() < chains && !mine.leaf {
            return Some(Parent::Server);
        }
        let stays = |name: &Name| !self.members[name].done || self.is_waited_for(name);
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
        Some(best.map_or(Parent::Server, |name| Parent::Peer(name.clone())))
    }

    /// Whether `above` can be the parent of `me`: it has or will have all, and hangs on the server in the end.
    fn may_have(&self, me: &Name, above: &Name) -> bool {
        let Some(parent) = self.members.get(above) else {
            return false;
        };
        let fits = !parent.leaf && !parent.partial && !self.members[me].avoids.contains(above);
        fits && self.reaches_source(above, me)
    }

    /// Whether the way up from `name` ends at the server or at a machine that has all, and does not pass `without`.
    fn reaches_source(&self, name: &Name, without: &Name) -> bool {
        let mut at = name;
        for _ in 0..=self.members.len() {
            if at == without {
                return false;
            }
            match self.members.get(at) {
                None => return false,
                Some(member) if member.done => return true,
                Some(member) => match &member.parent {
                    Some(Parent::Server) => return true,
                    Some(Parent::Peer(above)) => at = above,
                    None => return false,
                },
            }
        }
        false
    }

    fn depth(&self, name: &Name) -> usize {
        let (mut at, mut depth) = (name, 0);
        while let Some(Parent::Peer(above)) = self.members.get(at).and_then(|it| it.parent.as_ref())
            && depth <= self.members.len()
        {
            (at, depth) = (above, depth + 1);
        }
        depth
    }

    /// Machines that the server sends to.
    fn heads(&self) -> impl Iterator<Item = &Name> {
        self.order.iter().filter(|name| {
            let member = self.members.get(*name);
            member.is_some_and(|it| it.parent == Some(Parent::Server) && !it.done)
        })
    }

    /// Whether the server sends to more machines than it should, `me` is not among those that came first, and there is
    /// another place for it.
    fn is_one_too_many(&self, me: &Name, chains: usize) -> bool {
        let early = self.heads().take(chains).any(|head| head == me);
        !early && self.place(me, chains) != Some(Parent::Server)
    }

    /// Whether another one is the proper child of `above` already.
    fn is_second(&self, me: &Name, above: &Name) -> bool {
        let mine = &self.members[me];
        !mine.leaf
            && self.children(above).iter().any(|other| {
                let other_one = &self.members[other];
                other != me
                    && !other_one.leaf
                    && !other_one.done
                    && (other_one.since, other) < (mine.since, me)
            })
    }

    fn has_proper_child(&self, name: &Name, but: &Name) -> bool {
        let children = self.children(name);
        children.iter().any(|child| {
            let member = &self.members[child];
            child != but && !member.leaf && !member.done
        })
    }

    fn children(&self, name: &Name) -> Vec<Name> {
        let children = self.members.iter().filter(
            |(_, member)| matches!(&member.parent, Some(Parent::Peer(above)) if above == name),
        );
        children.map(|(child, _)| child.clone()).collect()
    }

    /// Whether a child does not have all yet.
    fn is_waited_for(&self, name: &Name) -> bool {
        let children = self.children(name);
        children.iter().any(|child| !self.members[child].done)
    }

    fn standing(&self, me: &Name) -> Option<Standing> {
        let mine = self.members.get(me)?;
        let address = |name: &Name| self.members.get(name).map(|it| it.address);
        let (source, above) = match &mine.parent {
            Some(Parent::Peer(above)) => (
                address(above).map_or(Source::Server, Source::Peer),
                self.members.get(above).and_then(|it| it.parent.clone()),
            ),
            Some(Parent::Server) | None => (Source::Server, None),
        };
        let grandparent = match above {
            Some(Parent::Peer(name)) if self.may_have(me, &name) => address(&name),
            _ => None,
        };
        Some(Standing {
            source,
            grandparent,
            leaf: mine.leaf,
            leave: mine.done && !self.is_waited_for(me),
        })
    }

    fn at(&self, address: SocketAddr) -> Option<Name> {
        let found = self.members.iter().find(|(_, it)| it.address == address);
        found.map(|(name, _)| name.clone())
    }

    fn set_parent(&mut self, me: &Name, parent: Option<Parent>, now: Duration) {
        if let Some(member) = self.members.get_mut(me) {
            member.placed |= parent.is_some();
            member.parent = parent;
            member.since = now;
        }
    }

    /// Takes a machine out; its children go to its parent.
    fn remove(&mut self, me: &Name, now: Duration) {
        let Some(member) = self.members.remove(me) else {
            return;
        };
        self.order.retain(|name| name != me);
        for child in self.children(me) {
            self.set_parent(&child, member.parent.clone(), now);
        }
    }

    /// Takes out those who say nothing any more.
    pub fn expire(&mut self, now: Duration) {
        let beat = BEAT.max(
            Duration::from_secs(1) * u32::try_from(self.len()).unwrap_or(u32::MAX)
                / super::BEATS_A_SECOND,
        );
        let gone = |member: &Member| now.saturating_sub(member.seen) > beat * BEATS_OF_SILENCE;
        let gone: Vec<Name> = self
            .members
            .iter()
            .filter(|(_, member)| gone(member))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let member = &self.members[&name];
            if !member.done {
                self.notices.push((member.address.ip(), Happened::Lost));
            }
            self.remove(&name, now);
        }
    }
}

impl Member {
    fn new(address: SocketAddr, now: Duration, partial: bool) -> Self {
        Self {
            address,
            first: now,
            seen: now,
            came: VecDeque::new(),
            from_server: 0,
            partial,
            chunks: 0,
            left: 0,
            done: false,
            done_since: now,
            leaf: partial,
            parent: None,
            placed: false,
            since: now,
            avoids: BTreeSet::new(),
            accuses: BTreeSet::new(),
            blamed_by: BTreeSet::new(),
            slow_children: 0,
        }
    }

    /// Bytes that came in the last `time`; `None` where it was not there for so long.
    fn came_in(&self, time: Duration, now: Duration) -> Option<u64> {
        let then = now.checked_sub(time)?;
        let (_, before) = self.came.iter().rev().find(|(at, _)| *at <= then)?;
        let (_, last) = self.came.back()?;
        Some(last.saturating_sub(*before))
    }
}

/// The neighbourhood of an address: as most switches have it.
fn network(address: IpAddr) -> [u8; 8] {
    let mut network = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(address) => network[..3].copy_from_slice(&address.octets()[..3]),
        IpAddr::V6(address) => network.copy_from_slice(&address.octets()[..8]),
    }
    network
}
