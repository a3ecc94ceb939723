//! The compressed bytes of a stream, held so that a header can be looked at before it is taken.

use std::io::{self, Read};

const HELD: usize = 256 << 10;

/// A stream with some of its bytes held: those from `from` to `to` come next.
pub struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Bytes taken from `inner`.
    taken: u64,
}

impl<R: Read> Input<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: vec![0; HELD],
            from: 0,
            to: 0,
            taken: 0,
        }
    }

    /// What is held and not used yet.
    pub fn held(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    /// Whether no more can be held.
    pub fn is_full(&self) -> bool {
        self.held().len() == self.buffer.len()
    }

    /// Where what is held begins in the stream.
    pub fn position(&self) -> u64 {
        self.taken - self.held().len() as u64
    }

    /// Takes `count` bytes of what is held as used.
    pub fn consume(&mut self, count: usize) {
        self.from = self.to.min(self.from + count);
    }

    /// Reads more, after what is held; false at the end.
    pub fn refill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        loop {
            match self.inner.read(&mut self.buffer[self.to..]) {
                Ok(read) => {
                    self.to += read;
                    self.taken += read as u64;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Uses the next byte; `None` at the end.
    pub fn next_byte(&mut self) -> io::Result<Option<u8>> {
        if self.held().is_empty() && !self.refill()? {
            return Ok(None);
        }
        let byte = self.held().first().copied();
        self.consume(1);
        Ok(byte)
    }

    /// Up to `count` bytes that come next; fewer at the end.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.held().len() < count && self.refill()? {}
        let held = self.held();
        Ok(&held[..held.len().min(count)])
    }
}
