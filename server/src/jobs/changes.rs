//! Many changes by one writer.

use super::store::{Locked, Store};

/// Changes under one lock: a fraction of a second's.
const AT_ONCE: u32 = 50;

/// A lock for many changes. It is let go and taken anew now and then, so that others get their turn.
pub struct Changes {
    store: Store,
    held: Option<Locked>,
    left: u32,
}

impl Changes {
    pub fn of(store: &Store) -> Self {
        Self {
            store: store.clone(),
            held: None,
            left: 0,
        }
    }

    /// For the next change.
    pub fn locked(&mut self) -> anyhow::Result<&Locked> {
        if self.left == 0 {
            // Before it is taken anew: it is the same lock.
            self.held = None;
            self.left = AT_ONCE;
        }
        self.left -= 1;
        let held = match self.held.take() {
            Some(held) => held,
            None => self.store.lock()?,
        };
        Ok(self.held.insert(held))
    }
}
