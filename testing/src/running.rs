//! A program that a test has started: it is ended with the value, and with the program of the tests at the latest.
//!
//! A value that a thread holds which never ends is never dropped. What it runs would go on behind the tests, and hold the pipe
//! that they write to: whoever reads that to its end would wait for ever.

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::ops::{Deref, DerefMut};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// What runs.
static ALL: Mutex<Vec<u32>> = Mutex::new(Vec::new());

pub struct Running(Child);

impl Running {
    pub fn new(child: Child) -> Self {
        static AT_EXIT: Once = Once::new();
        // SAFETY: the function is there as long as the program, and lets no panic out.
        AT_EXIT.call_once(|| assert_eq!(unsafe { libc::atexit(end_all) }, 0, "atexit"));
        all().push(child.id());
        Self(child)
    }

    /// Ends it now. Who has ended already stays so.
    pub fn end(&mut self) {
        let id = self.0.id();
        // Both fail only when it has ended already. Its number is nobody else's before it was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
        all().retain(|other| *other != id);
    }
}

fn all() -> MutexGuard<'static, Vec<u32>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn end_all() {
    for id in all().drain(..) {
        if let Ok(id) = i32::try_from(id) {
            // What was waited for is no child any more, and its number may be another's.
            let id = Pid::from_raw(id);
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if waitid(Id::Pid(id), look).is_ok() {
                let _ = kill(id, Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Running, all};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    #[test]
    fn it_ends_with_the_value_and_is_known_until_then() {
        let mut sleeping = Running::new(Command::new("sleep").arg("1000").spawn().unwrap());
        let id = sleeping.id();
        assert!(all().contains(&id));
        sleeping.end();
        assert_eq!(sleeping.wait().unwrap().signal(), Some(9));
        assert!(!all().contains(&id));
    }
}
