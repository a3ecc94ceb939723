//! An image on its way to be open: one opens it, all others wait for what comes of it.

use super::{Shelf, Slot, State};
use crate::mirror::held::Held;
use crate::refusal::Refusal;
use axum::http::StatusCode;
use blake3::Hash;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// An image that somebody opens: since when, and what came of it.
pub struct Awaited {
    since: Instant,
    outcome: OnceLock<Outcome>,
}

struct Outcome {
    at: Instant,
    what: Result<Arc<Held>, (StatusCode, String)>,
}

impl Awaited {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            outcome: OnceLock::new(),
        })
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    /// What came of it, for all who wait; `None` as long as nothing did.
    pub fn outcome(&self) -> Option<Result<Arc<Held>, Refusal>> {
        let outcome = self.outcome.get()?.what.as_ref();
        let refused = |(status, why): &(StatusCode, String)| Refusal::new(*status, why.as_str());
        Some(outcome.map(Arc::clone).map_err(refused))
    }

    fn ends(&self, what: Result<Arc<Held>, (StatusCode, String)>) {
        let at = Instant::now();
        // Whoever opens it says so once.
        let _ = self.outcome.set(Outcome { at, what });
    }

    /// How long it is over at this time.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let ended = self.outcome.get().map(|outcome| outcome.at);
        ended.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.outcome()?.err()
    }
}

/// An image that whoever holds this opens; all others wait.
pub struct Opening {
    shelf: Arc<Shelf>,
    digest: Hash,
    awaited: Arc<Awaited>,
    /// What becomes of its place when this is dropped.
    then: Then,
}

pub(super) enum Then {
    /// It is open.
    Open,
    /// Nothing is there.
    Gone,
    /// Its file is there, with so many bytes.
    Closed(u64),
}

impl Opening {
    pub(super) fn of(shelf: &Arc<Shelf>, digest: Hash, then: Then) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            digest,
            awaited: Awaited::new(),
            then,
        }
    }

    pub fn awaited(&self) -> Arc<Awaited> {
        Arc::clone(&self.awaited)
    }

    /// Where its files are, without their ending.
    pub fn path(&self) -> PathBuf {
        self.shelf.path(self.digest, "")
    }

    /// Takes the room for `size` bytes; whether there was any to be had. What is too large altogether drives nothing out.
    pub fn reserve(&self, size: u64) -> bool {
        let mut slots = self.shelf.slots();
        let fits = size <= self.shelf.most && self.shelf.make_room(&mut slots, size);
        if fits && let Some(slot) = slots.get_mut(self.digest.as_bytes()) {
            slot.size = size;
        }
        fits
    }

    /// It is open: those who wait have it too.
    pub fn done(mut self, held: Held) {
        let held = Arc::new(held);
        // Those who wait hold it: it is in use from the first moment on.
        self.awaited.ends(Ok(Arc::clone(&held)));
        let slot = Slot {
            size: held.size(),
            used: SystemTime::now(),
            state: State::Open(held),
        };
        self.shelf.slots().insert(*self.digest.as_bytes(), slot);
        self.then = Then::Open;
    }

    /// It cannot be had now, and what is on the disk stays: those who wait hear why.
    pub fn failed(self, refusal: &Refusal) {
        self.awaited
            .ends(Err((refusal.status, refusal.reason.clone())));
    }

    /// What was on the disk is of no use.
    pub fn lost(mut self) {
        self.shelf.remove_files(self.digest);
        self.then = Then::Gone;
    }
}

/// The shelf has one, and the opening.
const OWN: usize = 2;

impl Drop for Opening {
    /// Where it could not be opened, the next who asks tries again.
    fn drop(&mut self) {
        let mut slots = self.shelf.slots();
        let unheard = self.awaited.refusal().is_some() && Arc::strong_count(&self.awaited) <= OWN;
        match (&self.then, slots.get_mut(self.digest.as_bytes())) {
            (Then::Open, _) | (_, None) => {}
            (Then::Closed(size), Some(slot)) => {
                slot.size = *size;
                slot.state = State::Closed;
            }
            (Then::Gone, Some(slot)) if unheard => {
                slot.size = 0;
                slot.state = State::Failed(Arc::clone(&self.awaited));
            }
            (Then::Gone, Some(_)) => {
                slots.remove(self.digest.as_bytes());
            }
        }
        drop(slots);
        self.shelf.opened.send_replace(());
    }
}
