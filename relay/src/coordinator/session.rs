//! One image: its machines, and the chain that they make.
//!
//! A machine is *proper*, with at most one proper child; or *slow*: it is among the slow behind them all; or a *leaf*: a
//! liar, slow even among the slow, or without all of the image. Leaves have no children and hold up nobody.

mod blame;
mod members;
mod pace;
mod places;
mod rate;

use super::{BEAT, Happened, Refused, beat};
use crate::message::{Report, Source, Stage, Standing};
use members::{Id, Member, Members, Parent, Rank};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A machine that says nothing for so many beats is gone.
const BEATS_OF_SILENCE: u32 = 10;
/// A machine that was part of the plan of a server before this one keeps its parent for so long: that one has to say
/// something first.
const GRACE: Duration = Duration::from_secs(3);
/// Who was blamed by so many, or had so many slow children, is the one at fault.
const TOO_OFTEN: usize = 2;

#[derive(Debug, Default)]
pub struct Session {
    members: Members,
    notices: Vec<(IpAddr, Happened)>,
}

/// Where a machine stands, and when it is to speak again.
#[derive(Debug)]
pub struct Told {
    /// `None` for a machine that goes.
    pub standing: Option<Standing>,
    pub beat: Duration,
}

impl Session {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn knows(&self, node: &str) -> bool {
        self.members.named(node).is_some()
    }

    /// How many of the machines ask from this address.
    pub fn len_from(&self, address: IpAddr) -> usize {
        self.members.from(address)
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
    ) -> Result<Told, Refused> {
        if report.stage == Stage::Left {
            let known = self.members.named(&report.node);
            if let Some(me) = known.filter(|me| self.members[*me].address.ip() == from) {
                self.members.remove(me, now);
            }
            return Ok(Told {
                standing: None,
                beat: BEAT,
            });
        }
        let me = self.note(now, from, report)?;
        for complaint in &report.complaints {
            self.complaint(me, *complaint, now);
        }
        self.follow(me, report.source, now);
        self.judge(me, now);
        let standing = if let Some(kept) = self.keeps(me, report.source, now) {
            kept
        } else {
            self.settle(me, chains, now);
            self.standing(me)
        };
        Ok(Told {
            standing: Some(standing),
            beat: self.beat(me, now),
        })
    }

    /// Writes down what the machine says of itself.
    fn note(&mut self, now: Duration, from: IpAddr, report: &Report) -> Result<Id, Refused> {
        let address = SocketAddr::new(from, report.port);
        let known = self.members.named(&report.node);
        let me = known.unwrap_or_else(|| {
            self.notices.push((from, Happened::Joined));
            self.members.add(&report.node, address, now, report.partial)
        });
        if self.members[me].address != address {
            return Err(Refused::NotYours);
        }
        self.members.saw(me, now);
        let Some(member) = self.members.get_mut(me) else {
            return Ok(me);
        };
        if member.parent() == Some(Parent::Server) {
            let more = report.received.saturating_sub(member.came.bytes());
            member.from_server = member.from_server.saturating_add(more);
        }
        if report.behind {
            member.behind = now;
        }
        member.note(now, report);
        if report.stage == Stage::Done && !member.is_done() {
            let done = Happened::Done {
                received: report.received,
                sent: report.sent,
                from_server: member.from_server,
            };
            self.members.finish(me, now);
            self.notices.push((from, done));
        }
        Ok(me)
    }

    /// Makes a machine one of lower rank; its children go to its parent.
    fn retire(&mut self, about: Id, rank: Rank, now: Duration) {
        self.members.pass_on_children(about, now);
        self.members.set_rank(about, rank);
        // It finds its place at the end with its next word; who has all needs none.
        if self.members.get(about).is_some_and(|it| !it.is_done()) {
            self.members.hang(about, None, now);
        }
    }

    /// A machine that was part of the plan of a server before this one goes on where it is.
    fn follow(&mut self, me: Id, source: Option<Source>, now: Duration) {
        let mine = &self.members[me];
        if mine.placed || mine.is_done() || mine.rank() != Rank::Proper {
            return;
        }
        let wants = match source {
            None => return,
            Some(Source::Server) => Parent::Server,
            Some(Source::Peer(address)) => match self.members.at(address) {
                Some(above) if self.may_have(me, above) => Parent::Peer(above),
                _ => return,
            },
        };
        self.members.hang(me, Some(wants), now);
    }

    /// The place of a machine whose parent is not known yet, while that may still come.
    fn keeps(&self, me: Id, source: Option<Source>, now: Duration) -> Option<Standing> {
        let mine = &self.members[me];
        let is_new = now.saturating_sub(mine.first) < GRACE && mine.avoids.is_empty();
        let source = source.filter(|_| is_new && !mine.placed && !mine.is_done())?;
        Some(Standing {
            source,
            grandparent: None,
            leaf: mine.rank() != Rank::Proper,
            leave: false,
        })
    }

    fn standing(&self, me: Id) -> Standing {
        let mine = &self.members[me];
        let address = |id: Id| self.members.get(id).map(|it| it.address);
        let (source, above) = match mine.parent() {
            Some(Parent::Peer(above)) => (
                address(above).map_or(Source::Server, Source::Peer),
                self.members.get(above).and_then(Member::parent),
            ),
            Some(Parent::Server) | None => (Source::Server, None),
        };
        let grandparent = match above {
            Some(Parent::Peer(above)) if self.fits(me, above) => address(above),
            _ => None,
        };
        Standing {
            source,
            grandparent,
            leaf: mine.rank() != Rank::Proper,
            leave: mine.is_done() && !mine.is_waited_for(),
        }
    }

    /// Takes out those who say nothing any more.
    pub fn expire(&mut self, now: Duration) {
        let Some(then) = now.checked_sub(beat(self.len()) * BEATS_OF_SILENCE) else {
            return;
        };
        while let Some(gone) = self.members.silent_since(then) {
            let member = &self.members[gone];
            if !member.is_done() {
                self.notices.push((member.address.ip(), Happened::Lost));
            }
            self.members.remove(gone, now);
        }
    }
}
