//! What an initramfs holds, unpacked: members one after the other, each packed in its own way, or plain. Zeros may stand between and
//! behind them, as many as the writer liked: the kernel skips them (`unpack_to_rootfs`, init/initramfs.c), and decoders know of none.

use super::{MAGIC, Packing, UnknownPacking, packing, read_full};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

/// Of the largest that xz is set to make, with room for the decoder: bytes.
const XZ_MEMORY: u64 = 512 << 20;
/// The kernel's own limit (`lib/decompress_unzstd.c`): a power of two.
const ZSTD_WINDOW: u32 = 27;

/// An image of which the first bytes have been looked at, and are still to come.
struct Peeked<R> {
    start: [u8; MAGIC],
    /// The part of them that is still to come.
    left: Range<usize>,
    image: R,
}

impl<R: BufRead> Peeked<R> {
    /// How what comes now is packed.
    fn packing(&mut self) -> io::Result<Packing> {
        let mut start = [0; MAGIC];
        let length = read_full(self, &mut start)?;
        self.put_back(start, length);
        Ok(packing(&self.start[..length]))
    }

    /// What was read of it last.
    fn put_back(&mut self, start: [u8; MAGIC], length: usize) {
        self.start = start;
        self.left = 0..length;
    }
}

impl<R: BufRead> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            return self.image.read(buffer);
        }
        let read = (&self.start[self.left.clone()]).read(buffer)?;
        self.left.start += read;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left.is_empty() {
            return self.image.fill_buf();
        }
        Ok(&self.start[self.left.clone()])
    }

    fn consume(&mut self, length: usize) {
        if self.left.is_empty() {
            self.image.consume(length);
        } else {
            self.left.start += length;
        }
    }
}

enum Member<R: BufRead> {
    /// All that is left, as far as anybody can tell who does not read it.
    Plain(R),
    Gzip(BufReader<GzDecoder<R>>),
    Xz(BufReader<XzDecoder<R>>),
    Zstd(BufReader<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> Member<R> {
    fn new(packing: Packing, packed: R) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(BufReader::new(GzDecoder::new(packed))),
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, 0)?;
                Self::Xz(BufReader::new(XzDecoder::new_stream(packed, stream)))
            }
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(BufReader::new(decoder))
            }
            Packing::Unknown(name) => return Err(io::Error::other(UnknownPacking(name))),
            Packing::None => Self::Plain(packed),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Gzip(member) => member.read(buffer),
            Self::Xz(member) => member.read(buffer),
            Self::Zstd(member) => member.read(buffer),
        }
    }

    /// What stands behind it, once it was read to its end.
    fn into_rest(self) -> R {
        match self {
            Self::Plain(plain) => plain,
            Self::Gzip(member) => member.into_inner().into_inner(),
            Self::Xz(member) => member.into_inner().into_inner(),
            Self::Zstd(member) => member.into_inner().finish(),
        }
    }
}

/// All members, unpacked.
pub struct Members<R: BufRead> {
    /// `None` at the end.
    member: Option<Member<Peeked<R>>>,
}

impl<R: BufRead> Members<R> {
    pub fn new(image: R) -> Self {
        let image = Peeked {
            start: [0; MAGIC],
            left: 0..0,
            image,
        };
        let member = Some(Member::Plain(image));
        Self { member }
    }

    /// Whether what was read last was not packed.
    pub fn is_plain(&self) -> bool {
        matches!(self.member, Some(Member::Plain(_)))
    }

    /// A packed member begins where something plain was read: with these bytes, which were read last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn begins(&mut self, start: [u8; MAGIC], length: usize) -> io::Result<()> {
        if let Some(member) = self.member.take() {
            let mut image = member.into_rest();
            image.put_back(start, length);
            self.member = Some(Member::new(packing(&start[..length]), image)?);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || matches!(member, Member::Plain(_)) {
                return Ok(read);
            }
            let rest = self.member.take().map(Member::into_rest);
            if let Some(mut rest) = rest
                && skip_zeros(&mut rest)?
            {
                self.member = Some(Member::new(rest.packing()?, rest)?);
            }
        }
        Ok(0)
    }
}

/// Whether anything stands behind the zeros.
fn skip_zeros(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        let length = bytes.len();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        rest.consume(zeros);
        if length == 0 || zeros < length {
            return Ok(length > 0);
        }
    }
}
