//! A clock that lost its battery must not fail certificates that are not yet valid: it is at least as late
//! as the making of the initramfs.

use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::fs;
use std::io::ErrorKind;

/// Seconds since 1970, in decimal, written when the initramfs was made.
const BUILD_TIME: &str = "/etc/pitstop/build-time";

/// Sets the clock forward to the build time where it is before it. No build time is no error.
pub fn not_before_build_time() -> anyhow::Result<()> {
    let text = match fs::read_to_string(BUILD_TIME) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("reading {BUILD_TIME}"))?,
    };
    let built: i64 = text
        .trim()
        .parse()
        .with_context(|| format!("reading {BUILD_TIME}: {:?}", text.trim()))?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("reading the clock")?;
    if now.tv_sec() >= built {
        return Ok(());
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(built, 0))
        .context("setting the clock to the build time of the initramfs")
}
