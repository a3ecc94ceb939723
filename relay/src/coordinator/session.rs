//! One image: its machines, and the chain that they make.
//!
//! A machine is *proper*, with at most one proper child, or a *leaf*: slow, a liar, or without all of the image. Leaves have
//! no children and hang on the end of the chain, where they hold up nobody.

mod blame;
mod pace;
mod places;

use super::{BEAT, Happened, MOST_MEMBERS, Refused};
use crate::message::{Report, Source, Stage, Standing};
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
    /// Since when it has all.
    done: Option<Duration>,
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
        if report.stage == Stage::Done && !member.is_done() {
            member.done = Some(now);
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
        if !self.members[about].is_done() {
            self.set_parent(about, None, now);
        }
    }

    /// A machine that was part of the plan of a server before this one goes on where it is.
    fn follow(&mut self, me: &Name, source: Option<Source>, now: Duration) {
        let mine = &self.members[me];
        if mine.placed || mine.is_done() || mine.leaf {
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
        let source = source.filter(|_| is_new && !mine.placed && !mine.is_done())?;
        Some(Standing {
            source,
            grandparent: None,
            leaf: mine.leaf,
            leave: false,
        })
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
            leave: mine.is_done() && !self.is_waited_for(me),
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
            if !member.is_done() {
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
            done: None,
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

    fn is_done(&self) -> bool {
        self.done.is_some()
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
