//! Whatever a tar can hold and Linux needs comes back the same: by Pitstop, GNU tar, bsdtar and Python, both ways. As root.

mod common;

use common::{
    Disk, acl, capture_to, differences, entries, extract_to, make_everything, options, run,
};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::FileSource;
use pitstop_testing::mounts::Mounted;
use pitstop_trees::entry::{Attributes, Entry, Kind};
use pitstop_trees::{From, TreeImage, import, verify};
use rustix::fs::XattrFlags;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SIZE: u64 = 200 << 20;

struct Made {
    disk: Disk,
    work: tempfile::TempDir,
    image: PathBuf,
    entries: Vec<Entry>,
}

/// The tree, and its image.
fn made() -> Made {
    let disk = Disk::new(SIZE, &[]);
    let root = disk.join("tree");
    fs::create_dir(&root).unwrap();
    make_everything(&root);
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("everything.tar.gz");
    capture_to(&root, &image, &options()).unwrap();
    let entries = entries(&root);
    Made {
        disk,
        work,
        image,
        entries,
    }
}

fn unchanged(_: &mut Attributes) {}

fn assert_same(made: &Made, root: &Path, ignore: impl Fn(&mut Attributes)) {
    let found = entries(root);
    let found = differences(&made.entries, &found, ignore);
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn import_to(from: &From, image: &Path) {
    let mut out = File::create(image).unwrap();
    import(from, &options(), &mut out, &Silent).unwrap();
    let source = FileSource::open(image).unwrap();
    verify(&TreeImage::open(&source).unwrap(), 2, &Silent).unwrap();
}

#[test]
fn everything_comes_back_by_pitstop() {
    let made = made();
    let source = FileSource::open(&made.image).unwrap();
    verify(&TreeImage::open(&source).unwrap(), 2, &Silent).unwrap();
    let back = Disk::new(SIZE, &[]);
    extract_to(&made.image, &back.path).unwrap();
    assert_same(&made, &back.path, unchanged);
    // Holes are holes, and not zeros.
    let lastlog = fs::metadata(back.join("var/log/lastlog")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&lastlog) < 100);
    let folder = made.disk.join("tree").join("usr");
    assert!(folder.exists());
}

#[test]
fn gnu_tar_restores_everything_with_its_options() {
    let made = made();
    let back = Disk::new(SIZE, &[]);
    let tar = [
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--selinux",
        "--numeric-owner",
        "-xpzf",
    ];
    run(Command::new("tar")
        .args(tar)
        .arg(&made.image)
        .arg("-C")
        .arg(&back.path));
    // GNU tar knows nothing of flags.
    assert_same(&made, &back.path, |attributes| {
        attributes.flags = Attributes::default().flags;
    });
}

#[test]
fn plain_gnu_tar_drops_attributes_without_a_word() {
    let made = made();
    let back = Disk::new(SIZE, &[]);
    let output = run(Command::new("tar")
        .args(["-xpzf"])
        .arg(&made.image)
        .arg("-C")
        .arg(&back.path));
    // It has words for times, and for flags, but none for what it leaves out.
    let said = String::from_utf8_lossy(&output.stderr);
    let of_times = ["time stamp", "SCHILY.fflags", "hdrcharset"];
    let other = said
        .lines()
        .find(|line| !of_times.iter().any(|word| line.contains(word)));
    assert_eq!(other, None, "{said}");
    assert_same(&made, &back.path, |attributes| {
        attributes.flags = Attributes::default().flags;
        attributes.xattrs = Arc::default();
        // Without ACLs a mode has other group bits.
        attributes.mode &= !0o070;
    });
    assert!(
        entries(&back.path)
            .iter()
            .all(|entry| entry.attributes.xattrs.is_empty())
    );
}

