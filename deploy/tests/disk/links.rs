//! Trees in which symlinks lead to what a deploy writes.

use crate::common::disk_file::DiskFile;
use crate::common::{MIB, deploy, tree};
use pitstop_deploy::wishes::BootWish;
use pitstop_imaging::layout::Layout;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const LAYOUT: &str = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nmount = \"/\"\n";
const COMPRESSED: &str = "/dev/sda1 / btrfs subvol=root,compress=zstd:1 0 0\n";
const FSTAB: &str = "LABEL=old / ext4 defaults 0 1\n# kept\n";

/// Captures a small system with these symlinks, and deploys it.
fn deployed(links: &[(&str, &str)], disk: &Path) -> anyhow::Result<()> {
    deployed_with(FSTAB, LAYOUT, links, disk)
}

fn deployed_with(
    fstab: &str,
    layout: &str,
    links: &[(&str, &str)],
    disk: &Path,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join("system").join(path);
    for path in [
        "run",
        "sys",
        "tmp",
        "data/etc",
        "data/var/lib",
        "data/names/Foo",
        "data/names/foo",
    ] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("data/etc/fstab"), fstab).unwrap();
    fs::write(at("data/etc/machine-id"), "").unwrap();
    for (path, target) in links {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        symlink(target, at(path)).unwrap();
    }
    let image = folder.path().join("image.tar.gz");
    tree::capture_to(&at(""), &image, &tree::options()).unwrap();
    deploy(&image, disk, |deployment| {
        deployment.layout = Some(Layout::parse(layout).unwrap());
        deployment.boot = BootWish::None;
    })?;
    Ok(())
}

#[test]
fn an_fstab_behind_symlinks_is_written_where_they_lead_in_the_tree() {
    for links in [
        &[("etc", "/data/etc")][..],
        &[("etc/fstab", "../data/etc/fstab")][..],
    ] {
        let disk = DiskFile::new(300 * MIB);
        deployed(links, &disk.path).unwrap();
        let mounted = disk.mount(&[(1, "/", "rw")]);
        let fstab = fs::read_to_string(mounted.path.join("data/etc/fstab")).unwrap();
        assert!(
            fstab.contains("# kept") && !fstab.contains("LABEL=old"),
            "{fstab}"
        );
        let (path, target) = links[0];
        assert_eq!(
            fs::read_link(mounted.path.join(path)).unwrap(),
            Path::new(target)
        );
        assert!(mounted.path.join("var/lib/pitstop/tree/index").exists());
    }
}

#[test]
fn what_has_no_place_for_fstab_or_the_record_is_refused_before_a_byte_is_written() {
    for (links, why) in [
        (&[("var", "data/var")][..], "/var of "),
        (&[("var/lib", "../data/var/lib")][..], "/var/lib of "),
        (
            &[("etc/fstab", "/missing/fstab")][..],
            "leads to /missing/fstab",
        ),
    ] {
        let disk = DiskFile::new(300 * MIB);
        let error = deployed(links, &disk.path).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(disk.bytes(0, 4096), [0; 4096]);
    }
}

#[test]
fn compression_is_a_matter_of_btrfs_and_is_judged_before_a_byte_is_written() {
    let links = &[("etc", "/data/etc")];
    let ext4 = DiskFile::new(300 * MIB);
    deployed_with(COMPRESSED, LAYOUT, links, &ext4.path).unwrap();
    let mounted = ext4.mount(&[(1, "/", "ro")]);
    let fstab = fs::read_to_string(mounted.path.join("data/etc/fstab")).unwrap();
    assert!(!fstab.contains("compress"), "{fstab}");
    let layout = LAYOUT.replace("ext4", "btrfs");
    let disk = DiskFile::new(300 * MIB);
    let bogus = COMPRESSED.replace("zstd:1", "bogus");
    let error = deployed_with(&bogus, &layout, links, &disk.path).unwrap_err();
    assert!(
        error.to_string().contains("compress=bogus for /"),
        "{error}"
    );
    assert_eq!(disk.bytes(0, 4096), [0; 4096]);
    // The subvolume that fstab names is there, and the one that is mounted where none is named.
    deployed_with(COMPRESSED, &layout, links, &disk.path).unwrap();
    for options in ["subvol=root", "ro"] {
        let mounted = disk.mount(&[(1, "/", options)]);
        let fstab = fs::read_to_string(mounted.path.join("data/etc/fstab")).unwrap();
        assert!(fstab.contains("subvol=root,compress=zstd:1"), "{fstab}");
    }
}

/// A thread has a umask of its own when it shares none, and hands it on to the threads that it starts.
#[test]
fn what_the_tree_lacks_is_for_all_whatever_the_umask_is() {
    let disk = DiskFile::new(300 * MIB);
    let path = disk.path.clone();
    let private = move || {
        // SAFETY: a plain call to the kernel, about this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        deployed(&[("etc", "/data/etc")], &path).unwrap();
    };
    std::thread::spawn(private).join().unwrap();
    let mounted = disk.mount(&[(1, "/", "ro")]);
    for folder in ["dev", "proc", "var", "var/lib", "var/lib/pitstop"] {
        let found = fs::metadata(mounted.path.join(folder)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o755, "{folder}");
    }
}

#[test]
fn what_no_fat_can_hold_is_named_before_a_byte_is_written() {
    let disk = DiskFile::new(300 * MIB);
    let etc = ("etc", "/data/etc");
    for (mount, links, why) in [
        (
            "/boot",
            &[etc, ("boot/vmlinuz", "vmlinuz-6")][..],
            "/boot/vmlinuz of the tree",
        ),
        (
            "/boot/efi",
            &[etc, ("boot/efi/y", "x")],
            "/boot/efi/y of the tree",
        ),
        ("/data/names", &[etc], "/data/names/foo of the tree"),
    ] {
        let fat = format!(
            "[[partition]]\ntype = \"efi\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nmount = \"{mount}\"\n"
        );
        let layout = LAYOUT.replace("[[partition]]", &format!("{fat}[[partition]]"));
        let error = deployed_with(FSTAB, &layout, links, &disk.path).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(disk.bytes(0, 4096), [0; 4096]);
    }
}
