use super::*;
use crate::event::{Event, Reporter, Silent};
use crate::image::{CaptureOptions, Delta, FileSource, Growing, RestoreOptions, capture, restore};
use crate::inventory::DiskIdentity;
use crate::render::sentence;
use std::fs::{self, File};
use std::sync::Arc;

const MIB: usize = 1 << 20;
const SIZE: usize = 72 * MIB;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An image of `raw`, and its rounds.
    fn image(&self, name: &str, raw: &[u8]) -> (FileSource, Vec<Round>) {
        fs::write(self.at("disk"), raw).unwrap();
        let identity = DiskIdentity {
            device: "sda".into(),
            model: String::new(),
            serial: String::new(),
            wwn: String::new(),
            transport: String::new(),
            size: raw.len() as u64,
            logical_sector_size: 512,
            physical_sector_size: 512,
        };
        let options = CaptureOptions {
            exact: true,
            ..CaptureOptions::default()
        };
        let mut out = File::create(self.at(name)).unwrap();
        capture(&self.at("disk"), &identity, &options, &mut out, &Silent).unwrap();
        let bytes = fs::read(self.at(name)).unwrap();
        let mut growing = Growing::new().unwrap();
        let mut read = |buffer: &mut [u8], at: u64| {
            let at = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
            Ok(())
        };
        while growing.step(bytes.len() as u64, &mut read).unwrap() {}
        let source = FileSource::open(&self.at(name)).unwrap();
        (source, growing.rounds().to_vec())
    }
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key(&seed.to_string())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn go_on() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn what_was_written_ahead_is_not_brought_again_and_nothing_boots_before_the_restore() {
    let bench = Bench::new();
    let raw = noise(1, SIZE);
    let (image, rounds) = bench.image("image", &raw);
    // A larger disk, with something on it.
    fs::write(bench.at("target"), noise(9, SIZE + 3 * MIB)).unwrap();
    let ahead = WritesAhead::open(&bench.at("target"), SIZE as u64).unwrap();
    assert!(!ahead.has_begun());
    assert!(fs::read(bench.at("target")).unwrap() == noise(9, SIZE + 3 * MIB));
    for round in &rounds[1..] {
        ahead.take(round, &image, None, &go_on()).unwrap();
    }
    let so_far = fs::read(bench.at("target")).unwrap();
    let written = usize::try_from(ahead.written()).unwrap();
    assert!(written >= 30 * MIB, "{written}");
    assert!(so_far[..MIB] == vec![0; MIB]);
    assert!(so_far[SIZE - MIB..SIZE] == vec![0; MIB]);
    let right = so_far.chunks(MIB).zip(raw.chunks(MIB));
    assert_eq!(
        right.filter(|(one, other)| one == other).count(),
        written / MIB
    );

    // The beginning came first in the image, and is on the disk last.
    assert!(ahead.has(&rounds[1]) && !ahead.has(&rounds[0]));
    ahead.take(&rounds[0], &image, None, &go_on()).unwrap();
    assert!(fs::read(bench.at("target")).unwrap()[..MIB] == vec![0; MIB]);
    let written = ahead.written();
    ahead.take(&rounds[1], &image, None, &go_on()).unwrap();
    assert_eq!(ahead.written(), written, "it is there");
    let options = RestoreOptions {
        ahead: Some(Arc::new(ahead.finish().unwrap())),
        ..RestoreOptions::default()
    };
    let done = restore(&image, &bench.at("target"), &options, &Silent).unwrap();
    assert_eq!(done.unchanged, written);
    assert_eq!(done.written + done.unchanged, SIZE as u64);
    assert!(done.transferred < (SIZE as u64 - written) + (1 << 20));
    let restored = fs::read(bench.at("target")).unwrap();
    assert!(restored[..SIZE] == raw && restored[SIZE..] == noise(9, SIZE + 3 * MIB)[SIZE..]);
}

