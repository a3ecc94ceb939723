//! How chunks come in: from the parent, or from the server for those who have a ticket for it. What comes is only claimed
//! here; workers have it proven and written.

use crate::frame::{Frame, HEAD};
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
use std::time::{Duration, Instant};

/// Members that wait for a worker.
const QUEUE: usize = 8;
/// A parent that says nothing for so long is gone: each says something twice a second.
const SILENCE: Duration = Duration::from_secs(3);
/// A parent that lives and gives nothing is left, if the server has not said something better by then. Who is served after
/// others has more patience.
const NOTHING: Duration = Duration::from_secs(15);
const NOTHING_FOR_LEAF: Duration = Duration::from_secs(90);
/// For each KiB of a member: no line is slower.
const SLOWEST: Duration = Duration::from_millis(15);

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
}

impl Queue {
    /// Waits for room. What comes after `stop` is dropped.
    fn push(&self, brought: Brought, stop: &AtomicBool) {
        let mut waiting = lock(&self.waiting);
        while waiting.len() >= QUEUE && !stop.load(Ordering::Relaxed) {
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

/// Why a parent sends no more.
enum Ended {
    /// There is another source now, or an end to everything.
    Moved,
    /// All that was asked for was sent.
    Sent,
    Fault(Fault, String),
}

impl Run<'_> {
    /// Brings in all that is wanted, from whatever source the ticket names.
    ///
    /// # Errors
    /// The server's stream broke for good; or another thread failed.
    pub(crate) fn intake(&self) -> anyhow::Result<()> {
        let mut without = Instant::now();
        while !self.shelf.is_complete() {
            self.check()?;
            let now = self.ticket.now();
            match now.source {
                None => {
                    self.ticket.wait(now.generation, LOOK);
                    if without.elapsed() > self.node.patience() {
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
            without = Instant::now();
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
            let mut member = vec![0; usize::try_from(chunk.size)?];
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
                    heard: Instant::now(),
                    left: asked,
                    patience: if leaf { NOTHING_FOR_LEAF } else { NOTHING },
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
    /// When a byte came last.
    heard: Instant,
    /// Chunks that were asked for and did not come.
    left: u64,
    /// How long it may give nothing.
    patience: Duration,
}

impl Parent<'_> {
    fn listen(&mut self) -> Ended {
        let (count, largest) = (self.run.shelf.count(), self.run.fed.largest_member());
        let mut useful = Instant::now();
        loop {
            let mut head = [0; HEAD];
            if let Some(ended) = self.fill(&mut head, Instant::now() + SILENCE) {
                return ended;
            }
            match Frame::parse(head, count, largest) {
                Err(error) => return Ended::Fault(Fault::Wrong, error.to_string()),
                Ok(Frame::End) if self.left > 0 => {
                    let what = "it says that it sent all, and did not".into();
                    return Ended::Fault(Fault::Wrong, what);
                }
                Ok(Frame::End) => return Ended::Sent,
                Ok(Frame::Lacks) => {
                    return Ended::Fault(Fault::Lacks, "it does not have the rest".into());
                }
                Ok(Frame::Alive) if useful.elapsed() > self.patience => {
                    let what = format!("it gave nothing for {} s", self.patience.as_secs());
                    return Ended::Fault(Fault::Silent, what);
                }
                Ok(Frame::Alive) => {}
                Ok(Frame::Member { chunk, length }) => {
                    if let Some(ended) = self.member(chunk, length) {
                        return ended;
                    }
                    useful = Instant::now();
                }
            }
        }
    }

    fn member(&mut self, number: u64, length: usize) -> Option<Ended> {
        let Some(chunk) = self.run.shelf.claim(number) else {
            let what = format!("it sent chunk {number}, which was not wanted");
            return Some(Ended::Fault(Fault::Wrong, what));
        };
        let mut member = vec![0; length];
        let until = Instant::now() + NOTHING + SLOWEST * u32::try_from(length >> 10).unwrap_or(0);
        if let Some(ended) = self.fill(&mut member, until) {
            self.run.shelf.release(number);
            return Some(ended);
        }
        self.left = self.left.saturating_sub(1);
        self.run.bring(chunk, member, Some(self.address));
        None
    }

    /// Fills `bytes` by the time `until`; why not, where it cannot.
    fn fill(&mut self, bytes: &mut [u8], until: Instant) -> Option<Ended> {
        let mut done = 0;
        while done < bytes.len() {
            if self.run.stopped() || self.run.ticket.now().generation != self.generation {
                return Some(Ended::Moved);
            }
            match self.link.read(&mut bytes[done..]) {
                Ok(0) => return Some(Ended::Fault(Fault::Silent, "it hung up".into())),
                Ok(read) => {
                    done += read;
                    self.heard = Instant::now();
                    if done < bytes.len() && self.heard > until {
                        let what = "it sends slower than any line is".into();
                        return Some(Ended::Fault(Fault::Silent, what));
                    }
                }
                Err(error) if is_pause(&error) && self.heard.elapsed() < SILENCE => {}
                Err(error) => {
                    let what = if is_pause(&error) {
                        format!("it said nothing for {} s", SILENCE.as_secs())
                    } else {
                        error.to_string()
                    };
                    return Some(Ended::Fault(Fault::Silent, what));
                }
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
        let mut is_right = hand.put(&chunk, &brought.member)?;
        if !is_right && brought.from.is_none() {
            // It may have been changed on its way.
            brought.member = again(run, &chunk)?;
            is_right = hand.put(&chunk, &brought.member)?;
            if !is_right {
                bail!(
                    "chunk {} at {} in {} is not what the index says",
                    chunk.number,
                    chunk.offset,
                    run.fed.image().name()
                );
            }
        }
        if is_right {
            run.shelf.proven(chunk.number, brought.member);
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
