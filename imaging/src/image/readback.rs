//! Reading a target back: what differs is written once more, and must then be right.

use super::codec::{Inflater, is_zero};
use super::index::{Item, Items};
use super::proof::inflate_chunk;
use super::restoring::Restoring;
use super::target_writes::flush;
use super::workers::{Meter, WorkerPool, lock};
use crate::disk::Buffer;
use crate::event::{Act, Reporter};
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Checks every chunk of the target against the index; repairs what differs, once.
pub fn verify(
    restoring: &Restoring,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let wrong = differing(restoring, None, threads, reporter)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let name = restoring.output.name();
    reporter.warn(format!(
        "{name} does not read back as written in {} chunks ({}): writing them again",
        wrong.len(),
        list(&wrong)
    ));
    rewrite(restoring, &wrong)?;
    let still = differing(restoring, Some(&wrong), threads, reporter)?;
    if !still.is_empty() {
        bail!(
            "{name} does not keep what is written to it: {} chunks read back wrong twice ({}); replace the disk",
            still.len(),
            list(&still)
        );
    }
    Ok(())
}

fn list(chunks: &BTreeSet<u64>) -> String {
    let mut names: Vec<String> = chunks.iter().take(8).map(u64::to_string).collect();
    if chunks.len() > names.len() {
        names.push("…".into());
    }
    names.join(", ")
}

/// The chunks, of `among` or of all, that the target does not have as they should be.
fn differing(
    restoring: &Restoring,
    among: Option<&BTreeSet<u64>>,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<BTreeSet<u64>> {
    let (index, output) = (restoring.index, restoring.output);
    output
        .drop_cache()
        .with_context(|| format!("dropping what is cached of {}", output.name()))?;
    let meter = Meter::new(Act::Verify, output.name(), Some(index.walked()), reporter);
    let items = Mutex::new(Singles::new(index.items()));
    let wrong = Mutex::new(BTreeSet::new());
    let chunk = index.chunk_bytes();
    let pool = WorkerPool::new(threads, chunk);
    pool.run(|| {
        let mut raw = Buffer::new(chunk);
        while !pool.stopped() {
            let Some((number, hash)) = lock(&items).next() else {
                break;
            };
            if among.is_some_and(|among| !among.contains(&number)) {
                continue;
            }
            let raw = &mut raw[..index.length(number)];
            let at = index.position(number);
            output
                .read_exact_at(raw, at)
                .with_context(|| format!("reading {} back at {at}", output.name()))?;
            let permit = pool.cpu_permit();
            let right = match hash {
                None => is_zero(raw),
                Some(hash) => *blake3::hash(raw).as_bytes() == hash,
            };
            drop(permit);
            if !right {
                lock(&wrong).insert(number);
            }
            meter.done(raw.len() as u64);
        }
        Ok(())
    })?;
    Ok(std::mem::take(&mut *lock(&wrong)))
}

/// Each chunk by its number, with its hash unless it is zeros.
struct Singles<'a> {
    items: Items<'a>,
    zeros: std::ops::Range<u64>,
}

impl<'a> Singles<'a> {
    fn new(items: Items<'a>) -> Self {
        Self { items, zeros: 0..0 }
    }
}

impl Iterator for Singles<'_> {
    type Item = (u64, Option<[u8; 32]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(number) = self.zeros.next() {
                return Some((number, None));
            }
            match self.items.next()? {
                Item::Zeros { first, count, .. } => self.zeros = first..first + count,
                Item::Chunk(chunk) => return Some((chunk.number, Some(chunk.hash))),
            }
        }
    }
}

fn rewrite(restoring: &Restoring, wrong: &BTreeSet<u64>) -> anyhow::Result<()> {
    let index = restoring.index;
    let mut member = vec![0; index.largest_member()];
    let mut raw = Buffer::new(index.chunk_bytes());
    let mut inflater = Inflater::new()?;
    for item in index.items() {
        match item {
            Item::Zeros { first, count, .. } => {
                for number in wrong.range(first..first + count) {
                    raw.fill(0);
                    restoring.write(&raw, index.position(*number))?;
                }
            }
            Item::Chunk(chunk) if wrong.contains(&chunk.number) => {
                let member = &mut member[..usize::try_from(chunk.size)?];
                let raw = &mut raw[..index.length(chunk.number)];
                let place = || index.place(&chunk, restoring.image.name());
                restoring
                    .image
                    .read_exact_at(member, chunk.offset)
                    .with_context(place)?;
                inflate_chunk(&mut inflater, &chunk, member, raw).with_context(place)?;
                restoring.write(raw, index.position(chunk.number))?;
            }
            Item::Chunk(_) => {}
        }
    }
    flush(restoring.output)
}
