//! How chunks come in: from the parent, or from the server for those who have a ticket for it. What comes is only claimed
//! here; workers have it proven and written.

use crate::frame::{Frame, HEAD};
use crate::hearing::{Ended, Heard, Hearing, SILENCE};
use crate::hello::Asked;
use crate::link::{LOOK, Link, is_pause};
use crate::lock;
use crate::message::{Fault, Source};
use crate::node::Run;
use anyhow::{Context, bail};
use pitstop_imaging::image::{Chunk, ReadingOn};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Members that wait for a worker.
const QUEUE: usize = 8;
/// A disk takes a member in much less than this.
const STANDS_STILL: Duration = Duration::from_millis(300);
/// A member that came, its chunk claimed.
pub struct Brought {
    pub chunk: Chunk,
    pub member: Vec<u8>,
    /// `None` of the server.
    pub from: Option<SocketAddr>,
}

/// Members between who brings them and who proves them.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Brought>>,
    changed: Condvar,
    /// Who brings had to wait for room since somebody asked.
    full: AtomicBool,
}

/// Members that are being proven and written just now.
#[derive(Default)]
pub struct InHand(Mutex<(usize, Duration)>);

impl InHand {
    fn take(&self, now: Duration) {
        let mut inner = lock(&self.0);
        if inner.0 == 0 {
            inner.1 = now;
        }
        inner.0 += 1;
    }

    fn done(&self, now: Duration) {
        let mut inner = lock(&self.0);
        *inner = (inner.0.saturating_sub(1), now);
    }

    /// Whether there are some, and none of them was done for a while: the disk here stands still.
    pub fn stands_still(&self, now: Duration) -> bool {
        let (members, since) = *lock(&self.0);
        members > 0 && now.saturating_sub(since) >= STANDS_STILL
    }
}

