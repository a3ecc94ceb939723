//! Which images a mirror has, how much room they take, and which of them goes when another comes.

use super::held::Held;
use crate::refusal::Refusal;
use axum::http::StatusCode;
use blake3::Hash;
use nix::sys::statvfs::statvfs;
use pitstop_imaging::units;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

/// What a file's name ends with until all of the image is there.
pub const HALF: &str = ".part";
/// And afterwards.
pub const WHOLE: &str = ".image";

pub struct Shelf {
    folder: PathBuf,
    /// Bytes, of all together.
    most: u64,
    slots: Mutex<BTreeMap<[u8; 32], Slot>>,
    /// Somebody has opened an image, or could not.
    opened: Condvar,
}

struct Slot {
    /// Of the file when it is whole: the room is taken from the beginning.
    size: u64,
    used: SystemTime,
    state: State,
}

enum State {
    /// Somebody looks for it, and says here why it cannot be had.
    Opening(Arc<Why>),
    /// On the disk, and not looked at since the server began.
    Closed,
    Open(Arc<Held>),
}

/// Status and reason, once there is one.
type Why = OnceLock<(StatusCode, String)>;

/// What is on the shelf of an image.
pub enum Found<'a> {
    Open(Arc<Held>),
    /// A file of an earlier run of the server.
    Closed(Opening<'a>),
    Missing(Opening<'a>),
    /// It was waited for, and could not be had.
    Failed(Refusal),
}

/// An image that whoever holds this opens; all others wait.
pub struct Opening<'a> {
    shelf: &'a Shelf,
    digest: Hash,
    why: Arc<Why>,
    done: bool,
}

/// What a mirror holds, for people.
pub struct Told {
    pub images: Vec<(Hash, Image)>,
    pub most: u64,
}

pub struct Image {
    pub size: u64,
    pub used: SystemTime,
    /// Bytes that are here and proven; `None` where nobody looked yet.
    pub here: Option<u64>,
    pub in_use: bool,
}

impl Told {
    /// `3 images, 12 GiB of 100 GiB`
    pub fn line(&self) -> String {
        let count = self.images.len();
        let images = if count == 1 { "image" } else { "images" };
        let taken = self.images.iter().map(|(_, image)| image.size).sum();
        format!(
            "{count} {images}, {} of {}",
            units::bytes(taken),
            units::bytes(self.most)
        )
    }
}

impl Shelf {
    /// Takes stock of `folder`. What it has beyond `most` bytes goes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(folder: &Path, most: u64) -> io::Result<Self> {
        let mut slots = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stem = name.strip_suffix(HALF).or(name.strip_suffix(WHOLE));
            let Some(digest) = stem.and_then(|stem| Hash::from_hex(stem).ok()) else {
                continue;
            };
            let found = entry.metadata()?;
            let slot = Slot {
                size: found.len(),
                used: found.modified()?,
                state: State::Closed,
            };
            slots.insert(*digest.as_bytes(), slot);
        }
        let shelf = Self {
            folder: folder.to_owned(),
            most,
            slots: Mutex::new(slots),
            opened: Condvar::new(),
        };
        shelf.make_room(&mut shelf.slots(), 0);
        Ok(shelf)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Slot>> {
        // Each change is one call: whoever panicked left whole values.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is here of an image. While somebody opens it, it is waited for. Who waited hears how that ended: would each try for itself,
    /// one after the other, the last of many would wait for a quarter of an hour where the origin does not answer.
    pub fn find(&self, digest: Hash) -> Found<'_> {
        let mut slots = self.slots();
        loop {
            let Some(slot) = slots.get_mut(digest.as_bytes()) else {
                let opening = Opening::of(self, digest);
                let slot = Slot {
                    size: 0,
                    used: SystemTime::now(),
                    state: State::Opening(Arc::clone(&opening.why)),
                };
                slots.insert(*digest.as_bytes(), slot);
                return Found::Missing(opening);
            };
            slot.used = SystemTime::now();
            match &slot.state {
                State::Open(held) => return Found::Open(Arc::clone(held)),
                State::Closed => {
                    let opening = Opening::of(self, digest);
                    slot.state = State::Opening(Arc::clone(&opening.why));
                    return Found::Closed(opening);
                }
                State::Opening(why) => {
                    let why = Arc::clone(why);
                    let woken = self.opened.wait(slots);
                    slots = woken.unwrap_or_else(PoisonError::into_inner);
                    if let Some((status, why)) = why.get() {
                        return Found::Failed(Refusal::new(*status, why.as_str()));
                    }
                }
            }
        }
    }

    /// Has images go until all that stay and `more` bytes fit: those that were not asked for the longest, and none that is in use.
    fn make_room(&self, slots: &mut BTreeMap<[u8; 32], Slot>, more: u64) -> bool {
        loop {
            let taken: u64 = slots.values().map(|slot| slot.size).sum();
            if taken.saturating_add(more) <= self.most {
                return true;
            }
            if !self.drop_one(slots) {
                return false;
            }
        }
    }

    fn drop_one(&self, slots: &mut BTreeMap<[u8; 32], Slot>) -> bool {
        let free = slots.iter().filter(|(_, slot)| !slot.is_in_use());
        let oldest = free.min_by_key(|(_, slot)| slot.used);
        let Some(digest) = oldest.map(|(digest, _)| *digest) else {
            return false;
        };
        slots.remove(&digest);
        self.remove_files(Hash::from_bytes(digest));
        true
    }

    /// Has the image go that was not asked for the longest, where the disk is fuller than it was said to get. Nothing goes for what would
    /// not fit without all of them either.
    pub fn make_room_on_disk(&self, size: u64) -> bool {
        let mut slots = self.slots();
        let unused = slots.values().filter(|slot| !slot.is_in_use());
        let unused: u64 = unused.map(|slot| slot.size).sum();
        let free = statvfs(&self.folder).map_or(0, |space| {
            let free = space.blocks_available();
            free.saturating_mul(space.fragment_size())
        });
        size <= free.saturating_add(unused) && self.drop_one(&mut slots)
    }

    pub fn full(&self, size: u64) -> Refusal {
        let what = format!(
            "the mirror has no room for an image of {}: it keeps {}, and what is in use stays (--mirror-size)",
            units::bytes(size),
            units::bytes(self.most)
        );
        Refusal::new(StatusCode::INSUFFICIENT_STORAGE, what)
    }

    fn remove_files(&self, digest: Hash) {
        for end in [HALF, WHOLE] {
            // What is not there takes no room either.
            let _ = fs::remove_file(self.path(digest, end));
        }
    }

    fn path(&self, digest: Hash, end: &str) -> PathBuf {
        self.folder.join(format!("{}{end}", digest.to_hex()))
    }

    pub fn told(&self) -> Told {
        let slots = self.slots();
        let images = slots.iter().filter(|(_, slot)| slot.size > 0);
        let images = images.map(|(digest, slot)| {
            let image = Image {
                size: slot.size,
                used: slot.used,
                here: match &slot.state {
                    State::Open(held) => Some(held.here()),
                    State::Opening(_) | State::Closed => None,
                },
                in_use: slot.is_in_use(),
            };
            (Hash::from_bytes(*digest), image)
        });
        Told {
            images: images.collect(),
            most: self.most,
        }
    }
}

