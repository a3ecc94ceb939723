//! Hostile tars, images and targets: nothing leads out of the target, and nothing is taken for what it is not.

#[path = "../common/mod.rs"]
mod common;
mod holes;
mod sizes;

use common::{Disk, Said, capture_to, extract_to, options};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::FileSource;
use pitstop_trees::entry::Kind;
use pitstop_trees::{From, TreeImage, extract, import, verify};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A block of a ustar header, and the data behind it.
fn entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[148..156].fill(b' ');
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut out = block.to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

struct Imported {
    _folder: tempfile::TempDir,
    image: PathBuf,
    said: Said,
}

fn imported(entries: &[Vec<u8>]) -> anyhow::Result<Imported> {
    let folder = tempfile::tempdir().unwrap();
    let (tar, image) = (folder.path().join("x.tar"), folder.path().join("x.tar.gz"));
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    fs::write(&tar, bytes).unwrap();
    let said = Said::default();
    let source = FileSource::open(&tar).unwrap();
    let mut out = File::create(&image).unwrap();
    import(&From::Archive(&source), &options(), &mut out, &said)?;
    Ok(Imported {
        _folder: folder,
        image,
        said,
    })
}

fn paths(image: &Path) -> Vec<String> {
    let source = FileSource::open(image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    verify(&image, 1, &Silent).unwrap();
    let paths = image.index.entries().map(|entry| entry.path.to_string());
    paths.collect()
}

fn refused(entries: &[Vec<u8>]) -> String {
    match imported(entries) {
        Ok(_) => panic!("it was taken"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_tar_that_climbs_out_is_refused() {
    let error = refused(&[entry("../../etc/cron.d/x", b'0', "", b"x")]);
    assert!(error.contains("leads out of the tree by \"..\""), "{error}");
    let error = refused(&[entry("a/../../x", b'0', "", b"x")]);
    assert!(error.contains("leads out"), "{error}");
    let error = refused(&[entry("x", b'1', "../../etc/shadow", b"")]);
    assert!(error.contains("leads out"), "{error}");
    let error = refused(&[entry("x", b'1', "etc/shadow", b"")]);
    assert!(error.contains("which the tar does not have"), "{error}");
}

#[test]
fn absolute_paths_are_those_of_the_tree() {
    let made = imported(&[entry("/etc/passwd", b'0', "", b"x")]).unwrap();
    assert_eq!(paths(&made.image), ["/", "/etc", "/etc/passwd"]);
}

#[test]
fn a_symlink_and_then_a_path_through_it_stay_in_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    let link = outside.path().to_str().unwrap();
    let made = imported(&[
        entry("out", b'2', link, b""),
        entry("out/planted", b'0', "", b"x"),
        entry("up", b'2', "../../../../..", b""),
        entry("up/tmp/planted-too", b'0', "", b"x"),
        entry("hard", b'1', "up", b""),
    ])
    .unwrap();
    let target = tempfile::tempdir().unwrap();
    let root = target.path().join("root");
    extract_to(&made.image, &root).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // The path went where it would go in that system.
    assert!(
        root.join(link.trim_start_matches('/'))
            .join("planted")
            .exists()
    );
    assert!(root.join("tmp/planted-too").exists());
    assert!(root.join("hard").is_symlink());
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
}

#[test]
fn symlinks_in_circles_and_files_as_folders_are_told() {
    let error = refused(&[
        entry("a", b'2', "b", b""),
        entry("b", b'2', "a", b""),
        entry("a/x", b'0', "", b"x"),
    ]);
    assert!(error.contains("in circles"), "{error}");
    let error = refused(&[entry("a", b'0', "", b"x"), entry("a/b", b'0', "", b"x")]);
    assert!(error.contains("/a is no folder"), "{error}");
}

#[test]
fn a_tar_that_is_cut_short_is_no_tree() {
    let whole = entry("file", b'0', "", &[7; 2000]);
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("x.tar");
    for length in [100, 512, 1000, 2300] {
        fs::write(&tar, &whole[..length]).unwrap();
        let source = FileSource::open(&tar).unwrap();
        let error = import(
            &From::Archive(&source),
            &options(),
            &mut Vec::new(),
            &Silent,
        )
        .unwrap_err();
        assert!(
            format!("{error:#}").contains("cut short"),
            "{length}: {error:#}"
        );
    }
}

/// As a program leaves it that dies between two files.
#[test]
fn a_tar_without_its_end_is_taken_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("x.tar");
    let missing = "files are missing";
    let other = entry("other", b'0', "", b"y");
    for (zeros, behind, told) in [
        (0, &[][..], Some(missing)),
        (512, &[], None),
        (1024, &[], None),
        (200_000, &[], None),
        (1024, &other, Some("goes on behind the end")),
        (200_000, &other, Some("goes on behind the end")),
    ] {
        let mut bytes = entry("file", b'0', "", b"x");
        bytes.resize(bytes.len() + zeros, 0);
        bytes.extend_from_slice(behind);
        fs::write(&tar, bytes).unwrap();
        let (source, said) = (FileSource::open(&tar).unwrap(), Said::default());
        let from = From::Archive(&source);
        import(&from, &options(), &mut Vec::new(), &said).unwrap();
        let said = said.0.into_inner().unwrap().join("\n");
        let is_told = told.map_or(said.is_empty(), |told| said.contains(told));
        assert!(is_told, "{zeros}: {said}");
    }
}

#[test]
fn what_no_tree_can_have_is_told() {
    let made = imported(&[entry("file", b'0', "", b"x"), entry("odd", b'Q', "", b"")]).unwrap();
    assert_eq!(paths(&made.image), ["/", "/file"]);
    assert!(
        made.said
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with("odd is left out"))
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one_and_not_its_other_name() {
    let made = imported(&[
        entry("a", b'0', "", b"old"),
        entry("b", b'1', "a", b""),
        entry("a", b'0', "", b"newer"),
        entry("c/d", b'0', "", b"x"),
        entry("c", b'2', "b", b""),
    ])
    .unwrap();
    let source = FileSource::open(&made.image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let read = |path: &str| {
        let mut out = Vec::new();
        pitstop_trees::cat(&image, path.as_bytes(), &mut out).unwrap();
        out
    };
    assert_eq!(read("a"), b"newer");
    assert_eq!(read("b"), b"old");
    assert_eq!(read("c"), b"old");
    assert_eq!(paths(&made.image), ["/", "/a", "/b", "/c"]);
}

#[test]
fn nothing_is_written_over_and_no_symlink_of_the_target_is_followed() {
    let made = imported(&[entry("a/file", b'0', "", b"x")]).unwrap();
    let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(outside.path(), target.path().join("a")).unwrap();
    let error = extract_to(&made.image, target.path()).unwrap_err();
    assert!(format!("{error:#}").contains("is not empty"), "{error:#}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn every_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("root"), folder.path().join("x.tar.gz"));
    fs::create_dir(&root).unwrap();
    // Of what repeats itself another bit can mean the same.
    let noise = |length: usize| -> Vec<u8> {
        let mut state = length as u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_le_bytes()[7] & 0x3f
        };
        (0..length).map(|_| next()).collect()
    };
    for number in 0..20 {
        fs::write(root.join(format!("file-{number}")), noise(3000 + number)).unwrap();
    }
    fs::write(root.join("large"), noise(1_500_000)).unwrap();
    capture_to(&root, &image, &options()).unwrap();
    let whole = fs::read(&image).unwrap();
    let damaged = folder.path().join("damaged.tar.gz");
    let mut harmless = 0;
    for at in (0..whole.len()).step_by(whole.len() / 300) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&damaged, bytes).unwrap();
        let source = FileSource::open(&damaged).unwrap();
        let passed = TreeImage::open(&source).and_then(|image| verify(&image, 1, &Silent));
        // Bits of a header of an index member that mean nothing may change.
        harmless += usize::from(passed.is_ok());
    }
    assert!(harmless <= 3, "{harmless}");
    for length in [0, 50, 102, whole.len() - 1, whole.len() / 2] {
        fs::write(&damaged, &whole[..length]).unwrap();
        let source = FileSource::open(&damaged).unwrap();
        assert!(TreeImage::open(&source).is_err(), "{length}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&damaged, longer).unwrap();
    let source = FileSource::open(&damaged).unwrap();
    let error = TreeImage::open(&source).err().unwrap();
    assert!(
        format!("{error:#}").contains("no whole image of a tree"),
        "{error:#}"
    );
}

/// Records of a pax header of a kind: `x` for the next entry, `g` for all.
fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        // It counts its own digits.
        let lengths = (1..6).map(|digits| rest + digits);
        let mut right = lengths.filter(|length| rest + length.to_string().len() == *length);
        format!("{} {key}={value}\n", right.next().unwrap())
    };
    let data: String = records.iter().map(record).collect();
    entry("pax", kind, "", data.as_bytes())
}

#[test]
fn kinds_of_gnu_tar_and_global_headers_count() {
    let made = imported(&[
        entry("label", b'V', "", b""),
        pax(b'g', &[("uid", "1234"), ("comment", "x")]),
        pax(b'g', &[("mtime", "99.5")]),
        entry("dumped/", b'D', "", b"Yfile\0\0"),
        pax(b'x', &[("uid", "5")]),
        entry("dumped/file", b'0', "", b"x"),
    ])
    .unwrap();
    assert!(made.said.0.lock().unwrap().is_empty());
    let source = FileSource::open(&made.image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    let found: Vec<_> = image.index.entries().skip(1).collect();
    let told = |at: usize| {
        let attributes = &found[at].attributes;
        (attributes.uid, attributes.mtime.to_string())
    };
    assert_eq!(found[0].kind, Kind::Folder);
    assert_eq!(told(0), (1234, "99.5".into()));
    assert_eq!(told(1), (5, "99.5".into()));
    let made = imported(&[entry("dumped/", b'D', "", b"Yhere\0Nnot\0Nneither\0\0")]).unwrap();
    let told = made.said.0.lock().unwrap().join("\n");
    assert!(
        told.contains(
            "some of dumped/ is left out: 2 files, which this part of an incremental tar has not"
        ),
        "{told}"
    );
    let error = refused(&[entry("half", b'M', "", b"of it")]);
    assert!(error.contains("one of several volumes"), "{error}");
}

#[test]
fn a_packed_image_of_a_container_is_no_system_and_neither_is_nothing() {
    let error = refused(&[]);
    assert!(error.contains("there is nothing in "), "{error}");
    let error = refused(&[
        entry("./oci-layout", b'0', "", b"{}"),
        entry("./index.json", b'0', "", b"{}"),
    ]);
    assert!(error.contains("is an OCI layout in a tar"), "{error}");
    let error = refused(&[
        entry("manifest.json", b'0', "", b"[]"),
        entry("0123/layer.tar", b'0', "", b""),
    ]);
    assert!(error.contains("docker export"), "{error}");
}

/// What the kernel takes for "no owner" would leave files to root.
#[test]
fn what_linux_has_no_number_or_room_for_is_refused() {
    for id in ["4294967295", "4294967296"] {
        let error = refused(&[pax(b'x', &[("gid", id)]), entry("f", b'0', "", b"")]);
        assert!(error.contains("Linux has no number for"), "{id}: {error}");
    }
    let mut device = entry("c", b'3', "", b"");
    device[329..336].copy_from_slice(b"0010000");
    device[148..156].fill(b' ');
    let sum: u32 = device[..512].iter().map(|byte| u32::from(*byte)).sum();
    device[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let error = refused(&[device]);
    assert!(error.contains("Linux has no number 4096:0"), "{error}");
    let long = "x".repeat(4096);
    let error = refused(&[
        pax(b'x', &[("linkpath", &long)]),
        entry("l", b'2', "x", b""),
    ]);
    assert!(error.contains("its target is too long"), "{error}");
    let error = refused(&[
        pax(b'x', &[("linkpath", "a\0b")]),
        entry("l", b'2', "x", b""),
    ]);
    assert!(error.contains("its target has a zero byte"), "{error}");
}

#[test]
fn attributes_that_no_kernel_takes_are_told_and_all_files_are_there() {
    let made = imported(&[
        pax(b'x', &[("SCHILY.xattr.user.of-a-symlink", "v")]),
        entry("a", b'2', "x", b""),
        pax(b'x', &[("SCHILY.acl.access", "user::rwx,user:5:r--:5")]),
        entry("b", b'0', "", b"x"),
        pax(b'x', &[("SCHILY.xattr.security.capability", "rubbish")]),
        entry("c", b'0', "", b"x"),
    ])
    .unwrap();
    let target = made.image.with_file_name("target");
    let error = extract_to(&made.image, &target).unwrap_err().to_string();
    assert!(
        error.contains("all files are there, but 3 attributes"),
        "{error}"
    );
    assert_eq!(fs::read(target.join("c")).unwrap(), b"x");
}

#[test]
fn a_time_that_the_filesystem_has_no_room_for_is_told() {
    // The year 2191; inodes of 128 bytes end in 2038.
    let made = imported(&[
        pax(b'x', &[("mtime", "2000000000")]),
        entry("now", b'0', "", b"x"),
        pax(b'x', &[("mtime", "7000000000")]),
        entry("later", b'0', "", b"x"),
        pax(b'x', &[("mtime", "7000000000")]),
        entry("link", b'2', "x", b""),
    ])
    .unwrap();
    let told = |inodes: &str| {
        let disk = Disk::new(8 << 20, &["-I", inodes]);
        let (source, said) = (FileSource::open(&made.image).unwrap(), Said::default());
        let image = TreeImage::open(&source).unwrap();
        extract(&image, &disk.path, 1, &said).unwrap();
        said.0.into_inner().unwrap().join("\n")
    };
    let said = told("128");
    assert!(said.contains("no room for the times of 2 files"), "{said}");
    assert!(!told("256").contains("times"));
}
