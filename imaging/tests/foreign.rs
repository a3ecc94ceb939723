//! Foreign images as tools really write them: in several parts, padded, with and without their size.

use flate2::Compression;
use flate2::write::GzEncoder;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, RestoreOptions, restore, verify};
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

#[derive(Debug, Clone, Copy)]
enum Codec {
    Gzip,
    Xz,
    Zstd,
    /// As from a pipe: its header does not tell the size.
    ZstdUnsized,
}

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Xz, Codec::Zstd, Codec::ZstdUnsized];

impl Codec {
    fn pack(self, raw: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder
                    .set_pledged_src_size(Some(raw.len() as u64))
                    .unwrap();
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::ZstdUnsized => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
        }
    }
}

/// What comes back of an image, or why nothing does.
fn through(image: &[u8]) -> Result<Vec<u8>, String> {
    let folder = TempDir::new().unwrap();
    let (from, to) = (folder.path().join("image"), folder.path().join("disk"));
    fs::write(&from, image).unwrap();
    File::create(&to).unwrap();
    let verified = verified(&from);
    let source = FileSource::open(&from).unwrap();
    let restored = restore(&source, &to, &RestoreOptions::default(), &Silent);
    let restored = restored.map_err(|error| format!("{error:#}"))?;
    // Whatever restores must verify too.
    assert_eq!(verified, Ok(restored.size));
    Ok(fs::read(&to).unwrap())
}

fn verified(path: &Path) -> Result<u64, String> {
    let source = FileSource::open(path).unwrap();
    let verified = verify(&source, 1, &Silent).map_err(|error| format!("{error:#}"))?;
    Ok(verified.bytes())
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 1..3000), 1usize..400).prop_map(|(raw, times)| {
        let mut raw = raw.repeat(times);
        raw.truncate(400_000);
        raw
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_parts_make_one_disk(
        codec in prop::sample::select(&CODECS),
        parts in prop::collection::vec(part(), 1..4),
    ) {
        let image: Vec<u8> = parts.iter().flat_map(|raw| codec.pack(raw)).collect();
        prop_assert!(through(&image) == Ok(parts.concat()));
    }

    #[test]
    fn what_is_cut_off_or_put_behind_is_an_error(
        codec in prop::sample::select(&CODECS),
        parts in prop::collection::vec(part(), 1..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut image: Vec<u8> = parts.iter().flat_map(|raw| codec.pack(raw)).collect();
        let last = codec.pack(&parts[parts.len() - 1]).len();
        let short = image.len() - 1 - cut.index(last - 1);
        prop_assert!(through(&image[..short]).is_err());
        image.extend(b"garbage!");
        prop_assert!(through(&image).is_err());
    }
}

#[test]
fn padding_of_a_tape_is_no_garbage() {
    for (codec, padding) in [(Codec::Gzip, 5000), (Codec::Xz, 4096)] {
        let mut image = [codec.pack(&vec![7; 100_000]), codec.pack(b"end")].concat();
        image.resize(image.len() + padding, 0);
        let raw = through(&image).unwrap();
        assert!(
            raw.len() == 100_003 && raw.ends_with(b"\x07end"),
            "{codec:?}"
        );
    }
}

#[test]
fn frames_that_zstd_skips_are_skipped() {
    let note = b"\x50\x2a\x4d\x18\x04\0\0\0note";
    let frame = Codec::Zstd.pack(&vec![7; 100_000]);
    let image = [note, &frame[..], note].concat();
    assert!(through(&image).unwrap() == vec![7; 100_000]);
}
