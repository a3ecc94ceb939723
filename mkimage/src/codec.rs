//! The compressions that the kernel unpacks an initramfs from, and that modules come in.

use crate::arch::Architecture;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::io::{Read, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    Zstd,
    Xz,
    Gzip,
    None,
}

impl Codec {
    /// Writes `data` to `out` compressed, for a kernel of `architecture`. Deterministic: no names, no times.
    pub fn compress(self, data: &[u8], architecture: Architecture, out: impl Write) -> Result<()> {
        match self {
            Codec::Zstd => {
                let mut encoder = zstd::Encoder::new(out, 19)?;
                // The kernel's decoder refuses windows beyond 128 MiB; 8 MiB also fits a small machine.
                encoder.window_log(23)?;
                encoder.include_checksum(true)?;
                // The bytes are the same for any number of workers, so they do not depend on the machine.
                encoder.multithread(2)?;
                encoder.write_all(data)?;
                encoder.finish()?.flush()?;
            }
            Codec::Xz => {
                // The kernel's xz decoder knows no CRC64 (Documentation/staging/xz.rst).
                let mut options = liblzma::stream::LzmaOptions::new_preset(6)?;
                options.dict_size(8 << 20);
                let mut filters = liblzma::stream::Filters::new();
                // Programs come out a tenth smaller.
                if architecture.filters_jumps() {
                    filters.x86();
                }
                filters.lzma2(&options);
                let stream = liblzma::stream::Stream::new_stream_encoder(
                    &filters,
                    liblzma::stream::Check::Crc32,
                )?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(out, stream);
                encoder.write_all(data)?;
                encoder.finish()?.flush()?;
            }
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::best());
                encoder.write_all(data)?;
                encoder.finish()?.flush()?;
            }
            Codec::None => {
                let mut out = out;
                out.write_all(data)?;
                out.flush()?;
            }
        }
        Ok(())
    }

    /// Which compression `data` begins with, by its magic number; [`Codec::None`] when by none of ours.
    pub fn of(data: &[u8]) -> Self {
        match data {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Codec::Xz,
            [0x1f, 0x8b, ..] => Codec::Gzip,
            _ => Codec::None,
        }
    }

    /// The whole of `data`, decompressed by whatever it is compressed with. At most `limit` bytes.
    pub fn decompress(data: &[u8], limit: u64) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        let codec = Self::of(data);
        let reader: Box<dyn Read + '_> = match codec {
            Codec::Zstd => Box::new(zstd::Decoder::with_buffer(data)?),
            Codec::Xz => Box::new(liblzma::bufread::XzDecoder::new(data)),
            Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(data)),
            Codec::None => return Ok(data.to_vec()),
        };
        let read = reader
            .take(limit + 1)
            .read_to_end(&mut plain)
            .with_context(|| format!("decompressing {codec:?} data"))?;
        if read as u64 > limit {
            bail!("decompresses to more than {limit} bytes");
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_reads_back_what_it_wrote() {
        let data: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let codecs = [Codec::Zstd, Codec::Xz, Codec::Gzip, Codec::None];
        let both = Architecture::ALL.into_iter();
        for (codec, architecture) in both.flat_map(|one| codecs.map(|codec| (codec, one))) {
            let mut packed = Vec::new();
            codec.compress(&data, architecture, &mut packed).unwrap();
            assert_eq!(Codec::of(&packed), codec);
            assert_eq!(
                Codec::decompress(&packed, 200_000).unwrap(),
                data,
                "{codec:?}"
            );
        }
    }

    #[test]
    fn a_bomb_is_refused_and_a_cut_stream_is_an_error() {
        let mut packed = Vec::new();
        Codec::Zstd
            .compress(&vec![0; 1 << 20], Architecture::X86_64, &mut packed)
            .unwrap();
        let error = Codec::decompress(&packed, 1000).unwrap_err();
        assert!(
            error.to_string().contains("more than 1000 bytes"),
            "{error}"
        );
        packed.truncate(packed.len() - 6);
        let error = Codec::decompress(&packed, 2 << 20).unwrap_err();
        assert!(error.to_string().contains("decompressing Zstd"), "{error}");
    }
}
