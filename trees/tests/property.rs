//! Any bytes as a tar: an error or an image that verifies, never a panic.

use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, Level};
use pitstop_trees::{CaptureOptions, Excludes, From, Meta, Packing, TreeImage, import, verify};
use proptest::prelude::*;
use std::fs::{self, File};
use std::process::Command;
use std::sync::LazyLock;

fn options() -> CaptureOptions {
    CaptureOptions {
        packing: Packing {
            level: Level::Fast,
            threads: 1,
        },
        excludes: Excludes::new(&[]).unwrap(),
        keep_identity: false,
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta::default(),
    }
}

fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (tar, image) = (folder.path().join("x.tar"), folder.path().join("x.tar.gz"));
    fs::write(&tar, bytes).unwrap();
    let source = FileSource::open(&tar).unwrap();
    let mut out = File::create(&image).unwrap();
    if import(&From::Archive(&source), &options(), &mut out, &Silent).is_ok() {
        let source = FileSource::open(&image).unwrap();
        verify(&TreeImage::open(&source).unwrap(), 1, &Silent).unwrap();
    }
}

/// Tars of the formats there are, with links, holes and long names in them.
static TARS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("d".repeat(120))).unwrap();
    fs::write(root.join("d".repeat(120)).join("e".repeat(120)), b"long").unwrap();
    std::os::unix::fs::symlink("d".repeat(120), root.join("link")).unwrap();
    fs::hard_link(root.join("link"), root.join("hard")).unwrap();
    File::create(root.join("sparse"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let formats = ["v7", "ustar", "gnu", "oldgnu", "pax"];
    let tars = formats.map(|format| {
        let output = Command::new("tar")
            .args(["-c", "-f", "-", "-C"])
            .arg(&root)
            .args([&format!("--format={format}"), "."])
            // The old formats have no holes.
            .args(["gnu", "oldgnu", "pax"].contains(&format).then_some("-S"))
            .output()
            .unwrap();
        assert!(!output.stdout.is_empty(), "{format}");
        output.stdout
    });
    tars.to_vec()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_changed_tar_makes_no_panic(
        which in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = TARS[which].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // The sum of a header is made right again, so that what is behind it is reached.
            let block = at / 512 * 512;
            if bytes[block + 257..].starts_with(b"ustar") {
                bytes[block + 148..block + 156].fill(b' ');
                let sum: u32 = bytes[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
                bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if cut.index(3) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }

    #[test]
    fn any_bytes_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        check(&bytes);
    }
}
