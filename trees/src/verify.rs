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
    let members = image.index.members();
    let largest = members.iter().map(|member| member.size + member.raw).max();
    let memory = usize::try_from(largest.unwrap_or_default())?;
    let total = image.index.raw_size();
    let meter = Meter::new(Act::Verify, image.name(), Some(total), reporter);
    let pool = WorkerPool::new(threads, memory);
    let feed = Mutex::new(image.feed((0..members.len()).collect()));
    let parts = Parts::default();
    pool.run(|| {
        let mut inflater = Inflater::new()?;
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        while !pool.stopped() {
            let Some(number) = lock(&feed).next(&mut packed)? else {
                break;
            };
            let permit = pool.cpu_permit();
            image.prove(number, &packed, &mut inflater, &mut raw)?;
            check(image, number, &raw, &parts)?;
            drop(permit);
            meter.moved(packed.len() as u64);
            meter.done(raw.len() as u64);
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

fn check(image: &TreeImage, number: usize, raw: &[u8], parts: &Parts) -> anyhow::Result<()> {
    let index = &image.index;
    let range = index.raw_range(number);
    let cut = |part: Range<u64>| -> anyhow::Result<&[u8]> {
        let from = usize::try_from(part.start.max(range.start) - range.start)?;
        let to = usize::try_from(part.end.min(range.end).max(range.start) - range.start)?;
        Ok(raw.get(from..to).unwrap_or_default())
    };
    let entries = index.entries_in(&range);
    let mut expected = Vec::new();
    for number in entries.clone() {
        let entry = &index.placed()[number].entry;
        let place = index.header_range(number);
        if range.contains(&place.start) {
            expected.clear();
            header::encode(entry, &mut expected);
            let told = place.end - place.start;
            if expected.len() as u64 != told || cut(place)? != expected {
                bail!(
                    "{}: the header of {} is not what the index says",
                    image.name(),
                    entry.path
                );
            }
        }
        let data = index.data_range(number);
        let here = cut(data.clone())?;
        let Kind::File { hash, .. } = &entry.kind else {
            continue;
        };
        if range.start <= data.start && data.end <= range.end {
            if range.contains(&index.header_range(number).start)
                && *blake3::hash(here).as_bytes() != *hash
            {
                bail!(
                    "{}: {} has another BLAKE3 than the index says",
                    image.name(),
                    entry.path
                );
            }
        } else if !here.is_empty() {
            let at = data.start.max(range.start) - data.start;
            if at % PART != 0 || here.len() as u64 > PART {
                bail!(
                    "{}: {} is not cut into parts of 1 MiB",
                    image.name(),
                    entry.path
                );
            }
            let hash = hash_part(here, at, false);
            lock(parts).entry(number).or_default().insert(at, hash);
        }
        let filling = cut(data.end..data.end.next_multiple_of(512))?;
        if filling.iter().any(|byte| *byte != 0) {
            bail!(
                "{}: something stands behind the data of {}",
                image.name(),
                entry.path
            );
        }
    }
    let last = index
        .placed()
        .len()
        .checked_sub(1)
        .context("an index without entries")?;
    let end = index.data_range(last).end.next_multiple_of(512);
    if cut(end.min(range.end)..range.end)?
        .iter()
        .any(|byte| *byte != 0)
    {
        bail!("{}: something stands behind the last entry", image.name());
    }
    Ok(())
}
