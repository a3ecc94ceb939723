//! The raw bytes of an image with an index as a stream, each chunk proven before it is given out.

use super::ImageSource;
use super::codec::Inflater;
use super::index::{Index, Item};
use super::member_reader::MemberReader;
use super::proof::inflate_chunk;
use anyhow::Context;
use std::io::{self, Read};

/// Inflates chunk after chunk.
pub struct ChunkStream<'a> {
    image: &'a dyn ImageSource,
    index: &'a Index,
    members: MemberReader<'a>,
    inflater: Inflater,
    member: Vec<u8>,
    raw: Vec<u8>,
    at: usize,
    length: usize,
    zeros: u64,
}

impl<'a> ChunkStream<'a> {
    /// # Errors
    /// When there is no memory to inflate with.
    pub fn new(image: &'a dyn ImageSource, index: &'a Index) -> anyhow::Result<Self> {
        Ok(Self {
            image,
            index,
            members: MemberReader::new(image, index, false),
            inflater: Inflater::new()?,
            member: vec![0; index.largest_member()],
            raw: vec![0; index.chunk_bytes()],
            at: 0,
            length: 0,
            zeros: 0,
        })
    }
}

impl Read for ChunkStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let index = self.index;
        while self.at == self.length && self.zeros == 0 && !buf.is_empty() {
            match self
                .members
                .next(&mut self.member)
                .map_err(|error| other(&error))?
            {
                None => return Ok(0),
                Some(Item::Zeros { count, .. }) => {
                    self.zeros = count * u64::from(index.chunk_size());
                }
                Some(Item::Chunk(chunk)) => {
                    let size = usize::try_from(chunk.size).map_err(io::Error::other)?;
                    (self.at, self.length) = (0, index.length(chunk.number));
                    let raw = &mut self.raw[..self.length];
                    inflate_chunk(&mut self.inflater, &chunk, &self.member[..size], raw)
                        .with_context(|| index.place(&chunk, self.image.name()))
                        .map_err(|error| other(&error))?;
                }
            }
        }
        if self.zeros > 0 {
            let zeros = usize::try_from(self.zeros).unwrap_or(usize::MAX);
            let now = buf.len().min(zeros);
            buf[..now].fill(0);
            self.zeros -= now as u64;
            return Ok(now);
        }
        let now = buf.len().min(self.length - self.at);
        buf[..now].copy_from_slice(&self.raw[self.at..self.at + now]);
        self.at += now;
        Ok(now)
    }
}

fn other(error: &anyhow::Error) -> io::Error {
    io::Error::other(format!("{error:#}"))
}