impl Queue {
    /// Waits for room. What comes after `stop` is dropped.
    fn push(&self, brought: Brought, stop: &AtomicBool) {
        let mut waiting = lock(&self.waiting);
        while waiting.len() >= QUEUE && !stop.load(Ordering::Relaxed) {
            self.full.store(true, Ordering::Relaxed);
            waiting = self
                .changed
                .wait_timeout(waiting, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        waiting.push_back(brought);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Whether there was no room since the last call: the disk here is behind what comes.
    pub fn was_full(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    /// Wakes up those who wait.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits for a member; `None` after a while without one.
    pub fn pop(&self) -> Option<Brought> {
        let waiting = lock(&self.waiting);
        let (mut waiting, _) = self
            .changed
            .wait_timeout_while(waiting, LOOK, |waiting| waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let brought = waiting.pop_front();
        drop(waiting);
        self.changed.notify_all();
        brought
    }
}

impl Run<'_> {
    /// Brings in all that is wanted, from whatever source the ticket names.
    ///
    /// # Errors
    /// The server's stream broke for good; or another thread failed.
    pub(crate) fn intake(&self) -> anyhow::Result<()> {
        let mut without = self.now();
        while !self.shelf.is_complete() {
            self.check()?;
            let now = self.ticket.now();
            match now.source {
                None => {
                    self.ticket.wait(now.generation, LOOK);
                    if self.now().saturating_sub(without) > self.node.patience() {
                        self.tell_fall_back();
                        self.ticket.fall_back();
                    }
                    continue;
                }
                Some(Source::Server) => self.take_from_server(now.generation)?,
                Some(Source::Peer(address)) => {
                    self.take_from_peer(now.generation, address, now.leaf);
                }
            }
            without = self.now();
        }
        self.check()
    }

    fn take_from_server(&self, generation: u64) -> anyhow::Result<()> {
        let image = self.fed.image();
        let mut reader = ReadingOn::new(image);
        while !self.stopped() && self.ticket.now().generation == generation {
            let Some(chunk) = self.shelf.claim_next() else {
                if self.shelf.is_complete() {
                    break;
                }
                self.shelf.pause(LOOK);
                continue;
            };
            let mut member = self.spare.take(usize::try_from(chunk.size)?);
            if let Err(error) = reader.read(&mut member, chunk.offset) {
                self.shelf.release(chunk.number);
                return Err(error)
                    .with_context(|| format!("reading {} at {}", image.name(), chunk.offset));
            }
            self.bring(chunk, member, None);
        }
        Ok(())
    }

    fn bring(&self, chunk: Chunk, member: Vec<u8>, from: Option<SocketAddr>) {
        self.received
            .fetch_add(member.len() as u64, Ordering::Relaxed);
        let brought = Brought {
            chunk,
            member,
            from,
        };
        self.queue.push(brought, &self.stop);
    }

    fn take_from_peer(&self, generation: u64, address: SocketAddr, leaf: bool) {
        let wanted = self.shelf.wanted();
        if wanted.is_empty() {
            // All came; some of it is not proven yet.
            self.shelf.pause(LOOK);
            return;
        }
        let asked = wanted.len();
        let ended = match self.meet(address, &Asked { wanted, leaf }) {
            Ok(link) => {
                let mut parent = Parent {
                    run: self,
                    generation,
                    address,
                    link,
                    hearing: Hearing::new(self.now(), asked, leaf),
                };
                parent.listen()
            }
            Err(error) => Ended::Fault(Fault::Unreachable, error.to_string()),
        };
        match ended {
            Ended::Moved | Ended::Sent => {}
            Ended::Fault(fault, why) => {
                self.blame(address, fault, &why);
            }
        }
    }

    fn meet(&self, address: SocketAddr, asked: &Asked) -> io::Result<Link> {
        let mut link = Link::connect(address, self.node.tls())?;
        self.session.ask(&mut link, asked)?;
        Ok(link)
    }
}

/// A parent that this machine listens to.
struct Parent<'a> {
    run: &'a Run<'a>,
    generation: u64,
    address: SocketAddr,
    link: Link,
    hearing: Hearing,
}

impl Parent<'_> {
    fn listen(&mut self) -> Ended {
        let (count, largest) = (self.run.shelf.count(), self.run.fed.largest_member());
        loop {
            let mut head = [0; HEAD];
            if let Some(ended) = self.fill(&mut head, self.run.now() + SILENCE) {
                return ended;
            }
            let frame = match Frame::parse(head, count, largest) {
                Ok(frame) => frame,
                Err(error) => return Ended::Fault(Fault::Wrong, error.to_string()),
            };
            match self.hearing.frame(self.run.now(), frame, &self.run.shelf) {
                Heard::Ended(ended) => return ended,
                Heard::GoOn => {}
                Heard::Member(chunk, length) => {
                    if let Some(ended) = self.member(chunk, length) {
                        return ended;
                    }
                }
            }
        }
    }

    fn member(&mut self, chunk: Chunk, length: usize) -> Option<Ended> {
        let mut member = self.run.spare.take(length);
        let until = Hearing::due(self.run.now(), length);
        if let Some(ended) = self.fill(&mut member, until) {
            self.run.shelf.release(chunk.number);
            return Some(ended);
        }
        let came = self.run.now();
        self.hearing.member(came);
        self.run.bring(chunk, member, Some(self.address));
        self.hearing.was_busy(came, self.run.now());
        None
    }

    /// Fills `bytes` by the time `until`; why not, where it cannot.
    fn fill(&mut self, bytes: &mut [u8], until: Duration) -> Option<Ended> {
        let mut done = 0;
        while done < bytes.len() {
            if self.run.stopped() || self.run.ticket.now().generation != self.generation {
                return Some(Ended::Moved);
            }
            let silent = |what: String| Some(Ended::Fault(Fault::Silent, what));
            let hung_up = |what: String| Some(self.hearing.hung_up(self.run.now(), what));
            match self.link.read(&mut bytes[done..]) {
                Ok(0) => return hung_up("it hung up".into()),
                Ok(read) => {
                    done += read;
                    let now = self.run.now();
                    self.hearing.bytes(now);
                    if done < bytes.len() && now > until {
                        return silent("it sends slower than any line is".into());
                    }
                }
                Err(error) if !is_pause(&error) => return hung_up(error.to_string()),
                Err(_) if self.hearing.is_gone(self.run.now()) => {
                    return silent(format!("it said nothing for {} s", SILENCE.as_secs()));
                }
                Err(_) => {}
            }
        }
        None
    }
}

/// Proves and writes what comes, until the run ends.
pub fn work(run: &Run<'_>) -> anyhow::Result<()> {
    let mut hand = run.fed.hand()?;
    while !run.stopped() {
        let Some(mut brought) = run.queue.pop() else {
            continue;
        };
        let chunk = brought.chunk;
        run.in_hand.take(run.now());
        let mut is_right = hand.put(&chunk, &brought.member)?;
        while !is_right && brought.from.is_none() {
            // It may have been changed on its way, or there are several places to have it from.
            let elsewhere = run.fed.image().came_wrong(chunk.bytes());
            brought.member = again(run, &chunk)?;
            is_right = hand.put(&chunk, &brought.member)?;
            if !is_right && !elsewhere {
                bail!(
                    "chunk {} at {} in {} is not what the index says",
                    chunk.number,
                    chunk.offset,
                    run.fed.image().name()
                );
            }
        }
        run.in_hand.done(run.now());
        if is_right {
            let freed = run.shelf.proven(chunk.number, brought.member);
            run.spare.give(freed);
            continue;
        }
        run.shelf.release(chunk.number);
        if let Some(peer) = brought.from {
            let what = format!("chunk {} came wrong; it was not written", chunk.number);
            run.blame(peer, Fault::Wrong, &what);
        }
    }
    Ok(())
}

fn again(run: &Run<'_>, chunk: &Chunk) -> anyhow::Result<Vec<u8>> {
    let image = run.fed.image();
    let place = format!(
        "chunk {} at {} in {}",
        chunk.number,
        chunk.offset,
        image.name()
    );
    run.node
        .warn(format!("{place} came wrong: it is read once more"));
    let mut member = vec![0; usize::try_from(chunk.size)?];
    image
        .read_exact_at(&mut member, chunk.offset)
        .with_context(|| format!("reading {place}"))?;
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_stands_still_where_nothing_in_hand_is_done_for_a_while() {
        let at = Duration::from_millis;
        let hand = InHand::default();
        assert!(!hand.stands_still(at(9000)), "there is nothing to do");
        hand.take(at(9000));
        hand.take(at(9250));
        assert!(!hand.stands_still(at(9299)));
        assert!(hand.stands_still(at(9300)));
        hand.done(at(9400));
        assert!(!hand.stands_still(at(9600)));
        assert!(hand.stands_still(at(9700)));
        hand.done(at(9700));
        assert!(!hand.stands_still(at(20_000)));
    }

    #[test]
    fn a_queue_that_had_no_room_says_so_once() {
        let queue = Queue::default();
        let stop = AtomicBool::new(false);
        let brought = || Brought {
            chunk: Chunk {
                number: 0,
                offset: 0,
                size: 1,
                hash: [0; 32],
            },
            member: Vec::new(),
            from: None,
        };
        for _ in 0..QUEUE {
            queue.push(brought(), &stop);
        }
        assert!(!queue.was_full());
        std::thread::scope(|scope| {
            scope.spawn(|| queue.push(brought(), &stop));
            while !queue.was_full() {
                std::thread::yield_now();
            }
            assert!(queue.pop().is_some());
        });
        queue.was_full();
        assert!(!queue.was_full());
    }
}