#[test]
fn bsdtar_restores_everything_but_what_it_has_no_way_for() {
    let made = made();
    let back = Disk::new(SIZE, &[]);
    let bsdtar = ["-xpf"];
    run(Command::new("bsdtar")
        .args(bsdtar)
        .arg(&made.image)
        .args(["--numeric-owner", "--acls", "--xattrs", "--fflags", "-C"])
        .arg(&back.path));
    let lost = |attributes: &mut Attributes| {
        // libarchive 3.6 reads -1.25 as -1 and 0.25: fractions before 1970 are wrong.
        if attributes.mtime.seconds < 0 {
            attributes.mtime = pitstop_trees::entry::Time::default();
        }
        // `=` and `%` in the name of an attribute stay escaped.
        keep(attributes, |name| !name.starts_with(b"user.with"));
    };
    // It does not set the time of the folder that it unpacks into.
    let without_root = |entries: &[Entry]| entries[1..].to_vec();
    let one = without_root(&made.entries);
    let found = differences(&one, &without_root(&entries(&back.path)), lost);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Extended attributes by their names.
fn keep(attributes: &mut Attributes, wanted: impl Fn(&[u8]) -> bool) {
    let pairs = attributes
        .xattrs
        .pairs()
        .iter()
        .filter(|(name, _)| wanted(name));
    attributes.xattrs = Arc::new(pitstop_trees::entry::Xattrs::new(pairs.cloned().collect()));
}

#[test]
fn python_restores_contents_owners_and_modes() {
    let made = made();
    let back = Disk::new(SIZE, &[]);
    let program = "import tarfile, sys\n\
        with tarfile.open(sys.argv[1], errors='surrogateescape') as tar:\n\
        \x20   tar.extractall(sys.argv[2], numeric_owner=True)\n";
    // Its own encoding of names decides what it can read.
    run(Command::new("python3")
        .env("PYTHONUTF8", "1")
        .args(["-c", program])
        .arg(&made.image)
        .arg(&back.path));
    let lost = |attributes: &mut Attributes| {
        attributes.flags = Attributes::default().flags;
        attributes.xattrs = Arc::default();
        attributes.mode &= !0o070;
        // As a floating-point number a time loses its last digits.
        attributes.mtime = pitstop_trees::entry::Time::default();
    };
    let plain = |mut entries: Vec<Entry>| -> Vec<Entry> {
        // Of a symlink it sets neither time nor owner everywhere, and a hard link to one becomes another symlink.
        entries.retain(|entry| {
            !matches!(entry.kind, Kind::Symlink(_)) && entry.path.as_bytes() != b"etc/dangling-too"
        });
        // Holes are its own affair.
        for entry in entries
            .iter_mut()
            .filter(|entry| entry.path.is_within(b"var/log"))
        {
            if let Kind::File { extents, hash, .. } = &mut entry.kind {
                *extents = None;
                *hash = [0; 32];
            }
        }
        entries
    };
    let (one, other) = (plain(made.entries), plain(entries(&back.path)));
    let found = differences(&one, &other, lost);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn tars_of_gnu_tar_and_bsdtar_are_imported_with_everything_in_them() {
    let made = made();
    let root = made.disk.join("tree");
    let at = |name: &str| made.work.path().join(name);
    let all = [
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--selinux",
        "--numeric-owner",
        "-S",
    ];
    run(Command::new("tar")
        .args(["--format=pax"])
        .args(all)
        .arg("-cf")
        .arg(at("gnu.tar"))
        .arg("-C")
        .arg(&root)
        .arg("."));
    run(Command::new("bsdtar")
        .args([
            "--format=pax",
            "--acls",
            "--xattrs",
            "--fflags",
            "--numeric-owner",
            "-cf",
        ])
        .arg(at("bsd.tar"))
        .arg("-C")
        .arg(&root)
        .arg("."));
    for (pack, packed) in [
        ("gzip", "gnu.tar.gz"),
        ("xz", "gnu.tar.xz"),
        ("zstd", "gnu.tar.zst"),
        ("bzip2", "gnu.tar.bz2"),
    ] {
        let shell = format!(
            "{pack} -c < '{}' > '{}'",
            at("gnu.tar").display(),
            at(packed).display()
        );
        run(Command::new("sh").args(["-c", &shell]));
    }
    for name in [
        "gnu.tar",
        "gnu.tar.gz",
        "gnu.tar.xz",
        "gnu.tar.zst",
        "gnu.tar.bz2",
    ] {
        let image = at("imported.tar.gz");
        let source = FileSource::open(&at(name)).unwrap();
        import_to(&From::Archive(&source), &image);
        let source = FileSource::open(&image).unwrap();
        let found: Vec<Entry> = TreeImage::open(&source)
            .unwrap()
            .index
            .entries()
            .cloned()
            .collect();
        // It writes a FIFO with two names twice.
        let one_name = |entries: &[Entry]| -> Vec<Entry> {
            let all = entries.iter();
            all.filter(|it| it.path.as_bytes() != b"dev/fifo-too")
                .cloned()
                .collect()
        };
        let found = differences(&one_name(&made.entries), &one_name(&found), |it| {
            it.flags = Attributes::default().flags;
        });
        assert!(found.is_empty(), "{name}:\n{}", found.join("\n"));
    }
    let image = at("imported.tar.gz");
    let source = FileSource::open(&at("bsd.tar")).unwrap();
    import_to(&From::Archive(&source), &image);
    let source = FileSource::open(&image).unwrap();
    let found: Vec<Entry> = TreeImage::open(&source)
        .unwrap()
        .index
        .entries()
        .cloned()
        .collect();
    let found = differences(&made.entries, &found, |it| {
        keep(it, |name| {
            name.starts_with(b"user.")
                || name.starts_with(b"system.")
                || name.starts_with(b"security.")
        });
        keep(it, |name| name != b"user.with=equals%");
        if it.mtime.seconds < 0 {
            it.mtime = pitstop_trees::entry::Time::default();
        }
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn our_own_image_is_a_tar_that_is_imported() {
    let made = made();
    let image = made.work.path().join("again.tar.gz");
    let source = FileSource::open(&made.image).unwrap();
    import_to(&From::Archive(&source), &image);
    let source = FileSource::open(&image).unwrap();
    let found: Vec<Entry> = TreeImage::open(&source)
        .unwrap()
        .index
        .entries()
        .cloned()
        .collect();
    let found = differences(&made.entries, &found, unchanged);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The folder that it is unpacked into, and filesystems that are mounted there, have modes and ACLs that all in them would have.
#[test]
fn what_a_folder_passes_on_to_what_is_in_it_is_not_the_trees() {
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
    for folder in ["etc", "boot/deep", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (path, mode) in [
        ("etc/file", 0o644),
        ("etc/private", 0o600),
        ("boot/deep", 0o755),
        ("boot", 0o700),
    ] {
        if !root.join(path).exists() {
            fs::write(root.join(path), path).unwrap();
        }
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    }
    symlink("file", root.join("etc/link")).unwrap();
    capture_to(&root, &image, &options()).unwrap();
    let (disk, boot) = (Disk::new(32 << 20, &[]), Disk::new(16 << 20, &[]));
    let above = disk.join("above");
    fs::create_dir(&above).unwrap();
    for folder in [&above, &boot.path] {
        chown(folder, None, Some(54_321)).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o2777)).unwrap();
        let set = rustix::fs::setxattr(
            folder.as_path(),
            "system.posix_acl_default",
            &acl(7),
            XattrFlags::empty(),
        );
        set.unwrap();
    }
    // With what lies above it when it is made, and with what it has itself.
    let back = above.join("back");
    fs::create_dir_all(back.join("boot")).unwrap();
    let mounted = Mounted::new(&[Path::new("--bind"), &boot.path], &back.join("boot"));
    extract_to(&image, &back).unwrap();
    drop(mounted);
    let without_boot = |root: &Path| {
        let mut found = entries(root);
        found.retain(|entry| !entry.path.is_within(b"boot"));
        found
    };
    for (wanted, found) in [
        (without_boot(&root), without_boot(&back)),
        (entries(&root.join("boot")), entries(&boot.path)),
    ] {
        let differences = differences(&wanted, &found, unchanged);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}
