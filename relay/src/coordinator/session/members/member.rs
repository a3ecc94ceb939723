//! One machine of a chain, as the server knows it.

use super::super::rate::Came;
use crate::message::Report;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A machine, by when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    Server,
    Peer(Id),
}

/// Who may hang on whom: nobody on one of a higher rank, and nobody on a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Proper,
    /// It held others up: it is among others like it, behind all that are proper.
    Slow,
    /// Nobody gets anything from it: it lied, was slow among the slow, or will not have all.
    Leaf,
}

#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub address: SocketAddr,
    pub first: Duration,
    pub(super) seen: Duration,
    /// Bytes, and chunks that it had of them.
    pub came: Came,
    pub had: Came,
    pub from_server: u64,
    /// All that are not zeros, and those that it lacks.
    pub chunks: u64,
    pub left: u64,
    /// The largest member of its image in bytes, if it said so.
    pub largest: Option<u64>,
    /// What had come to it when it last had a chunk more.
    advanced: u64,
    /// Since when it has all.
    pub(super) done: Option<Duration>,
    pub(super) rank: Rank,
    pub(super) partial: bool,
    pub(super) parent: Option<Parent>,
    /// Those who hang on it; none of them has all.
    pub(super) children: BTreeSet<(Rank, Id)>,
    /// Machines between it and the server, about; `None` while it gets nothing.
    pub(super) depth: Option<u32>,
    /// It had a parent in this plan.
    pub placed: bool,
    /// Since when it has that parent.
    pub since: Duration,
    /// When its parent last had others to serve before it, or nothing for it.
    pub waited: Duration,
    /// When it last said that its own disk keeps it from taking more.
    pub behind: Duration,
    /// Peers that it is not sent to again.
    pub avoids: BTreeSet<Id>,
    /// Those that it says lied.
    pub accuses: BTreeSet<Id>,
    /// Those who say that it gave them nothing.
    pub blamed_by: BTreeSet<Id>,
    pub slow_children: usize,
    /// How often it was found to hold others up.
    pub was_slow: usize,
    /// Times in a row that it looked slow, and up to when that was.
    pub strikes: (u32, Duration),
}

impl Member {
    pub(super) fn new(name: &str, address: SocketAddr, now: Duration, partial: bool) -> Self {
        Self {
            name: name.to_owned(),
            address,
            first: now,
            seen: now,
            came: Came::default(),
            had: Came::default(),
            from_server: 0,
            chunks: 0,
            left: u64::MAX,
            largest: None,
            advanced: 0,
            done: None,
            rank: if partial { Rank::Leaf } else { Rank::Proper },
            partial,
            parent: None,
            children: BTreeSet::new(),
            depth: None,
            placed: false,
            since: now,
            waited: Duration::ZERO,
            behind: Duration::ZERO,
            avoids: BTreeSet::new(),
            accuses: BTreeSet::new(),
            blamed_by: BTreeSet::new(),
            slow_children: 0,
            was_slow: 0,
            strikes: (0, now),
        }
    }

    /// Writes down how far it says that it is.
    pub fn note(&mut self, now: Duration, report: &Report) {
        let left = report.chunks - report.done;
        if left < self.left || report.received < self.advanced {
            self.advanced = report.received;
        }
        self.came.note(now, report.received);
        self.had.note(now, report.done);
        self.chunks = report.chunks;
        self.left = left;
        self.largest = Some(report.largest).filter(|largest| *largest > 0);
    }

    /// Bytes that came to it, by its word, since it last had a chunk more.
    pub fn fruitless(&self) -> u64 {
        self.came.bytes().saturating_sub(self.advanced)
    }

    /// Whether its last word was that its own disk keeps it from taking more.
    pub fn is_behind(&self) -> bool {
        self.behind == self.seen
    }

    pub fn is_done(&self) -> bool {
        self.done.is_some()
    }

    pub fn done(&self) -> Option<Duration> {
        self.done
    }

    pub fn network(&self) -> Network {
        network(self.address.ip())
    }

    pub fn rank(&self) -> Rank {
        self.rank
    }

    pub fn parent(&self) -> Option<Parent> {
        self.parent
    }

    /// Whether what it gets comes from the server in the end, or it has all.
    pub fn is_rooted(&self) -> bool {
        self.depth.is_some()
    }

    pub fn depth(&self) -> u32 {
        self.depth.unwrap_or(u32::MAX)
    }

    /// Whether a child does not have all yet.
    pub fn is_waited_for(&self) -> bool {
        !self.children.is_empty()
    }

    /// Its children up to `rank`.
    pub fn children(&self, rank: Rank) -> impl Iterator<Item = Id> {
        self.children
            .range(..=(rank, Id(u64::MAX)))
            .map(|(_, id)| *id)
    }

    /// Whether it has, or will have, something for others.
    fn may_be_a_parent(&self) -> bool {
        self.rank != Rank::Leaf && !self.partial && self.is_rooted()
    }

    /// Whether one of `rank` could hang on it and be the only one.
    pub(super) fn is_end_for(&self, rank: Rank) -> bool {
        let stays = !self.is_done() || self.is_waited_for();
        let may = self.may_be_a_parent() && self.rank <= rank;
        may && stays && self.children(rank).next().is_none()
    }

    /// Whether one that is proper could be between it and its children.
    pub(super) fn may_be_last_of_its_network(&self) -> bool {
        self.may_be_a_parent() && self.rank == Rank::Proper && !self.is_done()
    }
}

/// The neighbourhood of an address: as most switches have it.
pub type Network = [u8; 8];

pub fn network(address: IpAddr) -> Network {
    let mut network = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(address) => network[..3].copy_from_slice(&address.octets()[..3]),
        IpAddr::V6(address) => network.copy_from_slice(&address.octets()[..8]),
    }
    network
}
