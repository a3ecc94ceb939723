//! Images made and restored as a whole: on files, through every path of the engine.

mod image_common;

use image_common::{Bench, MIB, disk_of, plain, source};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{
    CaptureOptions, Delta, ImageMeta, Kind, Level, OpenedImage, RestoreOptions, restore, verify,
};
use pitstop_imaging::source::ReadAt;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

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
        let opened = OpenedImage::open(Box::new(source(&image))).unwrap();
        assert_eq!((opened.kind(), opened.meta()), (Kind::Pitstop, Some(&meta)));
    }
}

/// Gunzips of other people: each must give the very bytes, and have nothing to say.
#[test]
fn an_index_of_many_members_troubles_no_gunzip() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    let file = File::create(&disk).unwrap();
    file.set_len(1000 << 20).unwrap();
    for chunk in 0..1000u64 {
        file.write_all_at(&chunk.to_le_bytes(), chunk << 20)
            .unwrap();
    }
    let options = CaptureOptions {
        exact: true,
        ..CaptureOptions::default()
    };
    let (image, meta) = bench.capture(&disk, &options);
    let bytes = fs::read(&image).unwrap();
    let members = bytes
        .windows(10)
        .filter(|field| field.starts_with(b"PS\x04\0") && field.ends_with(b"PI"))
        .count();
    assert!(members >= 3, "{members} index members");
    let sum = |mut from: Box<dyn std::io::Read>| {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut from, &mut hasher).unwrap();
        hasher.finalize()
    };
    let expected = sum(Box::new(File::open(&disk).unwrap()));
    for (program, arguments) in [
        ("zcat", &[][..]),
        ("busybox", &["zcat"]),
        ("pigz", &["-dc"]),
    ] {
        let mut child = Command::new(program)
            .args(arguments)
            .arg(&image)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let found = sum(Box::new(child.stdout.take().unwrap()));
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && told.is_empty(),
            "{program}: {told}"
        );
        assert_eq!(found, expected, "{program}");
    }
    assert_eq!(meta.disk.size, 1000 << 20);
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
    let large = bench.write("large", &vec![9; 16 * MIB]);
    restore(&source(&image), &large, &plain(), &Silent).unwrap();
    let found = fs::read(&large).unwrap();
    // Where signatures are looked for, right behind the image and at the end, nothing old stays.
    let tail = &found[7 * MIB..12 * MIB];
    assert!(found[..6 * MIB] == raw && tail.iter().all(|b| *b == 9));
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
            part: pitstop_imaging::image::Part::Whole,
            delta,
            verify: true,
            new_ids: false,
            grow: false,
            threads: 2,
            ahead: None,
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
        let opened = OpenedImage::open(Box::new(source(&image))).unwrap();
        assert_eq!(opened.kind(), kind, "{tool}");
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
            let more = [&good[..], b"garbage"].concat();
            if kind == Kind::Gzip {
                // As gunzip has it: a warning, and all of the data.
                let path = bench.write("more", &more);
                restore(&source(&path), &target, &plain(), &Silent).unwrap();
                assert!(fs::read(&target).unwrap()[..raw.len()] == raw);
            } else {
                refused_foreign(&bench, &more);
            }
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
