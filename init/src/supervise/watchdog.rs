//! The hardware watchdog, where there is one: a machine that hangs, in a driver or while it reboots, is reset.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/watchdog";

/// Well below the shortest usual timeout, 10 s on some boards.
pub const FEED_EVERY: Duration = Duration::from_secs(4);

/// Feeds the watchdog as soon as its driver is there.
#[derive(Debug, Default)]
pub struct Watchdog {
    device: Option<File>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// To be called at least as often as [`FEED_EVERY`].
    pub fn feed(&mut self) {
        if self.fed.is_some_and(|fed| fed.elapsed() < FEED_EVERY) {
            return;
        }
        self.fed = Some(Instant::now());
        if self.device.is_none() {
            self.device = OpenOptions::new().write(true).open(DEVICE).ok();
        }
        if let Some(Err(_)) = self.device.as_mut().map(|device| device.write_all(b"\0")) {
            self.device = None;
        }
    }

    /// Switches it off, as far as it lets itself: for a machine that is to stay off.
    pub fn disarm(&mut self) {
        if let Some(mut device) = self.device.take() {
            // linux/Documentation/watchdog/watchdog-api.rst: the "magic close".
            let _ = device.write_all(b"V");
        }
    }
}
