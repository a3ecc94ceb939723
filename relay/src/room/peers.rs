//! What machines of the model do with each other.

use super::{Crash, Lie, PATIENCE, Room, What, address};
use crate::frame::Frame;
use crate::hearing::{Ended, Heard, Hearing};
use crate::hello::Asked;
use crate::link::{CONNECT, LOOK};
use crate::message::{Fault, Source};
use crate::serving::{ALIVE, Say, Serving};
use std::time::Duration;

/// A word from one machine to another, and the beginning of a connection.
const HOP: Duration = Duration::from_micros(300);
const HANDSHAKE: Duration = Duration::from_millis(2);
/// Members that are in sockets at once.
const IN_SOCKETS: u32 = 2;
/// As in `serve`.
const CALLS: Duration = Duration::from_millis(20);
const STALL: Duration = Duration::from_millis(250);
/// To read a chunk back and pack it.
const PACK: Duration = Duration::from_millis(3);

impl Room {
    /// Goes where the ticket says.
    pub(super) fn turn(&mut self, machine: usize) {
        let it = &self.machines[machine];
        if !it.is_here || it.shelf.is_complete() {
            self.close(machine);
            return;
        }
        let ticket = it.ticket.now();
        let flow = it.flow.map(|flow| &self.flows[flow]);
        if flow.is_some_and(|flow| flow.is_open && flow.generation == ticket.generation) {
            return;
        }
        self.close(machine);
        let from = match ticket.source {
            None => {
                if self.now.saturating_sub(self.machines[machine].without) > PATIENCE {
                    self.machines[machine].ticket.fall_back();
                }
                self.soon(LOOK, What::Turn(machine));
                return;
            }
            Some(Source::Server) => None,
            Some(Source::Peer(at)) => {
                let racks = &self.machines;
                (0..racks.len()).find(|it| address(*it, racks[*it].wish.rack) == at)
            }
        };
        if from.is_some() && self.machines[machine].shelf.wanted().is_empty() {
            // All came; some of it is not proven yet.
            self.soon(LOOK, What::Turn(machine));
            return;
        }
        self.machines[machine].without = self.now;
        self.machines[machine].flow = Some(self.flows.len());
        if let Some(from) = from {
            self.machines[from].flows.push(self.flows.len());
        }
        self.flows.push(super::Flow {
            child: machine,
            from,
            generation: ticket.generation,
            leaf: ticket.leaf,
            is_open: true,
            serving: None,
            hearing: None,
            on_their_way: 0,
            last: None,
            busy: false,
        });
        let is_up = from.is_none_or(|from| self.machines[from].is_here);
        // Who is switched off does not even refuse.
        let is_off = !is_up && from.is_some_and(|from| self.is_off(from));
        let wait = if is_off { CONNECT } else { HANDSHAKE };
        self.soon(wait, What::Meet(self.flows.len() - 1));
    }

    fn is_off(&self, machine: usize) -> bool {
        let it = &self.machines[machine];
        !it.is_here && matches!(it.wish.crashes, Some(Crash::IsSwitchedOff(_)))
    }

    pub(super) fn meet(&mut self, flow: usize) {
        let now = self.now;
        let (child, from, leaf) = {
            let it = &self.flows[flow];
            if !it.is_open {
                return;
            }
            (it.child, it.from, it.leaf)
        };
        if let Some(from) = from {
            if !self.machines[from].is_here {
                self.blames(child, from, Fault::Unreachable);
                return;
            }
            let asked = Asked {
                wanted: self.machines[child].shelf.wanted(),
                leaf,
            };
            let hearing = Hearing::new(now, asked.wanted.len(), leaf);
            let parent = &self.machines[from].shelf;
            self.flows[flow].serving = Some(Serving::new(now, parent, asked.wanted, leaf));
            self.flows[flow].hearing = Some(hearing);
            self.soon(ALIVE, What::Sign(flow));
            self.soon(LOOK, What::Listen(flow));
        }
        self.pump(flow);
    }

    /// Sends what there is, as long as sockets take it.
    pub(super) fn pump(&mut self, flow: usize) {
        while self.flows[flow].is_open && self.flows[flow].on_their_way < IN_SOCKETS {
            let more = match self.flows[flow].from {
                None => self.pump_server(flow),
                Some(from) => self.pump_peer(flow, from),
            };
            if !more {
                break;
            }
        }
    }

    fn pump_server(&mut self, flow: usize) -> bool {
        let child = self.flows[flow].child;
        let next = if self.server_is_here {
            self.machines[child].shelf.claim_next()
        } else {
            None
        };
        let Some(chunk) = next else {
            if !self.machines[child].shelf.is_complete() {
                self.soon(LOOK, What::Pump(flow));
            }
            return false;
        };
        self.server_sent += 1;
        self.transmit(flow, chunk.number, Duration::ZERO);
        true
    }

    fn pump_peer(&mut self, flow: usize, from: usize) -> bool {
        if !self.machines[from].is_here || self.machines[from].wish.lies == Some(Lie::Claims) {
            return false;
        }
        let mut others = self.machines[from].flows.iter().map(|it| &self.flows[*it]);
        let busy = others.any(|it| it.busy && !it.leaf);
        let now = self.now;
        let Some(serving) = &mut self.flows[flow].serving else {
            return false;
        };
        let (chunk, wait) = match serving.next(&self.machines[from].shelf, busy) {
            Say::Member(member) => (member.chunk, Duration::ZERO),
            Say::ReadBack(chunk) => (chunk.number, PACK),
            Say::Later => {
                self.soon(CALLS, What::Pump(flow));
                return false;
            }
            Say::Nothing(_) => {
                self.flows[flow].busy = false;
                return false;
            }
            Say::Last(frame) => {
                self.flows[flow].busy = false;
                self.flows[flow].last = Some(frame == Frame::End);
                self.speak_last(flow);
                return false;
            }
        };
        serving.said(now);
        self.flows[flow].busy = true;
        self.machines[from].sent += self.wishes.member;
        self.transmit(flow, chunk, wait);
        true
    }

