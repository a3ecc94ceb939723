//! Unpacking with others: members are brought by a [`Feed`], in any order, and can be had back from the files that they became.
//!
//! A member is what a chunk is of a disk: the index has its hash, so that whoever brings one need not be believed.

use super::attributes::Losses;
use super::folder::{Folders, Target};
use super::member::{LargeFiles, Writer, read_data};
use crate::entry::Kind;
use crate::header;
use crate::image::{TreeImage, prove};
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::members::{
    Deflater, Inflater, Meter, Method, WorkerPool, member_bound,
};
use pitstop_imaging::image::{Chunk, Fed, Feed, Hand, ImageSource, Known};
use pitstop_imaging::interrupt;
use rustix::fs::OFlags;
use std::fs::File;
use std::ops::Range;

/// The unpacking of a tree, as its feed sees it.
pub struct FedTree<'a> {
    image: &'a TreeImage<'a>,
    target: &'a Target,
    losses: &'a Losses,
    large: LargeFiles,
    meter: Meter<'a>,
    pool: WorkerPool,
    chunks: Vec<Known>,
    largest: usize,
}

impl<'a> FedTree<'a> {
    pub fn new(
        image: &'a TreeImage<'a>,
        target: &'a Target,
        threads: usize,
        losses: &'a Losses,
        reporter: &'a dyn Reporter,
    ) -> anyhow::Result<Self> {
        let members = image.index.members();
        let chunks = (0..).zip(members).map(|(number, member)| Known {
            chunk: Chunk {
                number: number as u64,
                offset: image.index.offset(number),
                size: member.size,
                hash: member.hash,
            },
            there: false,
        });
        let raw = members.iter().map(|member| member.raw).max();
        let raw = usize::try_from(raw.unwrap_or_default())?;
        let stored = members.iter().map(|member| member.size).max();
        // Who makes a member anew may compress it less than who made the image.
        let largest = member_bound(raw).max(usize::try_from(stored.unwrap_or_default())?);
        Ok(Self {
            chunks: chunks.collect(),
            meter: super::meter(image, target, reporter),
            pool: WorkerPool::new(threads, raw + largest),
            large: LargeFiles::default(),
            image,
            target,
            losses,
            largest,
        })
    }

    /// Has `feed` bring all members, and calls `finish` when all are there.
    ///
    /// # Errors
    /// Those of `feed` and `finish`; a signal has asked for the end.
    pub fn run(
        &self,
        feed: &dyn Feed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let end = feed.run(self, finish);
        // Of a signal the feed knows no more than that the rest is not wanted.
        interrupt::check()?;
        end
    }

    /// The bytes of the tar that member `number` has, as the files say it. Whether these are as they were, its hash tells.
    fn read_back(&self, number: usize, raw: &mut Vec<u8>) -> anyhow::Result<()> {
        let index = &self.image.index;
        let member = index.raw_range(number);
        raw.clear();
        raw.resize(usize::try_from(member.end - member.start)?, 0);
        let mut head = Vec::new();
        for number in index.entries_in(&member) {
            let entry = &index.placed()[number].entry;
            head.clear();
            header::encode(entry, &mut head);
            let start = index.header_range(number).start;
            if let Some((here, there)) = common(&member, &(start..start + head.len() as u64))? {
                raw[here].copy_from_slice(&head[there]);
            }
            let data = index.data_range(number);
            if matches!(entry.kind, Kind::File { .. })
                && let Some((here, there)) = common(&member, &data)?
            {
                let opened = self
                    .target
                    .open(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK)
                    .with_context(|| format!("opening {}", self.target.shown(&entry.path)))?;
                read_data(
                    &File::from(opened),
                    entry,
                    &mut raw[here],
                    there.start as u64,
                )?;
            }
        }
        Ok(())
    }
}

/// What two stretches of the tar have in common, as places in the one and in the other.
fn common(
    one: &Range<u64>,
    other: &Range<u64>,
) -> anyhow::Result<Option<(Range<usize>, Range<usize>)>> {
    let (start, end) = (one.start.max(other.start), one.end.min(other.end));
    if start >= end {
        return Ok(None);
    }
    let within = |whole: &Range<u64>| -> anyhow::Result<Range<usize>> {
        Ok(usize::try_from(start - whole.start)?..usize::try_from(end - whole.start)?)
    };
    Ok(Some((within(one)?, within(other)?)))
}

impl Fed for FedTree<'_> {
    fn image(&self) -> &dyn ImageSource {
        self.image.source()
    }

    fn count(&self) -> u64 {
        self.chunks.len() as u64
    }

    fn largest_member(&self) -> usize {
        self.largest
    }

    fn chunks(&self) -> &[Known] {
        &self.chunks
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn is_over(&self) -> bool {
        interrupt::is_asked()
    }

    fn hands(&self) -> usize {
        self.pool.workers()
    }

    fn hand(&self) -> anyhow::Result<Box<dyn Hand + '_>> {
        Ok(Box::new(TreeHand {
            fed: self,
            writer: Writer::new(
                self.image,
                self.target,
                &self.large,
                self.losses,
                Folders::new(self.target),
            ),
            raw: Vec::new(),
            inflater: Inflater::new()?,
            deflater: Deflater::default(),
        }))
    }
}

struct TreeHand<'a> {
    fed: &'a FedTree<'a>,
    writer: Writer<'a, Folders<'a>>,
    raw: Vec<u8>,
    inflater: Inflater,
    /// Most hands never pack.
    deflater: Deflater,
}

impl Hand for TreeHand<'_> {
    fn put(&mut self, chunk: &Chunk, member: &[u8]) -> anyhow::Result<bool> {
        let fed = self.fed;
        let number = usize::try_from(chunk.number)?;
        let told = &fed.image.index.members()[number];
        let permit = fed.pool.cpu_permit();
        let proven = prove(told, member, &mut self.inflater, &mut self.raw);
        drop(permit);
        if proven.is_err() {
            return Ok(false);
        }
        self.writer.write(number, &self.raw)?;
        fed.meter.moved(member.len() as u64);
        fed.meter.done(self.raw.len() as u64);
        Ok(true)
    }

    fn pack(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let fed = self.fed;
        let number = usize::try_from(chunk.number).ok()?;
        fed.read_back(number, &mut self.raw).ok()?;
        let _permit = fed.pool.cpu_permit();
        if *blake3::hash(&self.raw).as_bytes() != chunk.hash {
            return None;
        }
        let mut member = vec![0; member_bound(self.raw.len())];
        let size = self
            .deflater
            .member(Method::Isal(1), &self.raw, &mut member);
        member.truncate(size);
        Some(member)
    }
}
