//! Images made and restored as a whole: on files, through every path of the engine.

use pitstop_payload::disk::DiskInput;
use pitstop_payload::event::Silent;
use pitstop_payload::image::{
    CaptureOptions, Delta, FileSource, ImageMeta, ImageSource, Kind, Level, RestoreOptions,
    capture, probe, restore, verify,
};
use pitstop_payload::inventory::DiskIdentity;
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn capture(&self, disk: &Path, options: &CaptureOptions) -> (PathBuf, ImageMeta) {
        let image = self.path("disk.raw.gz");
        let mut out = File::create(&image).unwrap();
        let meta = capture(disk, &identity(disk), options, &mut out, &Silent).unwrap();
        (image, meta)
    }
}

fn identity(disk: &Path) -> DiskIdentity {
    use pitstop_payload::disk::Input;
    DiskIdentity {
        device: "disk".into(),
        model: "a file".into(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: DiskInput::open(disk).unwrap().size(),
        logical_sector_size: 512,
        physical_sector_size: 512,
    }
}

fn source(path: &Path) -> FileSource {
    FileSource::open(path).unwrap()
}

fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Text, noise, zeros, a bit of each, and an odd end.
fn disk_of(chunks: usize, odd: usize) -> Vec<u8> {
    let mut disk = Vec::new();
    for chunk in 0..chunks {
        match chunk % 5 {
            0 => disk.extend(
                format!("line {chunk} of a text\n")
                    .repeat(MIB / 8)
                    .into_bytes(),
            ),
            1 => disk.extend(noise(MIB, chunk as u64 + 1)),
            2 | 3 => disk.extend(vec![0; MIB]),
            _ => disk.extend([noise(MIB / 2, 99), vec![7; MIB / 2]].concat()),
        }
        disk.truncate((chunk + 1) * MIB);
    }
    disk.extend(noise(odd, 5));
    disk
}

fn plain() -> RestoreOptions {
    RestoreOptions {
        delta: Delta::Off,
        ..RestoreOptions::default()
    }
}

#[test]
fn a_disk_comes_back_and_zcat_agrees() {
    for (odd, level) in [
        (0, Level::Fast),
        (512, Level::Fast),
        (MIB - 512, Level::Small),
    ] {
        let bench = Bench::new();
        let raw = disk_of(11, odd);
        let disk = bench.write("disk", &raw);
        let options = CaptureOptions {
            level,
            ..CaptureOptions::default()
        };
        let (image, meta) = bench.capture(&disk, &options);
        assert_eq!(meta.disk.size, raw.len() as u64);
        let back = bench.path("back");
        let options = RestoreOptions {
            verify: true,
            ..plain()
        };
        let restored = restore(&source(&image), &back, &options, &Silent).unwrap();
        assert!(restored.verified);
        assert!(fs::read(&back).unwrap() == raw);
        let zcat = Command::new("zcat").arg(&image).output().unwrap();
        assert!(zcat.status.success() && zcat.stdout == raw, "zcat differs");
        assert_eq!(
            verify(&source(&image), 2, &Silent).unwrap().bytes(),
            raw.len() as u64
        );
        let probe = probe(&source(&image)).unwrap();
        assert_eq!((probe.kind, probe.meta), (Kind::Pitstop, Some(meta)));
    }
}

#[test]
fn holes_cost_nothing_and_stay_holes() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    let file = File::create(&disk).unwrap();
    file.set_len(64 << 30).unwrap();
    file.write_all_at(b"here", 40 << 30).unwrap();
    let (image, meta) = bench.capture(&disk, &CaptureOptions::default());
    assert!(meta.kept <= 1 << 20, "{}", meta.kept);
    let back = bench.path("back");
    restore(&source(&image), &back, &plain(), &Silent).unwrap();
    let found = fs::metadata(&back).unwrap();
    assert_eq!(found.len(), 64 << 30);
    assert!(found.blocks() * 512 < 8 << 20);
    let mut here = [0; 4];
    File::open(&back)
        .unwrap()
        .read_exact_at(&mut here, 40 << 30)
        .unwrap();
    assert_eq!(&here, b"here");
}

#[test]
fn a_larger_target_keeps_its_tail_and_a_smaller_is_refused_untouched() {
    let bench = Bench::new();
    let raw = disk_of(6, 0);
    let disk = bench.write("disk", &raw);
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let large = bench.write("large", &vec![9; 8 * MIB]);
    restore(&source(&image), &large, &plain(), &Silent).unwrap();
    let found = fs::read(&large).unwrap();
    assert!(found[..6 * MIB] == raw && found[6 * MIB..].iter().all(|b| *b == 9));
    let small = bench.write("small", &vec![9; 5 * MIB]);
    let err = restore(&source(&image), &small, &plain(), &Silent).unwrap_err();
    assert!(
        err.to_string().ends_with(
            "is too small: it has 5242880 bytes (5.0 MiB), the image needs 6291456 (6.0 MiB)"
        ),
        "{err}"
    );
    assert!(fs::read(&small).unwrap().iter().all(|b| *b == 9));
}

