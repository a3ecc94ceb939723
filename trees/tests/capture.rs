//! Capturing: what changes meanwhile, what is left out, what is mounted below. As root.

mod common;

use common::{Disk, capture_to, extract_to, options};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::FileSource;
use pitstop_testing::mounts::Mounted;
use pitstop_trees::path::TreePath;
use pitstop_trees::{CaptureOptions, Excludes, TreeImage};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn paths(image: &Path) -> Vec<String> {
    let source = FileSource::open(image).unwrap();
    let image = TreeImage::open(&source).unwrap();
    image
        .index
        .entries()
        .map(|entry| entry.path.to_string())
        .collect()
}

/// Calls `act`, once, when the first bytes of the image come: the tree is listed, and not all of it is read.
struct Meanwhile<F>(Option<F>, Vec<u8>);

impl<F: FnOnce()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(act) = self.0.take() {
            act();
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_installed_while_a_tree_is_read_is_told_and_refused() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    for folder in ["usr/bin", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        for name in ["gone", "replaced", "same"] {
            fs::write(root.join(folder).join(name), "old").unwrap();
        }
    }
    // More than goes into one member.
    fs::write(root.join("boot"), vec![7; 4 << 20]).unwrap();
    let install = || {
        for folder in ["usr/bin", "srv"] {
            let at = |name: &str| root.join(folder).join(name);
            let _ = fs::remove_file(at("gone"));
            fs::write(at("replaced.new"), "another").unwrap();
            fs::rename(at("replaced.new"), at("replaced")).unwrap();
            fs::write(at("came"), "new").unwrap();
        }
    };
    let captured = |allow_changed: bool| {
        let options = CaptureOptions {
            allow_changed,
            ..options()
        };
        let mut out = Meanwhile(Some(install), Vec::new());
        pitstop_trees::capture(root, &options, &mut out, &Silent)
    };
    let changed = captured(true).unwrap().changed;
    for told in [
        "/usr/bin/came: it came",
        "/usr/bin/gone: it w",
        "/usr/bin/replaced: it changed",
    ] {
        assert!(
            changed.iter().any(|line| line.starts_with(told)),
            "{told}: {changed:?}"
        );
    }
    assert!(
        !changed.iter().any(|line| line.contains("same")),
        "{changed:?}"
    );
    fs::remove_file(root.join("usr/bin/came")).unwrap();
    let error = captured(false).unwrap_err().to_string();
    assert!(error.starts_with("/usr/bin/came: it came"), "{error}");
}

#[test]
fn a_file_that_never_stops_changing_is_told_and_under_etc_it_is_an_error() {
    for (folder, allowed) in [("var", false), ("etc", true), ("etc", false)] {
        let work = tempfile::tempdir().unwrap();
        let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
        fs::create_dir_all(root.join(folder)).unwrap();
        let path = root.join(folder).join("busy");
        fs::write(&path, b"begin").unwrap();
        let (stop, small) = (AtomicBool::new(false), root.join(folder).join("small"));
        fs::write(&small, vec![1; 200_000]).unwrap();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                let mut large = File::create(&path).unwrap();
                large.write_all(&vec![0; 40 << 20]).unwrap();
                let mut number = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    std::os::unix::fs::FileExt::write_all_at(
                        &large,
                        &number.to_le_bytes(),
                        number % (40 << 20),
                    )
                    .unwrap();
                    large.set_len((40 << 20) - number % 4096).unwrap();
                    OpenOptions::new()
                        .append(true)
                        .open(&small)
                        .unwrap()
                        .write_all(b"x")
                        .unwrap();
                }
            });
            while fs::metadata(&path).unwrap().len() < 30 << 20 {
                thread::yield_now();
            }
            let options = CaptureOptions {
                allow_changed: allowed,
                ..options()
            };
            let result = capture_to(&root, &image, &options);
            stop.store(true, Ordering::Relaxed);
            result
        });
        if folder == "etc" && !allowed {
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains("/etc/busy") && error.contains("--allow-changed"),
                "{error}"
            );
        } else {
            let meta = result.unwrap();
            assert!(
                meta.changed
                    .iter()
                    .any(|line| line.contains("/busy: it changed")),
                "{:?}",
                meta.changed
            );
            let source = FileSource::open(&image).unwrap();
            pitstop_trees::verify(
                &TreeImage::open(&source).unwrap(),
                1,
                &pitstop_imaging::event::Silent,
            )
            .unwrap();
        }
    }
}

#[test]
fn excludes_match_no_deeper_than_they_say_and_links_lead_to_what_is_kept() {
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
    fs::create_dir_all(root.join("srv/tmp")).unwrap();
    fs::create_dir_all(root.join("tmp/deep")).unwrap();
    fs::write(root.join("tmp/a"), b"linked").unwrap();
    fs::hard_link(root.join("tmp/a"), root.join("srv/b")).unwrap();
    fs::hard_link(root.join("tmp/a"), root.join("srv/c")).unwrap();
    fs::write(root.join("srv/tmp/kept"), b"x").unwrap();
    let _listener = UnixListener::bind(root.join("srv/socket")).unwrap();
    let mut options = options();
    options.excludes = Excludes::new(&["/tmp/*".into(), "nothing/here".into()]).unwrap();
    let meta = capture_to(&root, &image, &options).unwrap();
    assert_eq!(
        paths(&image),
        [
            "/",
            "/srv",
            "/srv/b",
            "/srv/c",
            "/srv/tmp",
            "/srv/tmp/kept",
            "/tmp"
        ]
    );
    assert_eq!(meta.left_out[0].path, "/srv/socket");
    let back = work.path().join("back");
    extract_to(&image, &back).unwrap();
    assert_eq!(fs::read(back.join("srv/c")).unwrap(), b"linked");
}

