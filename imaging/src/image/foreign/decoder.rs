//! The raw bytes of an image without an index in their order, whatever packs them.

use super::gzip::{Gunzip, TrailingBytes};
use super::windows;
use crate::event::Reporter;
use crate::image::{ImageSource, Kind};
use anyhow::Context;
use std::io::{self, BufReader, Read};

/// Bytes of compressed data read at once.
const READ: usize = 256 << 10;

/// The raw bytes of any image, from the first to the proven last.
pub struct Decoder<'a>(Inner<'a>);

enum Inner<'a> {
    Gzip(Gunzip<Box<dyn Read + Send>>),
    Xz(Box<liblzma::bufread::XzDecoder<BufReader<Box<dyn Read + Send>>>>),
    Other(Box<dyn Read + Send + 'a>),
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// When the image cannot be read, or its decoder has no memory.
    pub fn open(image: &'a dyn ImageSource, kind: Kind) -> anyhow::Result<Self> {
        let stream = image
            .stream_from(0)
            .with_context(|| format!("reading {}", image.name()))?;
        Ok(Self(match kind {
            Kind::Gzip | Kind::Pitstop => Inner::Gzip(Gunzip::new(stream)),
            Kind::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let decoder = liblzma::stream::Stream::new_stream_decoder(windows::xz(), flags)
                    .context("setting up xz")?;
                let stream = BufReader::with_capacity(READ, stream);
                let decoder = liblzma::bufread::XzDecoder::new_stream(stream, decoder);
                Inner::Xz(Box::new(decoder))
            }
            Kind::Zstd => {
                let window = windows::zstd(image)?;
                let mut decoder =
                    zstd::stream::read::Decoder::new(stream).context("setting up zstd")?;
                decoder.window_log_max(window).context("setting up zstd")?;
                Inner::Other(Box::new(decoder))
            }
            Kind::Raw => Inner::Other(stream),
        }))
    }

    /// Bytes that follow the data of a gzip and are none, once its end was reached. As gunzip has it they are left
    /// out, with a warning; zeros are padding, and not counted.
    pub fn trailing(&self) -> Option<TrailingBytes> {
        match &self.0 {
            Inner::Gzip(gunzip) => gunzip.trailing(),
            Inner::Xz(_) | Inner::Other(_) => None,
        }
    }

    /// Tells what follows the data, if something does.
    pub fn warn_of_trailing(&self, image: &dyn ImageSource, reporter: &dyn Reporter) {
        if let Some(trailing) = self.trailing() {
            reporter.warn(format!("{}: {trailing}", image.name()));
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Gzip(gunzip) => gunzip.read(buf),
            Inner::Xz(xz) => xz.read(buf).map_err(windows::explained),
            Inner::Other(other) => other.read(buf),
        }
    }
}

/// Fills `buffer` unless the stream ends first; how much it has.
pub fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