#[test]
fn delta_moves_only_what_differs() {
    let bench = Bench::new();
    let raw = disk_of(40, 512);
    let disk = bench.write("disk", &raw);
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let mut changed = raw.clone();
    changed[20 * MIB + 5] ^= 1;
    changed[22 * MIB + 5] ^= 1;
    for (delta, moved_all) in [(Delta::Auto, false), (Delta::On, false), (Delta::Off, true)] {
        let target = bench.write("target", &changed);
        let options = RestoreOptions {
            delta,
            verify: true,
            threads: 2,
        };
        let restored = restore(&source(&image), &target, &options, &Silent).unwrap();
        assert!(fs::read(&target).unwrap() == raw, "{delta:?}");
        assert_eq!(restored.unchanged == 0, moved_all, "{delta:?}");
        let size = source(&image).size();
        assert_eq!(
            restored.transferred > size / 3,
            moved_all,
            "{delta:?}: {restored:?}"
        );
    }
}

#[test]
fn the_reader_in_the_docs_and_other_tools_read_the_same() {
    let bench = Bench::new();
    let raw = disk_of(9, 512);
    let disk = bench.write("disk", &raw);
    let (image, meta) = bench.capture(&disk, &CaptureOptions::default());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/image-format.md");
    let docs = fs::read_to_string(docs).unwrap();
    let reader = docs.split("```python\n").nth(1).unwrap();
    let reader = bench.write("reader.py", reader.split("```").next().unwrap().as_bytes());
    let with_gzip = "import gzip,sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
    let tools: [(&str, &[&str]); 5] = [
        ("python3", &[reader.to_str().unwrap()]),
        ("python3", &["-c", with_gzip]),
        ("gzip", &["-dc"]),
        ("pigz", &["-dc"]),
        ("bsdcat", &[]),
    ];
    for (tool, arguments) in tools {
        let read = Command::new(tool).args(arguments).arg(&image).output();
        let read = read.unwrap_or_else(|err| panic!("{tool} must be installed: {err}"));
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(
            read.status.success() && said.is_empty(),
            "{tool} {arguments:?}: {said}"
        );
        assert!(read.stdout == raw, "{tool} {arguments:?} reads other bytes");
    }
    assert_eq!(
        ImageMeta::from_toml(&meta.to_toml().unwrap()).unwrap(),
        meta
    );
}

/// An image with one thing wrong, and a target that must not boot afterwards.
fn refused(bench: &Bench, image: &[u8], touched: bool) -> String {
    let path = bench.write("bad.raw.gz", image);
    let target = bench.write("target", &vec![9; 12 * MIB]);
    let err = restore(&source(&path), &target, &plain(), &Silent).unwrap_err();
    let found = fs::read(&target).unwrap();
    let head = if touched { 0 } else { 9 };
    assert!(
        found[..MIB].iter().all(|b| *b == head),
        "the first MiB of the target"
    );
    format!("{err:#}")
}

#[test]
fn damage_is_named_and_leaves_no_boot_sector() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(11, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let good = fs::read(&image).unwrap();
    let cut = refused(&bench, &good[..good.len() - 1], false);
    assert!(cut.contains("is not whole"), "{cut}");
    let cut = refused(&bench, &good[..good.len() / 2], false);
    assert!(cut.contains("it is cut short"), "{cut}");
    let longer = refused(&bench, &[&good[..], b"garbage"].concat(), false);
    assert!(longer.contains("something follows it"), "{longer}");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let wrong = refused(&bench, &flipped, true);
    assert!(
        wrong.contains("chunk ") && wrong.contains("its CRC-32 is wrong"),
        "{wrong}"
    );
}

