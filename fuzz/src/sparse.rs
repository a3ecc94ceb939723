//! A disk with its empty sectors left out, so that an input is kilobytes and mutations hit metadata.
//!
//! Byte 0: bit 0 for logical sectors of 4096 bytes, bit 1 to put checksums right. Bytes 1 and 2: the size
//! in MiB, little-endian. Then records of a sector number (four bytes, in 512 bytes) and its 512 bytes.
//! `fuzz/seed` writes the same.

use crate::sums;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

const SECTOR: u64 = 512;
const RECORD: usize = 4 + 512;

pub struct Sparse {
    pub size: u64,
    pub logical_sector: u32,
    sectors: BTreeMap<u64, [u8; 512]>,
    at: u64,
}

impl Sparse {
    pub fn parse(input: &[u8]) -> Option<Self> {
        let (&[flags, low, high], records) = input.split_first_chunk()?;
        let mut disk = Self {
            size: u64::from(u16::from_le_bytes([low, high])) << 20,
            logical_sector: if flags & 1 == 0 { 512 } else { 4096 },
            sectors: BTreeMap::new(),
            at: 0,
        };
        for record in records.chunks_exact(RECORD) {
            let (number, bytes) = record.split_first_chunk()?;
            let number = u64::from(u32::from_le_bytes(*number));
            disk.sectors.insert(number, bytes.try_into().ok()?);
        }
        if flags & 2 != 0 {
            sums::correct(&mut disk);
        }
        Some(disk)
    }

    /// The sectors with something in them.
    pub fn numbers(&self) -> Vec<u64> {
        self.sectors.keys().copied().collect()
    }

    /// `length` bytes, whole sectors, from sector `first` on.
    pub fn get(&self, first: u64, length: usize) -> Vec<u8> {
        let count = (length as u64).div_ceil(SECTOR);
        let mut bytes: Vec<u8> = (first..first + count)
            .flat_map(|number| self.sectors.get(&number).copied().unwrap_or([0; 512]))
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// Changes bytes within sector `number`, which becomes one with something in it.
    pub fn patch(&mut self, number: u64, at: usize, bytes: &[u8]) {
        let sector = self.sectors.entry(number).or_insert([0; 512]);
        if let Some(place) = sector.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        buffer.fill(0);
        let end = self.at + length as u64;
        for (number, bytes) in self.sectors.range(self.at / SECTOR..end.div_ceil(SECTOR)) {
            let start = number * SECTOR;
            let (from, to) = (start.max(self.at), (start + SECTOR).min(end));
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            buffer[within(from - self.at)..within(to - self.at)]
                .copy_from_slice(&bytes[within(from - start)..within(to - start)]);
        }
        self.at = end;
        Ok(length)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
