//! Checking an image without unpacking it: every member, every header, every file.
//!
//! A tar reader sees the headers, and Pitstop sees the index. Both have to say the same: a header is the very bytes that its
//! entry in the index makes.

use crate::entry::{Hash, Kind};
use crate::header;
use crate::image::TreeImage;
use crate::pack::{PART, hash_part, join};
use anyhow::{Context, bail};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::members::{Inflater, Meter, WorkerPool, lock};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// Hashes of the parts of large files, by the numbers of their entries, and their places.
type Parts = Mutex<BTreeMap<usize, BTreeMap<u64, Hash>>>;

/// Reads all of `image` and checks it, on `threads` cores, 0 for all.
///
/// # Errors
/// What is wrong first, named.
pub fn verify(image: &TreeImage, threads: usize, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let total = image.index.raw_size();
    let meter = Meter::new(Act::Verify, image.name(), Some(total), reporter);
    let pool = WorkerPool::new(threads, usize::try_from(image.memory())?);
    let feed = Mutex::new(image.feed());
    let parts = Parts::default();
    pool.run(|| {
        let mut inflater = Inflater::new()?;
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        while !pool.stopped() {
            let run = lock(&feed).next(&mut packed)?;
            if run.is_empty() {
                break;
            }
            for number in run.clone() {
                let member = image.member_of(&packed, run.start, number)?;
                let permit = pool.cpu_permit();
                image.prove(number, member, &mut inflater, &mut raw)?;
                check(image, number, &raw, &parts)?;
                drop(permit);
                meter.moved(member.len() as u64);
                meter.done(raw.len() as u64);
            }
        }
        Ok(())
    })?;
    for (number, parts) in &*lock(&parts) {
        let entry = &image.index.placed()[*number].entry;
        let hashes: Vec<Hash> = parts.values().copied().collect();
        if let Kind::File { hash, .. } = &entry.kind
            && join(&hashes, entry.kind.stored()) != *hash
        {
            bail!(
                "{}: {} has another BLAKE3 than the index says",
                image.name(),
                entry.path
            );
        }
    }
    Ok(())
}

/// A member, inflated and proven, and where it is in the tar.
struct Open<'a> {
    image: &'a TreeImage<'a>,
    range: Range<u64>,
    raw: &'a [u8],
}

impl<'a> Open<'a> {
    /// What the member has of `part`.
    fn cut(&self, part: &Range<u64>) -> anyhow::Result<&'a [u8]> {
        let (start, end) = (self.range.start, self.range.end);
        let from = usize::try_from(part.start.clamp(start, end) - start)?;
        let to = usize::try_from(part.end.clamp(start, end) - start)?;
        Ok(self.raw.get(from..to).unwrap_or_default())
    }

    fn check_header(&self, number: usize, expected: &mut Vec<u8>) -> anyhow::Result<()> {
        let entry = &self.image.index.placed()[number].entry;
        let place = self.image.index.header_range(number);
        if !self.range.contains(&place.start) {
            return Ok(());
        }
        expected.clear();
        header::encode(entry, expected);
        if expected.len() as u64 != place.end - place.start
            || self.cut(&place)? != expected.as_slice()
        {
            bail!(
                "{}: the header of {} is not what the index says",
                self.image.name(),
                entry.path
            );
        }
        Ok(())
    }

    fn check_data(&self, number: usize, parts: &Parts) -> anyhow::Result<()> {
        let index = &self.image.index;
        let entry = &index.placed()[number].entry;
        let Kind::File { hash, .. } = &entry.kind else {
            return Ok(());
        };
        let data = index.data_range(number);
        let here = self.cut(&data)?;
        let begins = self.range.contains(&index.header_range(number).start);
        if self.range.start <= data.start && data.end <= self.range.end {
            if begins && *blake3::hash(here).as_bytes() != *hash {
                bail!(
                    "{}: {} has another BLAKE3 than the index says",
                    self.image.name(),
                    entry.path
                );
            }
        } else if !here.is_empty() {
            let at = data.start.max(self.range.start) - data.start;
            if !at.is_multiple_of(PART) || here.len() as u64 > PART {
                bail!(
                    "{}: {} is not cut into parts of 1 MiB",
                    self.image.name(),
                    entry.path
                );
            }
            lock(parts)
                .entry(number)
                .or_default()
                .insert(at, hash_part(here, at, false));
        }
        Ok(())
    }

    /// Whether nothing but zeros stands in `part`.
    fn check_filling(&self, part: &Range<u64>, behind: &str) -> anyhow::Result<()> {
        if self.cut(part)?.iter().any(|byte| *byte != 0) {
            bail!("{}: something stands behind {behind}", self.image.name());
        }
        Ok(())
    }
}

fn check(image: &TreeImage, number: usize, raw: &[u8], parts: &Parts) -> anyhow::Result<()> {
    let index = &image.index;
    let range = index.raw_range(number);
    let open = Open {
        image,
        range: range.clone(),
        raw,
    };
    let mut expected = Vec::new();
    for number in index.entries_in(&range) {
        open.check_header(number, &mut expected)?;
        open.check_data(number, parts)?;
        let end = index.data_range(number).end;
        let filling = end..end.next_multiple_of(512);
        let path = &index.placed()[number].entry.path;
        open.check_filling(&filling, &format!("the data of {path}"))?;
    }
    let last = index.placed().len().checked_sub(1);
    let last = last.context("an index without entries")?;
    let end = index.data_range(last).end.next_multiple_of(512);
    open.check_filling(&(end..range.end.max(end)), "the last entry")
}
