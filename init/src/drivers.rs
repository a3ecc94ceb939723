//! The process that loads drivers, and the disks that they find, as the worker sees them.

use crate::net::wait_readable;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_payload::lookout::{Lookout, Seen};
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long the drivers of what was there at the start may take. Disks that come later are the job's matter.
const PATIENCE: Duration = Duration::from_secs(15);

/// A wait that a signal ends goes on.
const LONG: Duration = Duration::from_secs(3600);

/// Watched from the start of the worker on, so that the network and the drivers are waited for at once.
pub struct Drivers {
    lookout: Lookout,
    loaded: Receiver<io::Result<()>>,
}

impl Drivers {
    /// Of the process whose pipe is this one's standard input: a line, or its end, says that it has been through.
    pub fn watch(machine: &Machine) -> Self {
        Self::told_by(io::stdin(), machine)
    }

    fn told_by(pipe: impl AsFd + Send + 'static, machine: &Machine) -> Self {
        let lookout = Lookout::begin(machine);
        let (told, loaded) = channel();
        let disks = lookout.clone();
        thread::spawn(move || {
            let outcome = loop {
                match wait_readable(&pipe, LONG) {
                    Ok(false) => {}
                    Ok(true) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            disks.anew();
            // Nobody listens any more where they took too long, which was told.
            let _ = told.send(outcome);
        });
        Self { lookout, loaded }
    }

    /// Waits until the drivers are loaded, but not for ever.
    pub fn wait(&self, reporter: &dyn Reporter) {
        match self.loaded.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => reporter.warn(format!("waiting for drivers: {error}")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                reporter.warn("drivers are still being loaded".into());
                // That no disk came meanwhile says nothing: one may come from here on.
                self.lookout.anew();
            }
        }
    }

    /// The disks that are there now, and since when.
    pub fn disks(self) -> Seen {
        self.lookout.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::inventory::fake::FakeMachine;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn drivers_are_loaded_when_their_process_says_so_or_ends_and_disks_may_come_from_then_on() {
        for says in [true, false] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let drivers = Drivers::told_by(ours, &FakeMachine::new().machine());
            let loaded = Instant::now();
            if says {
                theirs.write_all(b"settled\n").unwrap();
            } else {
                drop(theirs);
            }
            drivers.wait(&Silent);
            assert!(drivers.disks().since() >= loaded);
        }
    }
}
