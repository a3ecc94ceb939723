//! Foreign images as tools really write them: in several parts, padded, with and without their size.

use flate2::Compression;
use flate2::write::GzEncoder;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, RestoreOptions, restore, verify};
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
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
    // At least a sector: less is no disk.
    (prop::collection::vec(any::<u8>(), 1..3000), 1usize..400).prop_map(|(raw, times)| {
        let mut raw = raw.repeat(times.max(512_usize.div_ceil(raw.len())));
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
        let back = through(&image);
        if matches!(codec, Codec::Gzip) {
            prop_assert!(back == Ok(parts.concat()));
        } else {
            prop_assert!(back.is_err());
        }
    }

    /// Of parts the last may be gone without a trace, as gunzip sees it; all else is an error, or the very bytes.
    #[test]
    fn a_changed_bit_never_passes_for_another_disk(
        codec in prop::sample::select(&CODECS),
        parts in prop::collection::vec(part(), 1..4),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut image: Vec<u8> = parts.iter().flat_map(|raw| codec.pack(raw)).collect();
        let at = at.index(image.len());
        image[at] ^= 1 << bit;
        // Without a checksum zstd cannot tell.
        if !matches!(codec, Codec::Zstd) && let Ok(back) = through(&image) {
            // Without its first bytes, and if it fills whole sectors, it is the raw image of a disk, as any file is.
            let raw = at < 6 && back == image;
            prop_assert!(raw || back == parts.concat(), "byte {at}, bit {bit}");
        }
    }
}

/// What `restore` says of a file; the disk must be as it was.
fn refused(name: &str, image: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let (from, to) = (folder.path().join(name), folder.path().join("disk"));
    fs::write(&from, image).unwrap();
    let before = b"OLD DISK".repeat(1 << 20);
    fs::write(&to, &before).unwrap();
    let source = FileSource::open(&from).unwrap();
    let restored = restore(&source, &to, &RestoreOptions::default(), &Silent);
    let error = format!("{:#}", restored.unwrap_err());
    assert!(
        fs::read(&to).unwrap() == before,
        "{name} was written: {error}"
    );
    assert!(verify(&source, 1, &Silent).is_err(), "{name} verifies");
    error
}

/// So long that its end is not looked at by chance.
fn with_body(start: &[u8]) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.resize(512, 0);
    bytes.extend((0..200_000u32).flat_map(u32::to_le_bytes));
    bytes
}

#[test]
fn what_is_no_disk_is_refused_whatever_packs_it() {
    let mut vdi = b"<<< QEMU VM Virtual Disk Image >>>\n".to_vec();
    vdi.resize(0x40, 0);
    vdi.extend([0x7f, 0x10, 0xda, 0xbe, 1, 0, 1, 0]);
    for (name, start, command) in [
        (
            "a qcow2 image",
            &b"QFI\xfb\0\0\0\x03"[..],
            "qemu-img convert",
        ),
        ("a VMDK image", b"KDMV\x01\0\0\0", "qemu-img convert"),
        ("a VMDK image", b"COWD\x01\0\0\0", "qemu-img convert"),
        (
            "descriptor of a VMDK",
            b"# Disk DescriptorFile\nversion=1\n",
            "qemu-img",
        ),
        ("a VDI image", &vdi, "qemu-img convert"),
        (
            "a VHD image",
            b"conectix\0\0\0\x02",
            "qemu-img convert -f vpc",
        ),
        ("a VHDX image", b"vhdxfile", "qemu-img convert"),
        ("partclone", b"partclone-image\0", "partclone.restore"),
        (
            "ntfsclone",
            b"\0ntfsclone-image",
            "ntfsclone --restore-image",
        ),
        (
            "an Android sparse image",
            b"\x3a\xff\x26\xed\x01\0",
            "simg2img",
        ),
        ("a zip archive", b"PK\x03\x04\x14\0", "unzip"),
        ("a bzip2 file", b"BZh91AY&SY", "bzip2 -dc"),
    ] {
        let bytes = with_body(start);
        for packed in [
            bytes.clone(),
            Codec::Gzip.pack(&bytes),
            Codec::Xz.pack(&bytes),
            Codec::Zstd.pack(&bytes),
        ] {
            let error = refused("disk.img", &packed);
            assert!(error.contains(name) && error.contains(command), "{error}");
        }
    }
}