#[test]
fn only_what_the_whole_image_says_counts_in_the_end() {
    let bench = Bench::new();
    let raw = noise(1, SIZE);
    let (image, rounds) = bench.image("first", &raw);
    fs::write(bench.at("target"), noise(9, SIZE)).unwrap();
    let mut changed = raw.clone();
    changed[5 * MIB..6 * MIB].fill(7);
    changed[20 * MIB..22 * MIB].fill(0);
    let (image_after, _) = bench.image("second", &changed);
    for delta in [Delta::Auto, Delta::On, Delta::Off] {
        let ahead = WritesAhead::open(&bench.at("target"), SIZE as u64).unwrap();
        for round in &rounds {
            ahead.take(round, &image, None, &go_on()).unwrap();
        }
        let options = RestoreOptions {
            delta,
            verify: true,
            ahead: Some(Arc::new(ahead.finish().unwrap())),
            ..RestoreOptions::default()
        };
        let done = restore(&image_after, &bench.at("target"), &options, &Silent).unwrap();
        assert!(done.unchanged > 30 << 20, "{done:?}");
        assert!(
            fs::read(bench.at("target")).unwrap() == changed,
            "{delta:?}"
        );
    }
}

#[derive(Default)]
struct Said(Mutex<String>);

impl Reporter for Said {
    fn event(&self, event: &Event) {
        if let Some((_, text)) = sentence(event) {
            lock(&self.0).push_str(&text);
        }
    }
}

#[test]
fn whether_the_rest_is_compared_the_rest_alone_decides() {
    let bench = Bench::new();
    let raw = noise(1, SIZE);
    let (image, rounds) = bench.image("image", &raw);
    let (one, most) = (&rounds[..1], &rounds[..]);
    for (before, rounds, is_there) in [
        (&raw, one, true),
        (&noise(9, SIZE), one, false),
        (&noise(9, SIZE), most, false),
    ] {
        fs::write(bench.at("target"), before).unwrap();
        let ahead = WritesAhead::open(&bench.at("target"), SIZE as u64).unwrap();
        for round in rounds {
            ahead.take(round, &image, None, &go_on()).unwrap();
        }
        let written = ahead.written();
        let options = RestoreOptions {
            ahead: Some(Arc::new(ahead.finish().unwrap())),
            ..RestoreOptions::default()
        };
        let said = Said::default();
        let done = restore(&image, &bench.at("target"), &options, &said).unwrap();
        let said = lock(&said.0).clone();
        assert_eq!(said.contains("only what differs"), is_there, "{said}");
        // All but the first and the last MiB, which always come.
        let all = (SIZE - 2 * MIB) as u64;
        assert_eq!(done.unchanged, if is_there { all } else { written });
        assert!(fs::read(bench.at("target")).unwrap() == raw);
    }
}

#[test]
fn what_is_stopped_or_cannot_be_had_leaves_a_disk_that_does_not_boot() {
    let bench = Bench::new();
    let (image, rounds) = bench.image("image", &noise(1, SIZE));
    fs::write(bench.at("target"), noise(9, SIZE)).unwrap();
    let ahead = WritesAhead::open(&bench.at("target"), SIZE as u64).unwrap();
    let stop = AtomicBool::new(true);
    ahead.take(&rounds[0], &image, None, &stop).unwrap();
    assert!(ahead.has_begun() && ahead.written() == 0);
    assert!(fs::read(bench.at("target")).unwrap()[..MIB] == vec![0; MIB]);
    // The file is another one by now.
    fs::write(bench.at("image"), vec![0; 80 * MIB]).unwrap();
    let image = FileSource::open(&bench.at("image")).unwrap();
    let error = ahead.take(&rounds[0], &image, None, &go_on()).unwrap_err();
    assert!(
        format!("{error:#}").contains("has changed meanwhile"),
        "{error:#}"
    );

    drop(ahead);
    let small = WritesAhead::open(&bench.at("target"), SIZE as u64 + 1);
    assert!(small.is_err(), "too small");
    let ahead = WritesAhead::open(&bench.at("target"), 8 << 20).unwrap();
    let error = ahead.take(&rounds[0], &image, None, &go_on()).unwrap_err();
    assert!(error.to_string().contains("larger disk"), "{error}");
    assert!(!ahead.has_begun());
}
