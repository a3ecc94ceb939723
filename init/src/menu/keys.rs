//! Single keys from every console.

use crate::rescue::open_terminal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// Several bytes that came together: an arrow, a function key, keys that were hit at once, noise on a line. It chooses nothing,
/// and is somebody all the same.
pub(super) const SEVERAL: char = '\0';

/// The consoles, which give keys as they are pressed until this is dropped.
pub(super) struct Keys {
    terminals: Vec<(File, Termios)>,
}

impl Keys {
    /// Consoles that cannot be read (a screen without a keyboard is none of them) are left out.
    pub(super) fn open(names: &[String]) -> Self {
        let opened = names.iter().filter_map(|name| open_terminal(name).ok());
        Self::of(opened)
    }

    fn of(terminals: impl Iterator<Item = File>) -> Self {
        let listening = terminals.filter_map(|terminal| {
            let before = tcgetattr(&terminal).ok()?;
            let mut raw = before.clone();
            raw.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            // What was typed before the menu was there is no answer to it.
            tcsetattr(&terminal, OptionalActions::Flush, &raw).ok()?;
            Some((terminal, before))
        });
        Self {
            terminals: listening.collect(),
        }
    }

    /// The next key, if one is pressed within `patience`: a byte that comes alone, or [`SEVERAL`].
    pub(super) fn next(&mut self, patience: Duration) -> Option<char> {
        if self.terminals.is_empty() {
            thread::sleep(patience);
            return None;
        }
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = self
                .terminals
                .iter()
                .map(|(terminal, _)| PollFd::new(terminal.as_fd(), PollFlags::POLLIN))
                .collect();
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            if poll(&mut fds, timeout).is_err() {
                return None;
            }
            fds.iter().map(|fd| fd.any().unwrap_or_default()).collect()
        };
        let mut key = None;
        let mut ready = ready.into_iter();
        self.terminals.retain_mut(|(terminal, _)| {
            if !ready.next().unwrap_or_default() {
                return true;
            }
            let mut bytes = [0; 64];
            match terminal.read(&mut bytes) {
                // Hung up, or gone.
                Ok(0) | Err(_) => false,
                Ok(count) => {
                    let pressed = if count == 1 {
                        char::from(bytes[0])
                    } else {
                        SEVERAL
                    };
                    key = key.or(Some(pressed));
                    true
                }
            }
        });
        key
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for (terminal, before) in &self.terminals {
            // A line that hung up needs nothing any more.
            let _ = tcsetattr(terminal, OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use std::io::Write;

    #[test]
    fn a_key_is_one_byte_that_comes_alone() {
        let pair = openpty(None, None).unwrap();
        let (mut far, near) = (File::from(pair.master), File::from(pair.slave));
        let before = tcgetattr(&near).unwrap().local_modes;
        let kept = near.try_clone().unwrap();
        let mut keys = Keys::of([near].into_iter());
        let short = Duration::from_millis(50);
        assert_eq!(keys.next(short), None);
        for (typed, key) in [
            ("1", Some('1')),
            ("\x1b[11~", Some(SEVERAL)),
            ("yy", Some(SEVERAL)),
            ("n", Some('n')),
        ] {
            far.write_all(typed.as_bytes()).unwrap();
            assert_eq!(keys.next(Duration::from_secs(120)), key, "{typed:?}");
        }
        drop(keys);
        assert_eq!(tcgetattr(&kept).unwrap().local_modes, before);
    }

    #[test]
    fn a_line_that_hangs_up_is_not_asked_again() {
        let pair = openpty(None, None).unwrap();
        let mut keys = Keys::of([File::from(pair.slave)].into_iter());
        drop(pair.master);
        assert_eq!(keys.next(Duration::from_secs(120)), None);
        assert!(keys.terminals.is_empty());
        assert_eq!(keys.next(Duration::from_millis(1)), None);
    }
}
