//! Reading places of a stored image that mostly follow each other, on one stream for as long as that is the shortest way.

use super::ImageSource;
use std::io::{self, Read};

/// Up to here it is cheaper to read on than to ask for another place.
const READ_ACROSS: u64 = 1 << 20;

/// A stream of an image, and where it is.
pub struct ReadingOn<'a> {
    image: &'a dyn ImageSource,
    stream: Option<Box<dyn Read + Send>>,
    at: u64,
}

impl<'a> ReadingOn<'a> {
    /// Nothing is asked for yet.
    pub fn new(image: &'a dyn ImageSource) -> Self {
        Self {
            image,
            stream: None,
            at: 0,
        }
    }

    /// Fills `bytes` with what is at `offset`.
    ///
    /// # Errors
    /// What the source says; an end before `bytes` are full.
    pub fn read(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let ahead = offset.checked_sub(self.at);
        // It goes on when all has come: after an error nobody knows where it is.
        let mut stream = match (self.stream.take(), ahead) {
            (Some(mut stream), Some(skip)) if skip <= READ_ACROSS => {
                let skipped = io::copy(&mut stream.by_ref().take(skip), &mut io::sink())?;
                if skipped != skip {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                stream
            }
            _ => self.image.stream_from(offset)?,
        };
        stream.read_exact(bytes)?;
        self.stream = Some(stream);
        self.at = offset + bytes.len() as u64;
        Ok(())
    }
}
