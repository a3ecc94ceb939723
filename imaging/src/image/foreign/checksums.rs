//! Whether a foreign image can be checked at all.

use crate::image::{ImageSource, Kind};
use anyhow::Context;

/// Skippable frames that are passed over to find the first with data.
const MOST_SKIPPED: usize = 16;
/// The most bytes of a zstd frame's header (RFC 8878 3.1.1.1).
const FRAME_HEADER: usize = 18;

/// Whether the format has checksums, and this file uses them; of several zstd frames or xz streams the first tells.
///
/// # Errors
/// When it cannot be read.
pub fn has_checksums(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<bool> {
    let told = match kind {
        Kind::Gzip | Kind::Pitstop => return Ok(true),
        Kind::Raw => return Ok(false),
        // The stream flags' second byte is the kind of check, 0 for none (xz file format 2.1.1.2).
        Kind::Xz => bytes(image, 0).map(|start| start[7] & 0x0f != 0),
        Kind::Zstd => zstd(image),
    };
    told.with_context(|| format!("reading {}", image.name()))
}

/// By the `Content_Checksum_flag` of the first frame that is not skipped (RFC 8878 3.1.1.1.1).
fn zstd(image: &dyn ImageSource) -> anyhow::Result<bool> {
    let header = first_frame(image)?;
    Ok(header.is_some_and(|header| header.get(4).is_some_and(|flags| flags & 0b100 != 0)))
}

/// The header of the first zstd frame that is not skipped, as much as there is of it.
pub fn first_frame(image: &dyn ImageSource) -> anyhow::Result<Option<Vec<u8>>> {
    let mut at = 0;
    for _ in 0..MOST_SKIPPED {
        let left = usize::try_from(image.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let mut start = vec![0; left.min(FRAME_HEADER)];
        image.read_exact_at(&mut start, at)?;
        let Some([0x50..=0x5f, 0x2a, 0x4d, 0x18, size @ ..]) = start.first_chunk::<8>() else {
            return Ok(Some(start));
        };
        at += 8 + u64::from(u32::from_le_bytes(*size));
    }
    Ok(None)
}

fn bytes(image: &dyn ImageSource, at: u64) -> anyhow::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    image.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::FileSource;
    use std::io::Write;

    fn asked(bytes: &[u8], kind: Kind) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        has_checksums(&FileSource::open(file.path()).unwrap(), kind).unwrap()
    }

    #[test]
    fn zstd_and_xz_tell_whether_they_can_be_checked() {
        for wanted in [false, true] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(wanted).unwrap();
            encoder.write_all(b"pitstop").unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(asked(&frame, Kind::Zstd), wanted);
            let skippable = [&[0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &frame].concat();
            assert_eq!(asked(&skippable, Kind::Zstd), wanted);

            let check = if wanted {
                liblzma::stream::Check::Crc64
            } else {
                liblzma::stream::Check::None
            };
            let stream = liblzma::stream::Stream::new_easy_encoder(1, check).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(b"pitstop").unwrap();
            assert_eq!(asked(&encoder.finish().unwrap(), Kind::Xz), wanted);
        }
        assert!(!asked(&[7; 512], Kind::Raw));
    }
}