#[test]
fn what_is_packed_twice_is_refused() {
    let disk = with_body(&[]);
    for (outer, unpack) in [
        (Codec::Gzip, "gzip -dc"),
        (Codec::Xz, "xz -dc"),
        (Codec::Zstd, "zstd -dc"),
    ] {
        for inner in [Codec::Gzip, Codec::Xz, Codec::Zstd] {
            let error = refused("twice", &outer.pack(&inner.pack(&disk)));
            assert!(error.contains(unpack), "{error}");
        }
    }
}

#[test]
fn a_tar_of_the_system_is_no_disk() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("disk.raw"), with_body(&[])).unwrap();
    for format in ["v7", "ustar", "gnu", "posix"] {
        let tar = folder.path().join("disk.tar");
        let made = Command::new("tar")
            .args([&format!("--format={format}"), "-C"])
            .arg(folder.path())
            .arg("-cf")
            .arg(&tar)
            .arg("disk.raw")
            .status()
            .unwrap();
        assert!(made.success());
        let tar = fs::read(&tar).unwrap();
        for packed in [tar.clone(), Codec::Gzip.pack(&tar)] {
            let error = refused("disk.raw.tar.gz.img", &packed);
            assert!(error.contains("a tar archive"), "{format}: {error}");
        }
    }
}

/// As fixed VHDs end: a disk, then a footer that is right for just that.
#[test]
fn a_fixed_vhd_is_told_by_its_end() {
    let mut disk = vec![7; 1 << 20];
    let mut footer = b"conectix".to_vec();
    footer.resize(512, 0);
    footer[48..56].copy_from_slice(&(disk.len() as u64).to_be_bytes());
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    disk.extend(&footer);
    let error = refused("disk.vhd", &disk);
    assert!(error.contains("a VHD image of fixed size"), "{error}");
    // A larger disk that such a file was written to has a footer somewhere.
    disk.extend([0; 512]);
    assert!(through(&disk).unwrap() == disk);
}

/// As builders of firmware leave their images.
#[test]
fn what_follows_a_gzip_is_left_out_and_the_size_is_not_judged_by_it() {
    let raw = with_body(&[]);
    let tail =
        b"\0\0\0\0{ \"metadata_version\": \"1.1\" }\nFWx0\x12\x34\x56\x78\x01\0\0\0\0\0\0\x5f";
    let image = [&Codec::Gzip.pack(&raw)[..], tail].concat();
    assert!(through(&image).unwrap() == raw);
    let folder = TempDir::new().unwrap();
    let (from, to) = (folder.path().join("x.img.gz"), folder.path().join("disk"));
    fs::write(&from, &image).unwrap();
    fs::write(&to, vec![9; 2 << 20]).unwrap();
    let source = FileSource::open(&from).unwrap();
    restore(&source, &to, &RestoreOptions::default(), &Silent).unwrap();
    assert!(fs::read(&to).unwrap()[..raw.len()] == raw);
    fs::write(&to, vec![9; 1 << 19]).unwrap();
    let error = restore(&source, &to, &RestoreOptions::default(), &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("is too small"), "{error:#}");
    assert!(fs::read(&to).unwrap() == vec![9; 1 << 19]);
}

#[test]
fn a_disk_of_odd_size_is_the_same_raw_and_packed() {
    for length in [512, 513, 100_001, (1 << 20) + 1] {
        let raw = vec![7; length];
        assert!(through(&raw).unwrap() == raw, "{length}");
        assert!(through(&Codec::Gzip.pack(&raw)).unwrap() == raw, "{length}");
    }
    for image in [
        b"too short".to_vec(),
        Codec::Gzip.pack(b"too short"),
        b"a line of a text\n".repeat(100),
        Codec::Gzip.pack(&b"a line of a text\n".repeat(100)),
    ] {
        let error = refused("disk.img", &image);
        assert!(error.contains("disk: "), "{error}");
    }
}

#[test]
fn a_long_window_of_zstd_is_taken() {
    let raw = with_body(&[]).repeat(3);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&raw).unwrap();
    assert!(through(&encoder.finish().unwrap()).unwrap() == raw);
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
