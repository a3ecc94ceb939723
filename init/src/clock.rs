//! A clock that lost its battery must not fail certificates that are not yet valid: it is at least as late
//! as the making of the initramfs. A time server may correct it afterwards, in either direction.

use anyhow::Context;
use jiff::Timestamp;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use pitstop_protocol::job::Clock;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Seconds since 1970, in decimal, written when the initramfs was made.
const BUILD_TIME: &str = "/etc/pitstop/build-time";

/// Is there while the clock is only as good as the build time.
const BEHIND: &str = "/run/pitstop/clock-behind";

/// Sets the clock forward to the build time where it is before it, and notes that it was. No build time is no error.
pub fn not_before_build_time() -> anyhow::Result<()> {
    let Some(built) = build_time()? else {
        return Ok(());
    };
    if now().as_second() >= built {
        return Ok(());
    }
    let built = u64::try_from(built).context("the build time of the initramfs is before 1970")?;
    // Noted first: a clock that cannot even be set is no better.
    note_behind().context("noting that the clock is wrong")?;
    set(Duration::from_secs(built)).context("setting the clock to the build time of the initramfs")
}

fn note_behind() -> std::io::Result<()> {
    let folder = Path::new(BEHIND).parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    fs::write(BEHIND, "")
}

/// A time server has told the time.
pub fn is_right() -> anyhow::Result<()> {
    match fs::remove_file(BEHIND) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {BEHIND}"))
        }
        _ => Ok(()),
    }
}

/// How far the clock can be believed.
pub fn standing() -> Clock {
    if Path::new(BEHIND).exists() {
        Clock::Behind
    } else {
        Clock::Plausible
    }
}

/// Whether a time, since 1970, is before the making of the initramfs: then it is wrong. A build time that
/// cannot be read was told of when the machine started.
pub fn before_build_time(time: Duration) -> bool {
    let built = build_time().ok().flatten().unwrap_or_default();
    i64::try_from(time.as_secs()).is_ok_and(|time| time < built)
}

fn build_time() -> anyhow::Result<Option<i64>> {
    let text = match fs::read_to_string(BUILD_TIME) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("reading {BUILD_TIME}"))?,
    };
    let built = text
        .trim()
        .parse()
        .with_context(|| format!("reading {BUILD_TIME}: {:?}", text.trim()))?;
    Ok(Some(built))
}

/// What the clock says.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Sets the clock to a time since 1970.
pub fn set(time: Duration) -> anyhow::Result<()> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(time))
        .context("setting the clock")
}
