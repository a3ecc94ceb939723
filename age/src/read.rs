//! An encrypted file as the image that is in it: any place of it can be read alone.

use crate::header::{FileKey, Header, HeaderError, MOST};
use crate::keys::Identities;
use crate::stream::{CHUNK, Chunks, NONCE, SEALED, Stream};
use anyhow::{Context, bail};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::encrypted;
use pitstop_imaging::source::ReadAt;
use std::io::{self, Read};
use std::sync::Arc;

/// Whether `image` begins as age's files do.
///
/// # Errors
/// It cannot be read.
pub fn is_encrypted(image: &dyn ImageSource) -> io::Result<bool> {
    let length = image.size().min(encrypted::LENGTH as u64);
    let start = image.bytes_at(0, usize::try_from(length).unwrap_or(0))?;
    Ok(encrypted::is_encrypted(&start))
}

/// What is in an encrypted file. Every byte that comes out of it is proven to be of this file and of this place; that the
/// file has its true end was proven when it was opened.
pub struct Decrypted<'a> {
    inner: Box<dyn ImageSource + 'a>,
    stream: Arc<Stream>,
    chunks: Chunks,
    /// Where the first chunk begins in the file.
    start: u64,
}

/// The header of an encrypted file, as it is: what somebody needs who is to find the file's key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn head(image: &dyn ImageSource) -> anyhow::Result<Vec<u8>> {
    let length = usize::try_from(image.size().min(MOST as u64))?;
    let mut head = image
        .bytes_at(0, length)
        .with_context(|| format!("reading the beginning of {}", image.name()))?;
    let length = Header::parse(&head)
        .with_context(|| image.name().to_owned())?
        .length;
    head.truncate(length);
    Ok(head)
}

impl<'a> Decrypted<'a> {
    /// Opens `inner` with whichever of `identities` it is for.
    ///
    /// # Errors
    /// It is for none of them, is cut short, was changed, or has something behind its end.
    pub fn open(inner: Box<dyn ImageSource + 'a>, identities: &Identities) -> anyhow::Result<Self> {
        let head = head(&*inner)?;
        let header = Header::parse(&head).with_context(|| inner.name().to_owned())?;
        let key = header.open(identities);
        let key = key.with_context(|| inner.name().to_owned())?;
        Self::behind(inner, &header, &key)
    }

    /// Opens `inner` with its own key, which somebody has found who has an identity.
    ///
    /// # Errors
    /// It is another file's key; else as of [`open`](Self::open).
    pub fn with_key(inner: Box<dyn ImageSource + 'a>, key: &FileKey) -> anyhow::Result<Self> {
        let head = head(&*inner)?;
        let header = Header::parse(&head).with_context(|| inner.name().to_owned())?;
        header
            .check(key, HeaderError::OtherFile)
            .with_context(|| inner.name().to_owned())?;
        Self::behind(inner, &header, key)
    }

    /// What follows `header`, which is proven by `key`.
    fn behind(
        inner: Box<dyn ImageSource + 'a>,
        header: &Header<'_>,
        key: &FileKey,
    ) -> anyhow::Result<Self> {
        let name = inner.name().to_owned();
        let nonce = inner.bytes_at(header.length as u64, NONCE);
        let nonce = nonce.with_context(|| format!("{name}: {}", HeaderError::Cut))?;
        let made = key.payload(&nonce).and_then(|key| Stream::new(&key));
        let stream = made
            .map_err(HeaderError::from)
            .with_context(|| name.clone())?;
        let start = (header.length + NONCE) as u64;
        let sealed = inner.size().saturating_sub(start);
        let Some(chunks) = Chunks::of(sealed) else {
            bail!("{name} is cut short: no chunks come to {sealed} bytes");
        };
        let found = Self {
            inner,
            stream: Arc::new(stream),
            chunks,
            start,
        };
        // Only the last chunk tells that it is the last.
        let mut last = Vec::new();
        found.chunk(chunks.count - 1, &mut last).with_context(|| {
            format!("{name} is not whole: it is cut short, damaged, or something follows its end")
        })?;
        Ok(found)
    }

