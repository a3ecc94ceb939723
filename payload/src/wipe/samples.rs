//! Looks at a sample of a disk before and after it is wiped: what a drive says it did is one thing, what it still
//! answers another.

use anyhow::Context;
use pitstop_imaging::disk::{Buffer, Output, Target};
use pitstop_imaging::source::ReadAt;
use std::fmt;

/// Bytes of a sample.
const LENGTH: u64 = 64 << 10;
/// Samples at random places, beside those at both ends.
const RANDOM: u64 = 254;

/// What the samples showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    pub zero: u32,
    /// All bits set, as erased flash reads.
    pub ones: u32,
    /// Other bytes than before: as after a change of the drive's own key.
    pub changed: u32,
    /// What was there before.
    pub same: u32,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.zero + self.ones + self.changed + self.same;
        write!(f, "{all} samples of 64 KiB: {} zero", self.zero)?;
        for (count, what) in [
            (self.ones, "all ones"),
            (self.changed, "changed"),
            (self.same, "as before"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Places and what was there.
pub struct Samples {
    places: Vec<(u64, Option<blake3::Hash>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Zero,
    Ones,
    Other(blake3::Hash),
}

impl Samples {
    /// Reads both ends and random places of `target`, which is `size` bytes. What cannot be read is not known.
    pub fn take(target: &Target, size: u64) -> Self {
        let length = LENGTH.min(size);
        let last = size - length;
        let random = (0..RANDOM).map(|_| fastrand::u64(0..=last) / 4096 * 4096);
        let mut places: Vec<u64> = [0, last].into_iter().chain(random).collect();
        places.sort_unstable();
        places.dedup();
        let places = places
            .into_iter()
            .map(|at| {
                let before = match read(target, at, length) {
                    Ok(Fill::Other(hash)) => Some(hash),
                    Ok(Fill::Zero | Fill::Ones) | Err(_) => None,
                };
                (at, before)
            })
            .collect();
        Self { places }
    }

    /// Reads them again from the device itself.
    ///
    /// # Errors
    /// When a place cannot be read: nothing is proven then.
    pub fn compare(&self, target: &Target, size: u64) -> anyhow::Result<Findings> {
        target
            .drop_cache()
            .with_context(|| format!("dropping what is cached of {}", target.name()))?;
        let mut findings = Findings::default();
        for (at, before) in &self.places {
            let found = read(target, *at, LENGTH.min(size))
                .with_context(|| format!("reading {} at {at}", target.name()))?;
            let count = match found {
                Fill::Zero => &mut findings.zero,
                Fill::Ones => &mut findings.ones,
                Fill::Other(hash) if Some(hash) == *before => &mut findings.same,
                Fill::Other(_) => &mut findings.changed,
            };
            *count += 1;
        }
        Ok(findings)
    }
}

fn read(target: &Target, at: u64, length: u64) -> std::io::Result<Fill> {
    let mut buffer = Buffer::new(usize::try_from(length).map_err(std::io::Error::other)?);
    target.read_exact_at(&mut buffer, at)?;
    Ok(match buffer.first() {
        Some(0) | None if buffer.iter().all(|byte| *byte == 0) => Fill::Zero,
        Some(0xff) if buffer.iter().all(|byte| *byte == 0xff) => Fill::Ones,
        _ => Fill::Other(blake3::hash(&buffer)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn samples_tell_zeros_ones_and_what_stayed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut content = vec![0; 8 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        fs::write(&path, &content).unwrap();
        let target = Target::open(&path).unwrap();
        let size = content.len() as u64;
        let samples = Samples::take(&target, size);
        let same = samples.compare(&target, size).unwrap();
        assert_eq!((same.zero, same.ones, same.changed), (0, 0, 0));
        assert!(same.same > 50, "{same}");

        target.write_zeros(0..4 << 20).unwrap();
        target.write_at(&vec![0xff; 2 << 20], 4 << 20).unwrap();
        let mixed = samples.compare(&target, size).unwrap();
        assert!(
            mixed.zero > 0 && mixed.ones > 0 && mixed.same > 0,
            "{mixed}"
        );

        target.write_zeros(0..size).unwrap();
        let clean = samples.compare(&target, size).unwrap();
        assert_eq!(
            clean.to_string(),
            format!("{} samples of 64 KiB: {} zero", clean.zero, clean.zero)
        );
    }

    #[test]
    fn a_disk_of_one_sector_has_one_sample() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, [7; 512]).unwrap();
        let target = Target::open(&path).unwrap();
        let samples = Samples::take(&target, 512);
        assert_eq!(samples.compare(&target, 512).unwrap().same, 1);
    }
}