#[test]
fn identity_never_enters_an_image() {
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
    fs::create_dir_all(root.join("etc/ssh")).unwrap();
    fs::create_dir_all(root.join("var/lib/dhcp")).unwrap();
    fs::create_dir_all(root.join("etc/salt")).unwrap();
    for (path, text) in [
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_ed25519_key", "secret"),
        ("etc/ssh/sshd_config", "UsePAM yes"),
        ("var/lib/dhcp/dhclient.leases", "lease {}"),
        ("etc/salt/minion_id", "golden"),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    let meta = capture_to(&root, &image, &options()).unwrap();
    let back = work.path().join("back");
    extract_to(&image, &back).unwrap();
    assert_eq!(fs::read(back.join("etc/machine-id")).unwrap(), b"");
    assert!(!back.join("etc/ssh/ssh_host_ed25519_key").exists());
    assert!(!back.join("var/lib/dhcp/dhclient.leases").exists());
    assert_eq!(
        fs::read(back.join("etc/ssh/sshd_config")).unwrap(),
        b"UsePAM yes"
    );
    assert_eq!(meta.identity.len(), 4, "{:?}", meta.identity);
    let all = CaptureOptions {
        keep_identity: true,
        ..options()
    };
    capture_to(&root, &image, &all).unwrap();
    assert!(paths(&image).contains(&"/etc/ssh/ssh_host_ed25519_key".to_owned()));
}

#[test]
fn what_lies_under_mount_points_is_read_and_only_mounts_of_fstab_are() {
    let disk = Disk::new(32 << 20, &[]);
    let (boot, other) = (Disk::new(16 << 20, &[]), Disk::new(16 << 20, &[]));
    let root = &disk.path;
    for folder in ["etc", "boot", "dev", "data"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    fs::write(
        root.join("etc/fstab"),
        "UUID=1 / ext4 defaults 0 1\nUUID=2 /boot ext4 defaults 0 2\n",
    )
    .unwrap();
    fs::write(root.join("dev/console"), b"on disk").unwrap();
    fs::write(root.join("boot/hidden"), b"under the mount point").unwrap();
    fs::write(boot.join("vmlinuz"), b"kernel").unwrap();
    fs::write(other.join("data"), b"not of the system").unwrap();
    let mount = |arguments: &[&Path], to: &str| Mounted::new(arguments, &root.join(to));
    let bind = Path::new("--bind");
    let tmpfs = ["-t", "tmpfs", "none"].map(Path::new);
    let mounted = [
        mount(&tmpfs, "dev"),
        mount(&[bind, &boot.path], "boot"),
        mount(&[bind, &other.path], "data"),
    ];
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("x.tar.gz");
    let meta = capture_to(root, &image, &options());
    drop(mounted);
    let meta = meta.unwrap();
    let found = paths(&image);
    for path in ["/dev/console", "/boot/vmlinuz", "/data"] {
        assert!(found.contains(&path.to_owned()), "{path}: {found:?}");
    }
    for path in ["/boot/hidden", "/data/data"] {
        assert!(!found.contains(&path.to_owned()), "{path}: {found:?}");
    }
    assert_eq!(meta.left_out[0].path, "/data");
    let mounts: Vec<&str> = meta
        .filesystems
        .iter()
        .map(|it| it.mount.as_str())
        .collect();
    assert_eq!(mounts, ["/", "/boot"]);
    assert!(
        meta.filesystems[0].features.contains(&"extent".to_owned()),
        "{:?}",
        meta.filesystems
    );
    assert!(!meta.filesystems[0].uuid.is_empty());
}

#[test]
fn an_image_does_not_hold_itself() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("x.tar.gz");
    fs::write(work.path().join("a"), b"x").unwrap();
    let skipped = vec![TreePath::parse(b"x.tar.gz").unwrap()];
    let options = CaptureOptions {
        skipped,
        ..options()
    };
    capture_to(work.path(), &image, &options).unwrap();
    assert_eq!(paths(&image), ["/", "/a"]);
}

#[test]
fn a_system_of_which_an_update_has_replaced_a_part_is_not_captured() {
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
    fs::create_dir_all(root.join(".pitstop-update")).unwrap();
    fs::write(root.join("a"), b"x").unwrap();
    // What is staged and not decided has changed nothing.
    fs::write(root.join(".pitstop-update/n1"), b"staged").unwrap();
    capture_to(&root, &image, &options()).unwrap();
    assert_eq!(paths(&image), ["/", "/a"]);
    fs::write(root.join(".pitstop-update/journal"), b"half of it is done").unwrap();
    let error = capture_to(&root, &image, &options()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("finish the update first"), "{error}");
}

#[test]
fn a_target_without_room_or_inodes_is_told_before_the_first_write() {
    let work = tempfile::tempdir().unwrap();
    let (root, image) = (work.path().join("root"), work.path().join("x.tar.gz"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("large"), vec![5; 20 << 20]).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("{number}")), b"x").unwrap();
    }
    capture_to(&root, &image, &options()).unwrap();
    let small = Disk::new(8 << 20, &[]);
    let error = extract_to(&image, &small.path).unwrap_err().to_string();
    assert!(error.contains("the tree takes 2"), "{error}");
    let few = Disk::new(64 << 20, &["-N", "64"]);
    let error = extract_to(&image, &few.path).unwrap_err().to_string();
    assert!(error.contains("see df -i"), "{error}");
    for disk in [small, few] {
        let found: Vec<_> = fs::read_dir(&disk.path)
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(found, ["lost+found"]);
    }
}
