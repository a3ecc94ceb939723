//! A file that is encrypted as it is written.

use crate::crypto::random;
use crate::header::{self, FileKey};
use crate::keys::Recipients;
use crate::stream::{CHUNK, NONCE, SEALED, Stream};
use anyhow::{Context, anyhow};
use std::io::{self, Write};
use std::mem;

/// Encrypts what is written to it. Without [`finish`](Self::finish) the file has no end, and nobody takes it for whole.
pub struct Encrypted<W> {
    out: W,
    stream: Stream,
    number: u64,
    /// Not sealed yet: the last chunk is sealed as such, and which it is only the end tells.
    chunk: Vec<u8>,
    /// A chunk was not written to its end: nothing comes after it, and its number is for no other bytes.
    is_broken: bool,
}

/// Has `fill` write what `out` gets encrypted for `recipients`, to its end.
///
/// # Errors
/// That of `fill`, or of `out`.
pub fn encrypting<R>(
    out: &mut (dyn Write + Send),
    recipients: &Recipients,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    let mut encrypted = Encrypted::new(out, recipients)?;
    let done = fill(&mut encrypted)?;
    encrypted
        .finish()
        .context("writing the end of the encrypted image")?;
    Ok(done)
}

impl<W: Write> Encrypted<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// `out` does not take it, or the system has no random numbers.
    pub fn new(mut out: W, recipients: &Recipients) -> anyhow::Result<Self> {
        let doing = "encrypting the image";
        let key =
            FileKey::new().map_err(|_| anyhow!("{doing}: the system has no random numbers"))?;
        let header = header::write(&key, recipients).context(doing)?;
        let made = random::<NONCE>().and_then(|nonce| {
            let chunks = key.payload(&nonce)?;
            Ok((nonce, Stream::new(&chunks)?))
        });
        let (nonce, stream) =
            made.map_err(|_| anyhow!("{doing}: the system has no random numbers"))?;
        out.write_all(&header)
            .and_then(|()| out.write_all(&nonce))
            .context("writing the header of the encrypted image")?;
        Ok(Self {
            out,
            stream,
            number: 0,
            chunk: Vec::with_capacity(SEALED),
            is_broken: false,
        })
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        if mem::replace(&mut self.is_broken, true) {
            return Err(io::Error::other("a chunk before this one was not written"));
        }
        self.stream
            .seal(self.number, is_last, &mut self.chunk)
            .map_err(|_| io::Error::other("encrypting a chunk failed"))?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        self.number += 1;
        self.is_broken = false;
        Ok(())
    }

    /// Seals the last chunk, and gives back what was written to.
    ///
    /// # Errors
    /// That does not take it.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Encrypted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // One that was sealed and not written is longer.
        if self.chunk.len() >= CHUNK {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// What is in a chunk that is not full stays here until it is, or until the end.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    /// Takes header and nonce, fails at the first chunk, and takes all that comes then.
    struct FailsOnce(u32);

    impl Write for FailsOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 == 3 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_written_behind_a_chunk_that_was_not() {
        let recipients = Recipients::parse(KEY).unwrap();
        let mut out = Encrypted::new(FailsOnce(0), &recipients).unwrap();
        out.write_all(&vec![0; CHUNK]).unwrap();
        let error = out.write_all(&[1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = out.write_all(&[1]).unwrap_err().to_string();
        assert!(error.contains("was not written"), "{error}");
        let error = out.finish().map(drop).unwrap_err().to_string();
        assert!(error.contains("was not written"), "{error}");
    }
}
