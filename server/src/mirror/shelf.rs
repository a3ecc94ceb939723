//! Which images a mirror has, how much room they take, and which of them goes when another comes.

mod opening;

use opening::Then;
pub use opening::{Awaited, Opening};

use super::held::Held;
use crate::refusal::Refusal;
use axum::http::StatusCode;
use blake3::Hash;
use nix::sys::statvfs::statvfs;
use pitstop_imaging::units;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};
use tokio::sync::watch;

/// What a file's name ends with until all of the image is there.
pub const HALF: &str = ".part";
/// And afterwards.
pub const WHOLE: &str = ".image";

/// Whoever asks later than this tries again: an origin that was away yesterday may be back.
const REMEMBERED: Duration = Duration::from_secs(120);

pub struct Shelf {
    folder: PathBuf,
    /// Bytes, of all together.
    most: u64,
    slots: Mutex<BTreeMap<[u8; 32], Slot>>,
    /// Changes when somebody has opened an image, or could not.
    opened: watch::Sender<()>,
}

struct Slot {
    /// Of the file when it is whole: the room is taken from the beginning.
    size: u64,
    used: SystemTime,
    state: State,
}

enum State {
    /// Somebody looks for it.
    Opening(Arc<Awaited>),
    /// It could not be had, and nobody was there any more to hear why: the next who asks does, if he comes soon.
    Failed(Arc<Awaited>),
    /// On the disk, and not looked at since the server began.
    Closed,
    Open(Arc<Held>),
}

/// What is on the shelf of an image.
pub enum Found {
    Open(Arc<Held>),
    /// A file of an earlier run of the server.
    Closed(Opening),
    Missing(Opening),
    /// Somebody opens it.
    Opening(Arc<Awaited>),
    /// It could not be had.
    Failed(Refusal),
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
            opened: watch::channel(()).0,
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

    /// Changes when an image has been opened, or could not be. Who waits asks for this before it looks.
    pub fn opened(&self) -> watch::Receiver<()> {
        self.opened.subscribe()
    }

    /// What is here of an image. Who waits while somebody opens it hears how that ends: would each try for itself, one after the other,
    /// the last of many would wait for a quarter of an hour where the origin does not answer.
    pub fn find(self: &Arc<Self>, digest: Hash) -> Found {
        self.find_at(digest, Instant::now())
    }

    fn find_at(self: &Arc<Self>, digest: Hash, at: Instant) -> Found {
        let mut slots = self.slots();
        let now = SystemTime::now();
        let Some(slot) = slots.get_mut(digest.as_bytes()) else {
            let opening = Opening::of(self, digest, Then::Gone);
            let slot = Slot {
                size: 0,
                used: now,
                state: State::Opening(opening.awaited()),
            };
            slots.insert(*digest.as_bytes(), slot);
            return Found::Missing(opening);
        };
        slot.used = now;
        match &slot.state {
            State::Open(held) => Found::Open(Arc::clone(held)),
            State::Opening(awaited) => Found::Opening(Arc::clone(awaited)),
            State::Closed => {
                let opening = Opening::of(self, digest, Then::Closed(slot.size));
                slot.state = State::Opening(opening.awaited());
                Found::Closed(opening)
            }
            State::Failed(awaited) => {
                let is_fresh = awaited.age(at) < REMEMBERED;
                let refusal = awaited.refusal().filter(|_| is_fresh);
                slots.remove(digest.as_bytes());
                drop(slots);
                match refusal {
                    Some(refusal) => Found::Failed(refusal),
                    None => self.find_at(digest, at),
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
                    State::Opening(_) | State::Failed(_) | State::Closed => None,
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
            State::Failed(_) | State::Closed => false,
            State::Open(held) => Arc::strong_count(held) > 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(found: Found) -> String {
        match found {
            Found::Failed(refusal) => refusal.reason,
            _ => panic!("it was to be refused"),
        }
    }

    #[test]
    fn who_waits_for_what_cannot_be_had_hears_why_and_does_not_try_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::open(folder.path(), 1000).unwrap());
        let digest = blake3::hash(b"an image");
        let Found::Missing(opening) = shelf.find(digest) else {
            panic!("nobody has it");
        };
        let waiting: Vec<_> = (0..3)
            .map(|_| match shelf.find(digest) {
                Found::Opening(awaited) => awaited,
                _ => panic!("somebody opens it"),
            })
            .collect();
        let mut opened = shelf.opened();
        assert!(waiting[0].outcome().is_none() && !opened.has_changed().unwrap());
        opening.failed(&Refusal::new(StatusCode::BAD_GATEWAY, "the origin is away"));
        assert!(opened.has_changed().unwrap());
        for one in &waiting {
            assert_eq!(one.refusal().unwrap().reason, "the origin is away");
        }
        // Who comes later tries anew.
        let Found::Missing(opening) = shelf.find(digest) else {
            panic!("nobody looks for it");
        };
        // Whoever asked has gone away meanwhile: the next one hears it, once.
        opened.mark_unchanged();
        opening.failed(&Refusal::new(StatusCode::BAD_GATEWAY, "still away"));
        assert_eq!(refused(shelf.find(digest)), "still away");
        assert!(matches!(shelf.find(digest), Found::Missing(_)));
    }

    #[test]
    fn what_could_not_be_had_yesterday_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::open(folder.path(), 1000).unwrap());
        let digest = blake3::hash(b"an image");
        let fails = |at| {
            let Found::Missing(opening) = shelf.find_at(digest, at) else {
                panic!("nobody looks for it");
            };
            opening.failed(&Refusal::new(StatusCode::BAD_GATEWAY, "away"));
        };
        let now = Instant::now();
        fails(now);
        // The time of the failure is between these.
        let later = Instant::now() + REMEMBERED;
        fails(later);
        assert_eq!(refused(shelf.find_at(digest, now)), "away");
    }

    #[test]
    fn what_cannot_be_opened_now_stays_unless_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let digest = blake3::hash(b"an image");
        let file = folder.path().join(format!("{}{WHOLE}", digest.to_hex()));
        fs::write(&file, "12345").unwrap();
        let shelf = Arc::new(Shelf::open(folder.path(), 1000).unwrap());
        for _ in 0..2 {
            let Found::Closed(opening) = shelf.find(digest) else {
                panic!("it is on the disk");
            };
            opening.failed(&Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "EMFILE"));
            assert!(file.exists());
            assert_eq!(shelf.told().images[0].1.size, 5);
        }
        let Found::Closed(opening) = shelf.find(digest) else {
            panic!("it is on the disk");
        };
        opening.lost();
        assert!(!file.exists());
        assert!(matches!(shelf.find(digest), Found::Missing(_)));
    }
}