impl Slot {
    /// Whether it is being opened, filled or read. New users come by the shelf's lock alone.
    fn is_in_use(&self) -> bool {
        match &self.state {
            State::Opening(_) => true,
            State::Closed => false,
            State::Open(held) => Arc::strong_count(held) > 1,
        }
    }
}

impl<'a> Opening<'a> {
    fn of(shelf: &'a Shelf, digest: Hash) -> Self {
        Self {
            shelf,
            digest,
            why: Arc::default(),
            done: false,
        }
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
    pub fn done(mut self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        let slot = Slot {
            size: held.size(),
            used: SystemTime::now(),
            state: State::Open(Arc::clone(&held)),
        };
        self.shelf.slots().insert(*self.digest.as_bytes(), slot);
        self.done = true;
        held
    }

    /// It cannot be had: those who wait hear why.
    pub fn failed(self, refusal: &Refusal) {
        // Nobody else says anything.
        let _ = self.why.set((refusal.status, refusal.reason.clone()));
    }

    /// What was on the disk is of no use.
    pub fn lost(self) {
        self.shelf.remove_files(self.digest);
    }
}

impl Drop for Opening<'_> {
    /// Where it could not be opened, the next who asks tries again.
    fn drop(&mut self) {
        if !self.done {
            self.shelf.slots().remove(self.digest.as_bytes());
        }
        self.shelf.opened.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn who_waits_for_what_cannot_be_had_hears_why_and_does_not_try_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path(), 1000).unwrap();
        let digest = blake3::hash(b"an image");
        let Found::Missing(opening) = shelf.find(digest) else {
            panic!("nobody has it");
        };
        let hears = || match shelf.find(digest) {
            Found::Failed(refusal) => refusal.reason,
            _ => "it is open".to_owned(),
        };
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(hears)).collect();
            let began = Instant::now();
            // The slot's, this one, and one of each who waits.
            while Arc::strong_count(&opening.why) < 2 + waiting.len() {
                assert!(began.elapsed() < Duration::from_secs(60));
                thread::sleep(Duration::from_millis(1));
            }
            let away = Refusal::new(StatusCode::BAD_GATEWAY, "the origin is away");
            opening.failed(&away);
            for one in waiting {
                assert_eq!(one.join().unwrap(), "the origin is away");
            }
        });
        // Who comes later tries anew.
        assert!(matches!(shelf.find(digest), Found::Missing(_)));
    }
}
