//! Where this machine stands in the plan, and what it has to say about others.

use crate::lock;
use crate::message::{Complaint, Fault, Source, Standing};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

pub struct Ticket {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    now: Now,
    grandparent: Option<SocketAddr>,
    leave: bool,
    complaints: Vec<Complaint>,
    /// Complaints so far: an answer to what was said before the last one knows nothing of it.
    complained: u64,
    /// Something is to be said at once.
    urgent: bool,
}

/// Where chunks come from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Changes with the source.
    pub generation: u64,
    pub source: Option<Source>,
    pub leaf: bool,
}

/// What is said in one report, and what is needed to understand its answer.
pub struct Said {
    pub complaints: Vec<Complaint>,
    pub source: Option<Source>,
    complained: u64,
}

impl Ticket {
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                now: Now {
                    generation: 0,
                    source: None,
                    leaf: false,
                },
                grandparent: None,
                leave: false,
                complaints: Vec::new(),
                complained: 0,
                urgent: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn now(&self) -> Now {
        lock(&self.inner).now
    }

    /// Waits until the source is another than at `generation`, or for `most`.
    pub fn wait(&self, generation: u64, most: Duration) -> Now {
        let inner = lock(&self.inner);
        let waited = self
            .changed
            .wait_timeout_while(inner, most, |inner| inner.now.generation == generation);
        waited.unwrap_or_else(PoisonError::into_inner).0.now
    }

    /// Whether nobody waits for what is here, as far as the server knows.
    pub fn may_leave(&self) -> bool {
        lock(&self.inner).leave
    }

    /// Says it of a peer, and turns from it: to the grandparent, or to nobody until the server says more.
    pub fn complain(&self, about: SocketAddr, fault: Fault) {
        let mut inner = lock(&self.inner);
        let complaint = Complaint { about, fault };
        if !inner.complaints.contains(&complaint) {
            inner.complaints.push(complaint);
        }
        inner.complained += 1;
        inner.urgent = true;
        if inner.now.source == Some(Source::Peer(about)) {
            let next = inner.grandparent.take().filter(|next| *next != about);
            inner.turn(next.map(Source::Peer));
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Takes everything from the server: nobody says where else it could be had.
    pub fn fall_back(&self) {
        lock(&self.inner).turn(Some(Source::Server));
        self.changed.notify_all();
    }

    /// Has the next report go out at once.
    pub fn hurry(&self) {
        lock(&self.inner).urgent = true;
        self.changed.notify_all();
    }

    /// Waits for the time of the next report: `period`, or sooner.
    pub fn wait_for_beat(&self, period: Duration) {
        let inner = lock(&self.inner);
        let waited = self
            .changed
            .wait_timeout_while(inner, period, |inner| !inner.urgent);
        waited.unwrap_or_else(PoisonError::into_inner).0.urgent = false;
    }

    /// What there is to say.
    pub fn say(&self) -> Said {
        let inner = lock(&self.inner);
        Said {
            complaints: inner.complaints.clone(),
            source: inner.now.source,
            complained: inner.complained,
        }
    }

    /// The server has answered to what was said.
    pub fn heard(&self, said: &Said, standing: Option<&Standing>) {
        let mut inner = lock(&self.inner);
        inner
            .complaints
            .retain(|complaint| !said.complaints.contains(complaint));
        let Some(standing) = standing.filter(|_| said.complained == inner.complained) else {
            return;
        };
        inner.grandparent = standing.grandparent;
        inner.leave = standing.leave;
        let same = inner.now.source == Some(standing.source) && inner.now.leaf == standing.leaf;
        inner.now.leaf = standing.leaf;
        if !same {
            inner.turn(Some(standing.source));
        }
        drop(inner);
        self.changed.notify_all();
    }
}

impl Inner {
    fn turn(&mut self, source: Option<Source>) {
        self.now.source = source;
        self.now.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn standing(source: Source, grandparent: Option<SocketAddr>) -> Standing {
        Standing {
            source,
            grandparent,
            leaf: false,
            leave: false,
        }
    }

    #[test]
    fn who_loses_its_parent_goes_to_the_grandparent_and_no_late_answer_sends_it_back() {
        let ticket = Ticket::new();
        let said = ticket.say();
        ticket.heard(&said, Some(&standing(Source::Peer(at(1)), Some(at(2)))));
        let before = ticket.now();
        assert_eq!(before.source, Some(Source::Peer(at(1))));
        let said = ticket.say();
        ticket.complain(at(1), Fault::Silent);
        let now = ticket.now();
        assert_eq!(now.source, Some(Source::Peer(at(2))));
        assert_ne!(now.generation, before.generation);
        // The answer to what was said before.
        ticket.heard(&said, Some(&standing(Source::Peer(at(1)), Some(at(2)))));
        assert_eq!(ticket.now(), now);
        let said = ticket.say();
        assert_eq!(said.complaints.len(), 1);
        ticket.heard(&said, Some(&standing(Source::Peer(at(2)), None)));
        assert_eq!(ticket.now(), now);
        assert!(ticket.say().complaints.is_empty());
        // Without a grandparent it waits for the server's word.
        ticket.complain(at(2), Fault::Wrong);
        assert_eq!(ticket.now().source, None);
        // What is said of others moves nobody.
        let now = ticket.now();
        ticket.complain(at(3), Fault::Wrong);
        assert_eq!(ticket.now(), now);
    }
}
