//! How each chunk of an image was compressed, so that a backup whose machine died can go on.
//!
//! The level `auto` looks at the clock: the same disk makes other bytes the next time, and none of those that are on the
//! share would be of use. So who captures notes how each chunk was compressed, and who goes on does it the same way as
//! long as it finds the bytes there. What one machine makes of a chunk by one method is always the same.

use super::effort::Method;
use super::workers::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a note of any version begins with.
const NOTE: &str = "pitstop levels ";
/// The first line. After it comes a letter for each piece of the disk that was read, in order.
const HEAD: &str = "pitstop levels 1\n";
/// What was not compressed: zeros.
const NOTHING: u8 = b'-';

/// What an earlier capture of a disk did, and what this one does.
#[derive(Debug, Default)]
pub struct Levels {
    earlier: Vec<u8>,
    /// Nothing of what the earlier one did is of use any more.
    left: AtomicBool,
    done: Mutex<Vec<u8>>,
}

impl Levels {
    /// Does what the capture did that wrote this; `None` of anything else.
    pub fn following(text: &[u8]) -> Option<Self> {
        let letters = text.strip_prefix(HEAD.as_bytes())?;
        let known = |letter: &u8| *letter == NOTHING || Method::of_letter(*letter).is_some();
        letters.iter().all(known).then(|| Self {
            earlier: letters.to_vec(),
            ..Self::default()
        })
    }

    /// Whether this is a note, of whatever version.
    pub fn is_note(text: &[u8]) -> bool {
        text.starts_with(NOTE.as_bytes())
    }

    /// From now on chunks are compressed as time allows.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// How the earlier capture compressed what has this ticket.
    pub(super) fn earlier(&self, ticket: u64) -> Option<Method> {
        if self.left.load(Ordering::Relaxed) {
            return None;
        }
        let at = usize::try_from(ticket).ok()?;
        Method::of_letter(*self.earlier.get(at)?)
    }

    /// Notes what became of the next ticket; `None` of zeros.
    pub(super) fn note(&self, method: Option<Method>) {
        lock(&self.done).push(method.map_or(NOTHING, Method::letter));
    }

    /// What [`following`](Self::following) reads.
    pub fn to_text(&self) -> Vec<u8> {
        [HEAD.as_bytes(), &lock(&self.done)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_done_is_done_again_until_it_is_of_no_use() {
        let first = Levels::default();
        let methods = [
            Some(Method::Isal(1)),
            None,
            Some(Method::Libdeflate(8)),
            Some(Method::Libdeflate(3)),
        ];
        for method in methods {
            first.note(method);
        }
        assert_eq!(first.to_text(), b"pitstop levels 1\ni-83");
        let again = Levels::following(&first.to_text()).unwrap();
        let seen = [0, 1, 2, 3].map(|ticket| again.earlier(ticket));
        assert_eq!(seen, methods);
        assert_eq!(again.earlier(4), None);
        again.leave();
        assert_eq!(again.earlier(0), None);
    }

    #[test]
    fn what_nobody_wrote_is_not_followed() {
        for text in ["", "pitstop levels 2\nii", "pitstop levels 1\nix"] {
            assert!(Levels::following(text.as_bytes()).is_none(), "{text:?}");
            assert_eq!(Levels::is_note(text.as_bytes()), !text.is_empty());
        }
        assert!(Levels::is_note(HEAD.as_bytes()));
        assert!(!Levels::is_note(b"levels of somebody"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(letters in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = [HEAD.as_bytes(), &letters].concat();
            if let Some(levels) = Levels::following(&text) {
                for ticket in 0..50 {
                    let _ = levels.earlier(ticket);
                }
            }
            prop_assert!(Levels::following(&letters).is_none());
        }
    }
}
