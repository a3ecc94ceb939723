//! One image to many machines: each gets it from another that restores it too, and the server sends it about once.
//!
//! The server plans who gets it from whom ([`Coordinator`]): a chain, each machine with one parent and mostly one child. A
//! [`Node`] is one restore in it: it takes members from its parent, has the engine prove and write each, and only then lets
//! its children have it. What a member is, its hash in the index tells, so that nobody has to be trusted: a peer can be
//! slow, silent or lie, and is left out then.
//!
//! Between peers go frames without a state (`frame`): the child says once which chunks it wants, and gets them in the order
//! in which the parent has them. So a child that comes late, was too slow or lost its parent just asks another one.

mod bitmap;
mod coordinator;
mod frame;
mod hearing;
mod hello;
mod intake;
mod join;
mod link;
mod manners;
mod memory;
mod message;
mod node;
#[cfg(test)]
mod room;
mod serve;
mod serving;
mod shelf;
mod spare;
mod ticket;
mod window;

pub use coordinator::{Coordinator, Notice};
pub use join::{join, join_by_digest};
pub use message::{
    Answer, BadMessage, Complaint, Fault, MOST_BYTES, Report, Source, Stage, Standing, VERSION,
};
pub use node::{Node, NotJoined, Place};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock whatever happened to its last holder: every holder leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
