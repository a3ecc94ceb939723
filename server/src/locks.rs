//! Who changes a file: one at a time, and whoever changes another one does not wait.

use crate::path::RelPath;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two files share a lock now and then: they wait for each other as long as a rename takes.
const LOCKS: usize = 256;

/// Held from the check of a condition to the change it allows, so that of two that fit one fails. Never held while a
/// disk is flushed: all uploads would wait for one.
pub struct Locks {
    hasher: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Locks {
    /// Waits for whoever changes the same file.
    pub fn one(&self, path: &RelPath) -> MutexGuard<'_, ()> {
        self.at(self.number(path))
    }

    /// Both files of a move. In one order always: two moves the other way round would wait for each other for ever.
    pub fn both(
        &self,
        a: &RelPath,
        b: &RelPath,
    ) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let (a, b) = (self.number(a), self.number(b));
        let first = self.at(a.min(b));
        (first, (a != b).then(|| self.at(a.max(b))))
    }

    fn number(&self, path: &RelPath) -> usize {
        let hash = self.hasher.hash_one(path.as_str());
        usize::try_from(hash % LOCKS as u64).unwrap_or_default()
    }

    fn at(&self, number: usize) -> MutexGuard<'_, ()> {
        // Whoever panicked while it held the lock changed nothing by halves: a rename is one step.
        self.locks[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn moves_the_other_way_round_do_not_wait_for_each_other_for_ever() {
        let locks = Arc::new(Locks::default());
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let locks = Arc::clone(&locks);
                std::thread::spawn(move || {
                    for number in 0..2000 {
                        let a = RelPath::from_text(&format!("a{}", number % 7)).unwrap();
                        let b = RelPath::from_text(&format!("b{}", number % 5)).unwrap();
                        let _both = if thread % 2 == 0 {
                            locks.both(&a, &b)
                        } else {
                            locks.both(&b, &a)
                        };
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let path = RelPath::from_text("a").unwrap();
        drop(locks.both(&path, &path));
        drop(locks.one(&path));
    }
}
