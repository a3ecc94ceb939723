//! What children get: a long answer each, as fast as they take it. Nobody waits for a child: what falls out of the window
//! while it was slow, it gets from the disk.

use crate::frame::Frame;
use crate::link::{LOOK, Link};
use crate::node::Run;
use crate::serving::{Say, Serving};
use pitstop_imaging::image::Hand;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

/// More children than this have no place: a plan gives one, and some who are slow.
const MOST_CHILDREN: usize = 32;
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

/// Takes calls until the run ends.
pub fn listen<'scope>(run: &'scope Run<'scope>, scope: &'scope Scope<'scope, '_>) {
    while !run.stopped() {
        match run.node.listener().accept() {
            Ok((stream, _)) if run.calls.load(Ordering::Relaxed) < MOST_CHILDREN => {
                scope.spawn(move || {
                    let _call = Counted::new(&run.calls);
                    // A child that went away says so itself to the server.
                    let _ = answer(run, stream);
                });
            }
            // Dropped: the child goes elsewhere.
            Ok(_) => {}
            // Nobody calls, or who called has hung up.
            Err(_) => thread::sleep(CALLS),
        }
    }
}

fn answer(run: &Run<'_>, stream: TcpStream) -> io::Result<()> {
    let answered = answer_whole(run, stream);
    if run.shelf.is_complete() {
        // Perhaps that was the last one it stayed for.
        run.ticket.hurry();
    }
    answered
}

fn answer_whole(run: &Run<'_>, stream: TcpStream) -> io::Result<()> {
    let mut link = Link::accept(stream, run.node.tls())?;
    let asked = run.session.answer(&mut link)?;
    let _child = Counted::new(&run.children);
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