    fn transmit(&mut self, flow: usize, chunk: u64, wait: Duration) {
        let (child, from) = (self.flows[flow].child, self.flows[flow].from);
        let rack = |machine: usize| usize::from(self.machines[machine].wish.rack);
        let to = rack(child);
        let mut way = vec![self.machines[child].down];
        match from {
            // The server is in the middle, with no rack of its own.
            None => way.extend([self.server, self.racks[to][1]]),
            Some(from) => {
                way.push(self.machines[from].up);
                if rack(from) != to {
                    way.extend([self.racks[rack(from)][0], self.racks[to][1]]);
                }
            }
        }
        way.extend(self.cores);
        let end = self.links.send(self.now + wait, self.wishes.member, &way);
        self.flows[flow].on_their_way += 1;
        self.at(end + HOP, What::Arrive(flow, chunk));
    }

    pub(super) fn arrive(&mut self, flow: usize, chunk: u64) {
        let now = self.now;
        let (child, from) = (self.flows[flow].child, self.flows[flow].from);
        if !self.machines[child].is_here {
            // Who died hangs up; for who was switched off, sockets stay full.
            if !self.is_off(child) {
                self.close(child);
            }
            return;
        }
        let it = &mut self.flows[flow];
        it.on_their_way -= 1;
        if let Some(from) = from {
            // A member that was half here when its parent was left or died.
            if !it.is_open || !self.machines[from].is_here {
                return;
            }
            let Some(hearing) = &mut it.hearing else {
                return;
            };
            hearing.bytes(now);
            let frame = Frame::Member { chunk, length: 1 };
            match hearing.frame(now, frame, &self.machines[child].shelf) {
                Heard::Member(..) => hearing.member(now),
                Heard::GoOn => {}
                Heard::Ended(ended) => return self.ended(flow, ended),
            }
        }
        self.machines[child].received += self.wishes.member;
        let hand = self.machines[child].hand;
        let mut proven = self.links.send(now, self.wishes.member, &[hand]);
        if self.dice.u8(..100) < self.wishes.stalls {
            proven += STALL;
        }
        self.at(
            proven,
            What::Proven {
                machine: child,
                chunk,
                from,
            },
        );
        self.speak_last(flow);
        if self.flows[flow].last.is_none() {
            self.pump(flow);
        }
    }

    pub(super) fn prove(&mut self, machine: usize, chunk: u64, from: Option<usize>) {
        if !self.machines[machine].is_here {
            return;
        }
        if let Some(from) = from
            && self.machines[from].wish.lies == Some(Lie::FlipsBits)
        {
            self.machines[machine].shelf.release(chunk);
            self.blames(machine, from, Fault::Wrong);
            return;
        }
        self.machines[machine].shelf.proven(chunk, vec![0]);
        for flow in self.machines[machine].flows.clone() {
            self.pump(flow);
        }
        if self.machines[machine].shelf.is_complete() && self.machines[machine].done.is_none() {
            self.machines[machine].done = Some(self.now);
            self.close(machine);
            self.speaks(machine);
            self.soon(CALLS, What::Stay(machine));
        }
    }

    fn speak_last(&mut self, flow: usize) {
        let it = &mut self.flows[flow];
        if it.on_their_way == 0
            && let Some(all) = it.last.take()
        {
            self.soon(HOP, What::Last(flow, all));
        }
    }

    /// The parent's last word.
    pub(super) fn last(&mut self, flow: usize, all: bool) {
        let frame = if all { Frame::End } else { Frame::Lacks };
        self.hears(flow, frame);
    }

    fn hears(&mut self, flow: usize, frame: Frame) {
        let (now, child) = (self.now, self.flows[flow].child);
        if !self.flows[flow].is_open || !self.machines[child].is_here {
            return;
        }
        let Some(hearing) = &mut self.flows[flow].hearing else {
            return;
        };
        hearing.bytes(now);
        if let Heard::Ended(ended) = hearing.frame(now, frame, &self.machines[child].shelf) {
            self.ended(flow, ended);
        }
    }

    fn ended(&mut self, flow: usize, ended: Ended) {
        let (child, from) = (self.flows[flow].child, self.flows[flow].from);
        if let (Ended::Fault(fault, _), Some(from)) = (ended, from) {
            self.blames(child, from, fault);
        } else {
            self.close(child);
            self.turn(child);
        }
    }

    pub(super) fn sign(&mut self, flow: usize) {
        let now = self.now;
        let from = self.flows[flow].from;
        let is_here = from.is_some_and(|from| self.machines[from].is_here);
        if !self.flows[flow].is_open || !is_here {
            return;
        }
        let Some(serving) = &mut self.flows[flow].serving else {
            return;
        };
        if serving.owes_a_sign(now) {
            serving.said(now);
            self.hears(flow, Frame::Alive);
        }
        self.soon(LOOK, What::Sign(flow));
    }

    pub(super) fn listen(&mut self, flow: usize) {
        let it = &self.flows[flow];
        let (child, from) = (it.child, it.from);
        let (Some(hearing), Some(from), true) = (&it.hearing, from, it.is_open) else {
            return;
        };
        if !self.machines[child].is_here {
            return;
        }
        // Who went away or died has hung up; who was switched off has not.
        let hung_up = !self.machines[from].is_here && !self.is_off(from);
        if hung_up || hearing.is_gone(self.now) {
            self.blames(child, from, Fault::Silent);
        } else {
            self.soon(LOOK, What::Listen(flow));
        }
    }
}
