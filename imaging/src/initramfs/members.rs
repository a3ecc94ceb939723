//! What compressed members hold, one after the other. Zeros may stand between and behind them, as many as the writer liked: the
//! kernel skips them (`unpack_to_rootfs`, init/initramfs.c), and decoders know of none.

use super::{Packing, UnknownPacking};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;
use std::io::{self, BufRead, Read};

/// Of the largest that xz is set to make, with room for the decoder: bytes.
const XZ_MEMORY: u64 = 512 << 20;
/// The kernel's own limit (`lib/decompress_unzstd.c`): a power of two.
const ZSTD_WINDOW: u32 = 27;

enum Member<R: BufRead> {
    Gzip(GzDecoder<R>),
    Xz(XzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Member<R> {
    fn new(packing: Packing, packed: R) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(GzDecoder::new(packed)),
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, 0)?;
                Self::Xz(XzDecoder::new_stream(packed, stream))
            }
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(decoder)
            }
            Packing::Unknown(name) => return Err(io::Error::other(UnknownPacking(name))),
            Packing::None => return Err(io::Error::other("it is no archive")),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(member) => member.read(buffer),
            Self::Xz(member) => member.read(buffer),
            Self::Zstd(member) => member.read(buffer),
        }
    }

    /// What stands behind it, once it was read to its end.
    fn into_rest(self) -> R {
        match self {
            Self::Gzip(member) => member.into_inner(),
            Self::Xz(member) => member.into_inner(),
            Self::Zstd(member) => member.finish(),
        }
    }
}

/// All members of one packing, unpacked.
pub struct Members<R: BufRead> {
    packing: Packing,
    /// `None` at the end.
    member: Option<Member<R>>,
}

impl<R: BufRead> Members<R> {
    /// # Errors
    /// When `packing` is none that is read here.
    pub fn new(packing: Packing, packed: R) -> io::Result<Self> {
        let member = Some(Member::new(packing, packed)?);
        Ok(Self { packing, member })
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let rest = self.member.take().map(Member::into_rest);
            if let Some(mut rest) = rest
                && skip_zeros(&mut rest)?
            {
                self.member = Some(Member::new(self.packing, rest)?);
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
