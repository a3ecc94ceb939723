//! Turns of machines: two run at a time, and up to two more while those leave much of this computer idle.

use crate::paths;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Locks of turns that are there always, and of those for an idle computer.
const ALWAYS: [&str; 2] = ["machine-0", "machine-1"];
const WHEN_IDLE: [&str; 2] = ["machine-2", "machine-3"];

/// Shorter ones are about what happens to go on in them.
const LOOK: Duration = Duration::from_secs(3);

/// So much of all processors must be idle: a machine uses one of them, of two as of more.
const IDLE: f64 = 0.3;

/// What the computer did since when: one look for all who wait, so that what is idle is given away once.
static LOOKED: Mutex<Option<(Instant, Ticks)>> = Mutex::new(None);

/// Waits until another machine may run on this computer. The lock goes with the file.
pub(crate) fn take() -> Result<File> {
    let folder = paths::cache()?;
    loop {
        let more: &[&str] = if has_room()? { &WHEN_IDLE } else { &[] };
        for slot in ALWAYS.iter().chain(more) {
            let path = folder.join(slot);
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            if file.try_lock().is_ok() {
                return Ok(file);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the computer was idle for the last seconds. Who is told so is the only one until it has been looked at anew.
fn has_room() -> Result<bool> {
    let mut looked = LOOKED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((since, before)) = *looked else {
        *looked = Some((Instant::now(), Ticks::now()?));
        return Ok(false);
    };
    if since.elapsed() < LOOK {
        return Ok(false);
    }
    let now = Ticks::now()?;
    *looked = Some((Instant::now(), now));
    // Where nobody has waited for a while, that says little of now.
    Ok(since.elapsed() < 2 * LOOK && now.idle_since(before) > IDLE)
}

/// What the processors of this computer have done since it was started.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn now() -> Result<Ticks> {
        Ticks::of(&fs::read_to_string("/proc/stat").context("reading /proc/stat")?)
    }

    /// proc(5): user, nice, system, idle, iowait, irq, softirq, steal; what guests had is in the first two.
    fn of(stat: &str) -> Result<Ticks> {
        let first = stat.lines().next().unwrap_or_default();
        let words = first.split_whitespace().skip(1).take(8);
        let numbers = words
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()
            .with_context(|| format!("/proc/stat: {first}"))?;
        let [_, _, _, idle, waits, ..] = numbers[..] else {
            bail!("/proc/stat: {first}");
        };
        Ok(Ticks {
            all: numbers.iter().sum(),
            idle: idle + waits,
        })
    }

    /// From 0 to 1.
    fn idle_since(self, before: Ticks) -> f64 {
        // Ticks of an hour on a hundred processors are far from what an f64 rounds.
        #[allow(clippy::cast_precision_loss)]
        let [idle, all] = [
            self.idle.saturating_sub(before.idle) as f64,
            self.all.saturating_sub(before.all).max(1) as f64,
        ];
        idle / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_is_idle_by_what_its_processors_did_since() {
        let before = Ticks::of("cpu  100 0 50 200 10 5 5 0 30 0\ncpu0 1 2 3 4\n").unwrap();
        let now = Ticks::of("cpu  130 0 60 250 20 5 5 0 40 0\n").unwrap();
        assert!((now.idle_since(before) - 0.6).abs() < 1e-9);
        assert!(before.idle_since(before) < IDLE);
        assert!(Ticks::of("cpu  1 2 3\n").is_err());
        assert!(Ticks::of("").is_err());
    }
}
