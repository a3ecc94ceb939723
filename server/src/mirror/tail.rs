//! The end of an image, which holds its index: it comes over the line once, and what was proven is what is kept.

use anyhow::{Context, bail};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_imaging::source::ReadAt;
use pitstop_transport::share::HttpImage;
use std::io::{self, Read};

/// An image of which the end is here, from its index on.
pub struct Tail<'a> {
    image: &'a HttpImage,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Tail<'a> {
    /// # Errors
    /// It cannot be read, or is not that of an image with an index.
    pub fn read(image: &'a HttpImage) -> anyhow::Result<Self> {
        let (name, size) = (image.name(), image.size());
        let reading = || format!("reading the end of {name}");
        let Some(at) = size.checked_sub(FOOTER as u64) else {
            bail!("{name} has {size} bytes: it is cut short");
        };
        let footer = image.bytes_at(at, FOOTER).with_context(reading)?;
        let footer = parse_footer(&footer, size).with_context(|| format!("{name} is not whole"))?;
        let start = footer.offset;
        let length = usize::try_from(size - start)?;
        let bytes = image.bytes_at(start, length).with_context(reading)?;
        Ok(Self {
            image,
            start,
            bytes,
        })
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl ReadAt for Tail<'_> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = at.checked_sub(self.start);
        let from = from.and_then(|from| usize::try_from(from).ok());
        let found = from.and_then(|from| self.bytes.get(from..)?.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ImageSource for Tail<'_> {
    fn name(&self) -> &str {
        self.image.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        self.image.stream_from(offset)
    }
}