    /// Chunk `number`, opened, in `chunk`.
    fn chunk(&self, number: u64, chunk: &mut Vec<u8>) -> io::Result<()> {
        let (at, length) = self.chunks.place(number);
        chunk.resize(length, 0);
        self.inner.read_exact_at(chunk, self.start + at)?;
        let size = open(&self.stream, self.chunks, number, chunk)?;
        chunk.truncate(size);
        Ok(())
    }
}

/// Opens `sealed`, chunk `number`, in place. Returns how many bytes were in it.
fn open(stream: &Stream, chunks: Chunks, number: u64, sealed: &mut [u8]) -> io::Result<usize> {
    let opened = stream.open(number, chunks.is_last(number), sealed);
    let opened = opened.map_err(|_| {
        let text = format!(
            "the encrypted chunk {number}, bytes {} and on, is damaged or was changed",
            number * CHUNK as u64
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(opened.len())
}

/// Chunks that are read in one go.
const AT_ONCE: u64 = 16;

impl ReadAt for Decrypted<'_> {
    fn size(&self) -> u64 {
        self.chunks.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut filled = 0;
        let mut sealed = Vec::new();
        while filled < buffer.len() {
            let from = at + filled as u64;
            let first = from / CHUNK as u64;
            let last = (at + buffer.len() as u64 - 1) / CHUNK as u64;
            let last = last.min(first + AT_ONCE - 1);
            let (begin, _) = self.chunks.place(first);
            let (end, length) = self.chunks.place(last);
            let whole = usize::try_from(end - begin).map_err(io::Error::other)? + length;
            sealed.resize(whole, 0);
            self.inner.read_exact_at(&mut sealed, self.start + begin)?;
            let mut skip = usize::try_from(from % CHUNK as u64).map_err(io::Error::other)?;
            for (number, sealed) in (first..).zip(sealed.chunks_mut(SEALED)) {
                let size = open(&self.stream, self.chunks, number, sealed)?;
                let taken = (size - skip).min(buffer.len() - filled);
                buffer[filled..filled + taken].copy_from_slice(&sealed[skip..skip + taken]);
                filled += taken;
                skip = 0;
            }
        }
        Ok(())
    }
}

impl ImageSource for Decrypted<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let number = (offset / CHUNK as u64).min(self.chunks.count - 1);
        let (at, _) = self.chunks.place(number);
        let skip = offset - number * CHUNK as u64;
        let mut reader = Reader {
            inner: self.inner.stream_from(self.start + at)?,
            stream: Arc::clone(&self.stream),
            chunks: self.chunks,
            number,
            chunk: Vec::new(),
            at: 0,
        };
        io::copy(&mut reader.by_ref().take(skip), &mut io::sink())?;
        Ok(Box::new(reader))
    }
}

/// The rest of a file, in its order.
struct Reader {
    inner: Box<dyn Read + Send>,
    stream: Arc<Stream>,
    chunks: Chunks,
    /// The next chunk.
    number: u64,
    chunk: Vec<u8>,
    /// What of `chunk` is handed out.
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && self.number < self.chunks.count {
            let (_, length) = self.chunks.place(self.number);
            // Whatever fails, nothing of a chunk that is not proven is handed out.
            self.at = 0;
            self.chunk.clear();
            let mut sealed = vec![0; length];
            self.inner.read_exact(&mut sealed)?;
            let size = open(&self.stream, self.chunks, self.number, &mut sealed)?;
            sealed.truncate(size);
            self.chunk = sealed;
            self.number += 1;
        }
        let taken = buffer.len().min(self.chunk.len() - self.at);
        buffer[..taken].copy_from_slice(&self.chunk[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
