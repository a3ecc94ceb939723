//! How much memory the window may have.

use std::fs;

/// Of a machine with no more memory than [`SMALL`], and of one that needs the rest itself.
pub const LEAST: usize = 32 << 20;
const MOST: usize = 512 << 20;
/// The total of a machine of 256 MB, with what firmware takes and some to spare.
const SMALL: u64 = 320 << 20;

/// Bytes for the window on this machine: a quarter of what is free, within bounds.
pub fn window() -> usize {
    of(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn of(meminfo: &str) -> usize {
    let (Some(total), Some(free)) = (bytes(meminfo, "MemTotal:"), bytes(meminfo, "MemAvailable:"))
    else {
        return LEAST;
    };
    if total <= SMALL {
        return LEAST;
    }
    usize::try_from(free / 4).unwrap_or(MOST).clamp(LEAST, MOST)
}

fn bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_have_a_small_window() {
        let told = |total: u64, free: u64| {
            of(&format!(
                "MemTotal:  {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\n",
                total << 10,
                free << 10
            ))
        };
        assert_eq!(told(240, 180), 32 << 20);
        assert_eq!(told(1024, 800), 200 << 20);
        assert_eq!(told(64 << 10, 60 << 10), 512 << 20);
        assert_eq!(told(1024, 40), 32 << 20);
        assert_eq!(of("nonsense"), 32 << 20);
    }
}
