//! An image that lies in memory.

use pitstop_imaging::source::ReadAt;
use pitstop_imaging::image::ImageSource;
use std::io::{self, Read};

pub struct Bytes(pub Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let from = usize::try_from(offset).map_err(|_| end())?;
        let tail = self.0.get(from..).ok_or_else(end)?;
        buf.copy_from_slice(tail.get(..buf.len()).ok_or_else(end)?);
        Ok(())
    }
}

impl ImageSource for Bytes {
    fn name(&self) -> &str {
        "fuzz"
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(Box::new(io::Cursor::new(self.0[from..].to_vec())))
    }
}
