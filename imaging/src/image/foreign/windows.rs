//! How much memory a packed image may ask for: the window that xz and zstd look back in.

use super::checksums::first_frame;
use crate::image::ImageSource;
use crate::units;
use anyhow::{Context, bail};
use std::fs;
use std::io;

/// What is always given: `xz -9` needs 65 MiB, `zstd --ultra -22` and `--long` 128 MiB.
const GIVEN: u64 = 160 << 20;
/// What is left to everybody else.
const SPARED: u64 = 192 << 20;
/// As zstd is built without `--long`, log2 of bytes.
const USUAL: u32 = 27;
/// The largest that the library takes.
const MOST: u32 = 31;

/// What may be taken now.
fn free() -> u64 {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&told).map_or(GIVEN, |free| free.saturating_sub(SPARED).max(GIVEN))
}

/// `MemAvailable` (proc(5)), bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The most memory that an xz stream gets, bytes.
pub fn xz() -> u64 {
    free()
}

/// log2 of the window that the zstd frames of `image` get.
///
/// # Errors
/// When it cannot be read; when the first frame has a window for which there is no memory, with how to pack it again.
pub fn zstd(image: &dyn ImageSource) -> anyhow::Result<u32> {
    let name = image.name();
    let header = first_frame(image).with_context(|| format!("reading {name}"))?;
    let Some(window) = header.and_then(|header| window(&header)) else {
        return Ok(USUAL);
    };
    let log = window.next_power_of_two().trailing_zeros();
    if log <= USUAL {
        return Ok(USUAL);
    }
    let free = free();
    if log > MOST || window > free {
        bail!(
            "{name} was packed with a window of {} (zstd --long), which takes as much memory to unpack, and {} are \
             free; pack it again: zstd -dc --long={MOST} {name} | zstd --long={USUAL} > FILE",
            units::bytes(window),
            units::bytes(free)
        );
    }
    Ok(log)
}

/// `Window_Size` (RFC 8878 3.1.1.1.2) of the frame that begins with these bytes: after magic and descriptor. A frame
/// of a single segment has its content's size there instead, and needs no more than that.
fn window(header: &[u8]) -> Option<u64> {
    let (descriptor, rest) = header.get(4..)?.split_first()?;
    if descriptor & 0x20 == 0 {
        let byte = u64::from(*rest.first()?);
        let base = 1u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * (byte & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let rest = rest.get(dictionary..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*rest.first()?),
        1 => u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*rest.first_chunk()?)),
        _ => u64::from_le_bytes(*rest.first_chunk()?),
    })
}

/// What an error of xz means where it is about memory.
pub fn explained(error: io::Error) -> io::Error {
    let of_memory = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>())
        .is_some_and(|inner| *inner == liblzma::stream::Error::MemLimit);
    if !of_memory {
        return error;
    }
    io::Error::other(format!(
        "its dictionary takes more memory than is free ({}): pack it again with xz -9, whose dictionary is smaller",
        units::bytes(free())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_is_free_is_read() {
        let told = "MemTotal:       100 kB\nMemAvailable:    3072 kB\n";
        assert_eq!(available(told), Some(3 << 20));
        assert_eq!(available("MemTotal: 100 kB\n"), None);
        assert!(free() >= GIVEN);
    }

    #[test]
    fn a_frame_tells_its_window() {
        let header = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd][..], rest].concat();
        assert_eq!(window(&header(&[0, 0x58, 0])), Some(2 << 20));
        assert_eq!(
            window(&header(&[0, 0xa8 | 1, 0])),
            Some((1 << 31) + (1 << 28))
        );
        assert_eq!(window(&header(&[0x20, 77])), Some(77));
        assert_eq!(window(&header(&[0x60, 1, 0])), Some(257));
        assert_eq!(window(&header(&[])), None);
    }
}
