//! A pass over the stream of an image without an index. Its decoder fails where a checksum of its format is wrong, so
//! that a stream that came to its end was right.

use super::Verified;
use crate::image::Kind;
use anyhow::bail;
use std::io::{self, Read};

/// Counts the bytes of a stream, and notes its end.
pub struct StreamPass<R> {
    inner: R,
    bytes: u64,
    ended: bool,
}

impl<R: Read> StreamPass<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            bytes: 0,
            ended: false,
        }
    }

    /// What is read.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// The proof, when the stream of the image `name` came to its end and had as many bytes as its header `told`.
    ///
    /// # Errors
    /// When it had not, or had none at all.
    pub fn verified(&self, name: &str, kind: Kind, told: Option<u64>) -> anyhow::Result<Verified> {
        let found = self.bytes;
        // A zstd header tells the size of its first frame; more may follow.
        match told.filter(|_| kind != Kind::Zstd) {
            _ if !self.ended => bail!(
                "{name} was read to raw byte {found} alone: this is a defect of Pitstop's, please report it"
            ),
            Some(told) if told != found => {
                bail!("{name} holds {found} bytes, its own header tells {told}: it is damaged")
            }
            _ if found == 0 => bail!("{name} holds no bytes: it is not an image"),
            _ => Ok(Verified {
                bytes: found,
                checksums: true,
            }),
        }
    }
}

impl<R: Read> Read for StreamPass<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.bytes += read as u64;
        self.ended |= read == 0 && !buf.is_empty();
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_stream_is_proof() {
        let mut pass = StreamPass::new(&b"12345678"[..]);
        let mut buffer = [0; 8];
        pass.read_exact(&mut buffer).unwrap();
        let verified = |pass: &StreamPass<&[u8]>, told| {
            pass.verified("image", Kind::Gzip, told)
                .map(|verified| verified.bytes())
                .map_err(|error| error.to_string())
        };
        let error = verified(&pass, Some(8)).unwrap_err();
        assert!(
            error.starts_with("image was read to raw byte 8 alone"),
            "{error}"
        );
        assert_eq!(pass.read(&mut buffer).unwrap(), 0);
        assert_eq!(verified(&pass, Some(8)), Ok(8));
        let error = verified(&pass, Some(9)).unwrap_err();
        assert!(
            error.ends_with("its own header tells 9: it is damaged"),
            "{error}"
        );
    }
}
