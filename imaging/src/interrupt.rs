//! A signal that asks long work to end. Who is at it finds out here, puts back what it holds, and ends as work that failed.
//! Nothing of this is in force until a program says so: before that, a signal ends it at once.

use anyhow::bail;
use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ctrl-C, `kill`, a terminal that goes away.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// From now on the first signal of each kind asks. The second one ends the program at once.
///
/// # Errors
/// When the kernel does not take it.
pub fn heed() -> io::Result<()> {
    let flags = SaFlags::SA_RESTART | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: `note` stores to an atomic and does nothing else, which is async-signal-safe (signal-safety(7)).
        let before = unsafe { sigaction(signal, &action) }?;
        // Whoever started this wants it to go on (nohup(1)).
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: to ignore a signal runs nothing.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

/// Whether the work is to end.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// To be called where work can end.
///
/// # Errors
/// When it is to.
pub fn check() -> anyhow::Result<()> {
    if is_asked() {
        bail!("it was ended by a signal");
    }
    Ok(())
}
