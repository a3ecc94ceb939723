//! How large a foreign image is before it is decoded, where its format tells.

use super::containers;
use super::decoder::{Decoder, read_full};
use crate::disk::Output;
use crate::event::Reporter;
use crate::image::{ImageSource, Kind};
use crate::units;
use anyhow::{Context, bail};

/// Bytes of an xz stream header and of its footer (xz file format 2.1.1, 2.1.2).
const XZ_EDGE: u64 = 12;
/// An index of more bytes than this is not read just to learn a size.
const XZ_INDEX_MOST: u64 = 16 << 20;

/// Raw bytes of `image`, where its format tells.
///
/// # Errors
/// When it cannot be read, and for a file that can be no disk at all.
pub fn raw_size(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<Option<u64>> {
    let name = image.name();
    match kind {
        Kind::Raw if image.size() == 0 => bail!("{name} is empty"),
        Kind::Raw => {
            let mut start = vec![0; containers::START];
            let length =
                usize::try_from(image.size()).map_or(start.len(), |size| size.min(start.len()));
            image
                .read_exact_at(&mut start[..length], 0)
                .with_context(|| format!("reading {name}"))?;
            match containers::no_disk(&start[..length], image.size()) {
                Some(why) => bail!("{name} is neither gzip, xz nor zstd, and no raw disk: {why}"),
                None => Ok(Some(image.size())),
            }
        }
        Kind::Xz => xz(image).with_context(|| format!("reading the index of {name}")),
        Kind::Zstd => zstd(image).with_context(|| format!("reading the header of {name}")),
        // ISIZE is modulo 2^32 and of the last member only (RFC 1952 2.3.1).
        Kind::Gzip | Kind::Pitstop => Ok(None),
    }
}

/// Refuses a gzip that is too large for `output`, as far as that can be known.
///
/// The last four bytes are the last member's size, modulo 2^32 (RFC 1952 2.3.1), unless something follows the data.
/// So they forbid nothing by themselves: where they would, the image is unpacked once to know.
pub fn check_gzip(
    image: &dyn ImageSource,
    output: &dyn Output,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(limit) = output.limit() else {
        return Ok(());
    };
    let told = last_bytes(image)?;
    if told <= limit {
        return Ok(());
    }
    let (from, to) = (image.name(), output.name());
    reporter.info(format!(
        "{from} ends as if it unpacked to {}, more than {to} has: it is unpacked once to know, and nothing written \
         meanwhile",
        units::bytes(told)
    ));
    let mut decoder = Decoder::open(image, Kind::Gzip)?;
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = read_full(&mut decoder, &mut buffer);
        match read.with_context(|| format!("{from} at raw byte {size}"))? as u64 {
            0 => return Ok(()),
            read => size += read,
        }
        if size > limit {
            bail!(
                "{to} is too small: it has {limit} bytes ({}), {from} unpacks to more",
                units::bytes(limit)
            );
        }
    }
}

/// The last four bytes as a number.
fn last_bytes(image: &dyn ImageSource) -> anyhow::Result<u64> {
    let mut size = [0; 4];
    let Some(at) = image.size().checked_sub(size.len() as u64) else {
        return Ok(0);
    };
    image
        .read_exact_at(&mut size, at)
        .with_context(|| format!("reading the end of {}", image.name()))?;
    Ok(u32::from_le_bytes(size).into())
}

/// The size by the index of a file of one stream; `None` for several, or when in doubt.
fn xz(image: &dyn ImageSource) -> anyhow::Result<Option<u64>> {
    let size = image.size();
    let Some(footer_at) = size.checked_sub(XZ_EDGE).filter(|at| *at >= XZ_EDGE) else {
        return Ok(None);
    };
    let mut footer = [0; 12];
    image.read_exact_at(&mut footer, footer_at)?;
    let backward = u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]]);
    let index_size = (u64::from(backward) + 1) * 4;
    if &footer[10..] != b"YZ" || index_size > XZ_INDEX_MOST {
        return Ok(None);
    }
    let Some(index_at) = footer_at.checked_sub(index_size) else {
        return Ok(None);
    };
    let mut index = vec![0; usize::try_from(index_size)?];
    image.read_exact_at(&mut index, index_at)?;
    let told = xz_index(&index);
    Ok(told.and_then(|(blocks, raw)| (blocks + XZ_EDGE == index_at).then_some(raw)))
}

/// Padded bytes of all blocks, and their raw bytes (xz file format 4.3).
fn xz_index(index: &[u8]) -> Option<(u64, u64)> {
    let mut rest = index.strip_prefix(&[0])?;
    let count = number(&mut rest)?;
    let (mut blocks, mut raw) = (0u64, 0u64);
    for _ in 0..count {
        let block = number(&mut rest)?;
        blocks = blocks.checked_add(block.checked_next_multiple_of(4)?)?;
        raw = raw.checked_add(number(&mut rest)?)?;
    }
    Some((blocks, raw))
}

/// A number of seven bits a byte, lowest first (xz file format 1.2).
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The size in the header of the first frame, when there is no other frame after it to add to it.
fn zstd(image: &dyn ImageSource) -> anyhow::Result<Option<u64>> {
    let mut start = [0; 18];
    let wanted = usize::try_from(image.size()).map_or(18, |size| size.min(18));
    image.read_exact_at(&mut start[..wanted], 0)?;
    Ok(zstd::zstd_safe::get_frame_content_size(&start[..wanted])
        .ok()
        .flatten()
        .filter(|size| *size > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::FileSource;
    use proptest::prelude::*;
    use std::io::Write;

    fn source(bytes: &[u8]) -> (tempfile::TempDir, FileSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        let source = FileSource::open(&path).unwrap();
        (folder, source)
    }

    #[test]
    fn xz_and_zstd_tell_their_size() {
        let raw = b"pitstop ".repeat(10_000);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&raw).unwrap();
        let xz = xz.finish().unwrap();
        let (_folder, image) = source(&xz);
        assert_eq!(raw_size(&image, Kind::Xz).unwrap(), Some(80_000));
        let (_folder, two) = source(&[&xz[..], &xz].concat());
        assert_eq!(raw_size(&two, Kind::Xz).unwrap(), None);
        let zstd = zstd::bulk::compress(&raw, 1).unwrap();
        let (_folder, image) = source(&zstd);
        assert_eq!(raw_size(&image, Kind::Zstd).unwrap(), Some(80_000));
    }

    #[test]
    fn a_text_file_is_no_disk() {
        let (_folder, image) = source(b"hello");
        let err = raw_size(&image, Kind::Raw).unwrap_err();
        let why = "and no raw disk: 5 bytes are less than a sector of 512";
        assert!(err.to_string().ends_with(why), "{err}");
        let (_folder, image) = source(&b"a line\n".repeat(300));
        let err = raw_size(&image, Kind::Raw).unwrap_err();
        assert!(err.to_string().ends_with("and no whole sectors"), "{err}");
        let (_folder, image) = source(&[7, 0, 9].repeat(301));
        assert_eq!(raw_size(&image, Kind::Raw).unwrap(), Some(903));
    }

    proptest! {
        #[test]
        fn any_index_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = xz_index(&bytes);
        }
    }
}