#[test]
fn foreign_images_restore_too() {
    let bench = Bench::new();
    let raw = disk_of(7, 512);
    let disk = bench.write("disk", &raw);
    for (tool, kind) in [
        ("gzip -c", Kind::Gzip),
        ("xz -c -0", Kind::Xz),
        ("zstd -c", Kind::Zstd),
        ("cat", Kind::Raw),
    ] {
        let image = bench.path("foreign");
        let command = format!("{tool} '{}' > '{}'", disk.display(), image.display());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(probe(&source(&image)).unwrap().kind, kind, "{tool}");
        let target = bench.write("target", &vec![9; 8 * MIB]);
        let options = RestoreOptions {
            verify: true,
            ..plain()
        };
        restore(&source(&image), &target, &options, &Silent).unwrap();
        assert!(fs::read(&target).unwrap()[..raw.len()] == raw, "{tool}");
        let new = bench.path(&format!("new-{kind:?}"));
        restore(&source(&image), &new, &plain(), &Silent).unwrap();
        assert!(fs::read(&new).unwrap() == raw, "{tool}");
        let small = bench.write("small", &vec![9; 3 * MIB]);
        let err = restore(&source(&image), &small, &plain(), &Silent).unwrap_err();
        let text = format!("{err:#}");
        assert!(
            text.contains("is too small") || text.contains("use a larger disk"),
            "{text}"
        );
        if kind != Kind::Raw {
            let good = fs::read(&image).unwrap();
            let text = refused_foreign(&bench, &good[..good.len() - 3]);
            assert!(!text.is_empty(), "{tool}");
            refused_foreign(&bench, &[&good[..], b"garbage"].concat());
        }
    }
}

/// Damage that shows only at the end: the first MiB must have been held back.
fn refused_foreign(bench: &Bench, image: &[u8]) -> String {
    let path = bench.write("bad", image);
    let target = bench.write("target", &vec![9; 12 * MIB]);
    let err = restore(&source(&path), &target, &plain(), &Silent).unwrap_err();
    let found = fs::read(&target).unwrap();
    assert!(found[..MIB].iter().all(|b| *b == 0) || found.iter().all(|b| *b == 9));
    format!("{err:#}")
}

/// An image whose network stops in the middle, or gives a few bytes at a time.
struct Broken {
    inner: FileSource,
    stops_at: u64,
    drip: usize,
}

impl ImageSource for Broken {
    fn name(&self) -> &'static str {
        "http://server/image"
    }
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(BrokenStream {
            inner: self.inner.stream_from(offset)?,
            left: self.stops_at.saturating_sub(offset),
            drip: self.drip,
        }))
    }
}

struct BrokenStream {
    inner: Box<dyn Read + Send>,
    left: u64,
    drip: usize,
}

impl Read for BrokenStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the server is gone",
            ));
        }
        let now = buf
            .len()
            .min(self.drip)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buf[..now])?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[test]
fn a_server_that_goes_away_is_named_and_a_slow_one_is_no_matter() {
    let bench = Bench::new();
    let raw = disk_of(11, 0);
    let disk = bench.write("disk", &raw);
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let mut broken = Broken {
        inner: source(&image),
        stops_at: source(&image).size() / 2,
        drip: 1 << 20,
    };
    let target = bench.write("target", &vec![9; 11 * MIB]);
    let err = restore(&broken, &target, &plain(), &Silent).unwrap_err();
    let text = format!("{err:#}");
    assert!(
        text.contains("the server is gone") && text.contains("http://server/image"),
        "{text}"
    );
    assert!(fs::read(&target).unwrap()[..MIB].iter().all(|b| *b == 0));
    broken.stops_at = u64::MAX;
    broken.drip = 1021;
    restore(&broken, &target, &plain(), &Silent).unwrap();
    assert!(fs::read(&target).unwrap() == raw);
}

/// A share that fills up.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let now = buf.len().min(self.0).min(1000);
        self.0 -= now;
        Ok(now)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_share_fails_the_capture() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(11, 0));
    let mut out = Full(2 * MIB);
    let options = CaptureOptions::default();
    let err = capture(&disk, &identity(&disk), &options, &mut out, &Silent).unwrap_err();
    let text = format!("{err:#}");
    assert!(text.contains("writing the image"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_mutated_image_is_never_taken_for_another(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        mode in 0u8..3,
    ) {
        let bench = Bench::new();
        let raw = disk_of(4, 512);
        let disk = bench.write("disk", &raw);
        let (image, _) = bench.capture(&disk, &CaptureOptions::default());
        let mut bytes = fs::read(&image).unwrap();
        let at = at.index(bytes.len());
        match mode {
            0 => bytes[at] = with,
            1 => bytes.truncate(at),
            _ => {
                let to = cut.index(bytes.len());
                bytes.drain(at.min(to)..at.max(to));
            }
        }
        let path = bench.write("mutated", &bytes);
        let back = bench.path("back");
        let source = FileSource::open(&path).unwrap();
        if restore(&source, &back, &plain(), &Silent).is_ok() {
            prop_assert!(fs::read(&back).unwrap() == raw);
        }
    }
}
