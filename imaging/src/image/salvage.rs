//! Reading a disk that may be failing: what can be read is, what cannot is named.

use super::ByteRange;
use super::workers::lock;
use crate::disk::Input;
use crate::extents::Extents;
use anyhow::Context;
use nix::errno::Errno;
use std::io;
use std::sync::Mutex;

/// What is given up at once: a page, which no device reads in parts.
const PIECE: usize = 4096;
/// How often a piece is tried.
const TRIES: usize = 3;

/// Where a disk could not be read.
#[derive(Debug, Default)]
pub struct BadSectors(Mutex<Extents>);

impl BadSectors {
    fn add(&self, at: u64, length: usize) {
        lock(&self.0).insert(at..at + length as u64);
    }

    pub fn into_ranges(self) -> Vec<ByteRange> {
        lock(&self.0).iter().map(ByteRange::from).collect()
    }
}

/// Fills `buffer` from `at` on. What the medium cannot give is zeros, and added to `bad`.
///
/// # Errors
/// When the disk is gone, ends, or fails in another way than by bad sectors.
pub fn read_all(
    input: &dyn Input,
    buffer: &mut [u8],
    at: u64,
    bad: &BadSectors,
) -> anyhow::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let place = at + filled as u64;
        match input.read_at(&mut buffer[filled..], place) {
            Ok(0) => anyhow::bail!("reading at {place}: the disk ends there"),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_medium(&error) => {
                // Up to the next piece's end, so that later reads are aligned again.
                let past = usize::try_from(place % PIECE as u64)?;
                let end = (filled + PIECE - past).min(buffer.len());
                if !retry(input, &mut buffer[filled..end], place)? {
                    buffer[filled..end].fill(0);
                    bad.add(place, end - filled);
                }
                filled = end;
            }
            Err(error) => return Err(error).with_context(|| format!("reading at {place}")),
        }
    }
    Ok(())
}

/// Whether the piece could be read after all.
fn retry(input: &dyn Input, piece: &mut [u8], at: u64) -> anyhow::Result<bool> {
    for _ in 0..TRIES {
        let mut filled = 0;
        while filled < piece.len() {
            match input.read_at(&mut piece[filled..], at + filled as u64) {
                Ok(0) => anyhow::bail!("reading at {at}: the disk ends there"),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_medium(&error) => break,
                Err(error) => return Err(error).with_context(|| format!("reading at {at}")),
            }
        }
        if filled == piece.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What Linux says of sectors that cannot be read (`blk_status_to_errno`).
fn is_medium(error: &io::Error) -> bool {
    let medium = [Errno::EIO, Errno::ENODATA, Errno::EILSEQ, Errno::EREMOTEIO];
    let code = error.raw_os_error().map(Errno::from_raw);
    code.is_some_and(|code| medium.contains(&code))
}
