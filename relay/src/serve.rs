//! What children get: a long answer each, as fast as they take it. Nobody waits for a child: what falls out of the window
//! while it was slow, it gets from the disk.

use crate::frame::Frame;
use crate::link::{LOOK, Link};
use crate::node::Run;
use crate::serving::{Say, Serving};
use pitstop_imaging::image::Hand;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// More children than this have no place: a plan gives one, and some who are slow.
const MOST_CHILDREN: usize = 32;
/// Callers that have not shown the session's key yet. When there are more, the one that has waited the longest goes: a child has
/// shown its own in a moment, and who only holds a place must keep nobody out.
const MOST_CALLERS: usize = 32;
/// Between two looks for a child that calls.
const CALLS: Duration = Duration::from_millis(20);

/// Counts something for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Callers that may be anybody, the first of them first.
#[derive(Default)]
pub(crate) struct Callers {
    waiting: Mutex<VecDeque<(u64, TcpStream)>>,
    numbers: AtomicU64,
}

/// A caller, as long as it may be anybody.
struct Caller<'a> {
    callers: &'a Callers,
    number: u64,
}

impl Callers {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, TcpStream)>> {
        // Each change is one call: whoever panicked left whole values.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, stream: &TcpStream) -> io::Result<Caller<'_>> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting();
        if waiting.len() >= MOST_CALLERS
            && let Some((_, first)) = waiting.pop_front()
        {
            // One that has hung up is gone already.
            let _ = first.shutdown(Shutdown::Both);
        }
        waiting.push_back((number, stream.try_clone()?));
        Ok(Caller {
            callers: self,
            number,
        })
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let mut waiting = self.callers.waiting();
        waiting.retain(|(number, _)| *number != self.number);
    }
}

/// Takes calls until the run ends.
pub fn listen<'scope>(run: &'scope Run<'scope>, scope: &'scope Scope<'scope, '_>) {
    while !run.stopped() {
        match run.node.listener().accept() {
            Ok((stream, _)) => {
                // One that cannot be had is dropped, and goes elsewhere.
                let Ok(caller) = run.callers.add(&stream) else {
                    continue;
                };
                scope.spawn(move || {
                    // A child that went away says so itself to the server.
                    let _ = answer(run, stream, caller);
                });
            }
            // Nobody calls, or who called has hung up.
            Err(_) => thread::sleep(CALLS),
        }
    }
}

fn answer(run: &Run<'_>, stream: TcpStream, caller: Caller<'_>) -> io::Result<()> {
    let answered = answer_whole(run, stream, caller);
    if run.shelf.is_complete() {
        // Perhaps that was the last one it stayed for.
        run.ticket.hurry();
    }
    answered
}

fn answer_whole(run: &Run<'_>, stream: TcpStream, caller: Caller<'_>) -> io::Result<()> {
    let mut link = Link::accept(stream, run.node.tls())?;
    let asked = run.session.answer(&mut link)?;
    drop(caller);
    let _child = Counted::new(&run.children);
    if run.children.load(Ordering::Relaxed) > MOST_CHILDREN {
        // Dropped: the child goes elsewhere.
        return Ok(());
    }
    let mut child = Serving::new(run.now(), &run.shelf, asked.wanted, asked.leaf);
    let mut hand = None;
    let mut busy = None;
    while !run.stopped() {
        match child.next(&run.shelf, run.busy.load(Ordering::Relaxed) > 0) {
            Say::Member(member) => {
                if !child.is_leaf() && busy.is_none() {
                    busy = Some(Counted::new(&run.busy));
                }
                send(run, &mut link, member.chunk, &member.bytes)?;
                child.said(run.now());
            }
            Say::ReadBack(chunk) => match pack(run, &mut hand, &chunk) {
                Some(member) => {
                    send(run, &mut link, chunk.number, &member)?;
                    child.said(run.now());
                }
                None => child.lost(),
            },
            Say::Later => {
                alive(run, &mut link, &mut child)?;
                thread::sleep(CALLS);
            }
            Say::Nothing(news) => {
                busy = None;
                alive(run, &mut link, &mut child)?;
                run.shelf.wait(news, LOOK);
            }
            Say::Last(frame) => return say(&mut link, frame),
        }
    }
    Ok(())
}

/// The member of a chunk that is on the disk; most children never need one.
fn pack<'a>(
    run: &'a Run<'_>,
    hand: &mut Option<Box<dyn Hand + 'a>>,
    chunk: &pitstop_imaging::image::Chunk,
) -> Option<Vec<u8>> {
    if hand.is_none() {
        *hand = run.fed.hand().ok();
    }
    hand.as_mut()?.pack(chunk)
}

fn send(run: &Run<'_>, link: &mut Link, chunk: u64, member: &[u8]) -> io::Result<()> {
    let length = member.len();
    link.write_all(&Frame::Member { chunk, length }.to_bytes())?;
    link.write_all(member)?;
    link.flush()?;
    run.sent.fetch_add(length as u64, Ordering::Relaxed);
    Ok(())
}

fn alive(run: &Run<'_>, link: &mut Link, child: &mut Serving) -> io::Result<()> {
    if child.owes_a_sign(run.now()) {
        child.said(run.now());
        say(link, Frame::Alive)?;
    }
    Ok(())
}

fn say(link: &mut Link, frame: Frame) -> io::Result<()> {
    link.write_all(&frame.to_bytes())?;
    link.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    #[test]
    fn who_only_holds_a_place_keeps_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let callers = Callers::default();
        let call = || {
            let own = TcpStream::connect(address).unwrap();
            own.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let (theirs, _) = listener.accept().unwrap();
            let caller = callers.add(&theirs).unwrap();
            (own, theirs, caller)
        };
        let mut idle: Vec<_> = (0..MOST_CALLERS).map(|_| call()).collect();
        let (mut child, mut parent, caller) = call();
        assert_eq!(idle[0].0.read(&mut [0]).unwrap(), 0, "hung up on");
        parent.write_all(b"x").unwrap();
        assert_eq!(child.read(&mut [0]).unwrap(), 1);
        assert_eq!(callers.waiting().len(), MOST_CALLERS);
        // A child that has shown its key is no caller any more, and nobody takes its place.
        drop(caller);
        idle.push(call());
        idle.push(call());
        assert_eq!(idle[1].0.read(&mut [0]).unwrap(), 0);
        parent.write_all(b"x").unwrap();
        assert_eq!(child.read(&mut [0]).unwrap(), 1);
        drop(idle);
        assert!(callers.waiting().is_empty());
    }
}
