//! Transfers under way. A request that is repeated because the answer is slow begins no second one; a machine that was
//! reset, and asks again from the same port, gets one, and its old one ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Machines that are served at once. More of them ask again after a second or two, as every client does.
pub const MOST_CLIENTS: usize = 1024;

/// Transfers to one port: the one that goes on, and another one or two that may take its place.
const MOST_OF_ONE: usize = 3;

#[derive(Default)]
pub struct Turns {
    next: AtomicU64,
    table: Mutex<Vec<Entry>>,
}

struct Entry {
    number: u64,
    peer: SocketAddr,
    question: Vec<u8>,
    /// The client has acknowledged something: it is not waiting for a first answer.
    begun: bool,
    over: Arc<AtomicBool>,
}

/// One transfer's place among the others; given back when it is dropped.
pub struct Turn {
    turns: Arc<Turns>,
    number: u64,
    peer: SocketAddr,
    begun: AtomicBool,
    over: Arc<AtomicBool>,
}

impl Turns {
    /// A place for what `peer` asks for in the packet `question`, if it is not the same one again and there is room.
    /// With other options it is another question: boot ROMs ask for the size first.
    pub fn begin(self: &Arc<Self>, peer: SocketAddr, question: &[u8]) -> Option<Turn> {
        let mut table = self.lock();
        let repeated =
            |entry: &Entry| entry.peer == peer && !entry.begun && entry.question == question;
        let of_peer = table.iter().filter(|entry| entry.peer == peer).count();
        if table.len() >= MOST_CLIENTS || of_peer >= MOST_OF_ONE || table.iter().any(repeated) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let over = Arc::new(AtomicBool::new(false));
        table.push(Entry {
            number,
            peer,
            question: question.to_owned(),
            begun: false,
            over: Arc::clone(&over),
        });
        Some(Turn {
            turns: Arc::clone(self),
            number,
            peer,
            begun: AtomicBool::new(false),
            over,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The client takes part in this transfer. It does so in one at a time: any other to the same port is over. Not
    /// before: a request that the network delivered twice must not end the transfer that it began.
    pub fn acknowledged(&self) {
        if self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        for entry in self.turns.lock().iter_mut() {
            if entry.number == self.number {
                entry.begun = true;
            } else if entry.peer == self.peer {
                entry.over.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the client has begun another one.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns
            .lock()
            .retain(|entry| entry.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_question_is_one_and_a_new_one_ends_the_old_transfer_when_it_is_answered() {
        let turns = Arc::new(Turns::default());
        let peer = "127.0.0.1:2070".parse().unwrap();
        let old = turns.begin(peer, b"pxelinux.0").unwrap();
        assert!(turns.begin(peer, b"pxelinux.0").is_none());
        old.acknowledged();
        let new = turns.begin(peer, b"pxelinux.0").unwrap();
        assert!(turns.begin(peer, b"pxelinux.0").is_none());
        assert!(!old.is_over());
        new.acknowledged();
        assert!(old.is_over() && !new.is_over());
        drop(old);
        drop(new);
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let turns = Arc::new(Turns::default());
        let peer = "127.0.0.1:2070".parse().unwrap();
        let taken: Vec<_> = (0..9u8)
            .map_while(|file| turns.begin(peer, &[file]))
            .collect();
        assert_eq!(taken.len(), MOST_OF_ONE);
        let ports: Vec<_> = (1..=2000)
            .filter_map(|port| turns.begin(SocketAddr::new(peer.ip(), port), b"x"))
            .collect();
        assert_eq!(ports.len() + taken.len(), MOST_CLIENTS);
    }
}
