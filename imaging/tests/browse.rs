//! Single files of an image, read by the engine: they are what the filesystem's own tools put there.

mod used_common;

use pitstop_imaging::browse::{BrowseError, Entry, Found, Kind, look, volumes};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, ImageReader, Level, to_indexed};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use used_common::{Mount, content, run, sparse};

const MIB: u64 = 1 << 20;

struct Image {
    _folder: TempDir,
    reader: Arc<ImageReader>,
}

/// The image of a disk that is one filesystem.
fn image(folder: TempDir, disk: &Path) -> Image {
    let path = folder.path().join("sda.raw.gz");
    let mut bytes = Vec::new();
    let raw = FileSource::open(disk).unwrap();
    to_indexed(&raw, Level::Fast, 1, &mut bytes, &Silent).unwrap();
    fs::write(&path, bytes).unwrap();
    let reader = ImageReader::open(Box::new(FileSource::open(&path).unwrap())).unwrap();
    Image {
        _folder: folder,
        reader: Arc::new(reader),
    }
}

impl Image {
    fn look(&self, path: &str) -> Result<(Vec<Entry>, Vec<u8>), BrowseError> {
        let volume = &volumes(&self.reader)[0];
        assert_eq!(volume.number, 0);
        let mut file = Vec::new();
        match look(&self.reader, volume, path, &mut file)? {
            Found::Folder(entries) => Ok((entries, file)),
            Found::File => Ok((Vec::new(), file)),
        }
    }

    fn names(&self, path: &str) -> Vec<String> {
        let (entries, _) = self.look(path).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn file(&self, path: &str) -> Vec<u8> {
        self.look(path).unwrap().1
    }

    fn refused(&self, path: &str) -> String {
        self.look(path).unwrap_err().to_string()
    }
}

/// `etc/hostname`, a large file, an empty one and a folder.
fn fill(tree: &Path) {
    fs::create_dir_all(tree.join("etc/empty")).unwrap();
    fs::write(tree.join("etc/hostname"), "pitstop\n").unwrap();
    fs::write(tree.join("big"), content(7, 3 << 20)).unwrap();
    fs::write(tree.join("nothing"), "").unwrap();
}

fn check(image: &Image) {
    assert_eq!(image.file("etc/hostname"), b"pitstop\n");
    assert!(image.file("/big") == content(7, 3 << 20));
    assert_eq!(image.file("nothing"), b"");
    assert_eq!(image.names("etc"), ["empty", "hostname"]);
    assert_eq!(image.names("etc/empty/"), [""; 0]);
    let root = image.names("");
    for name in ["etc", "big", "nothing"] {
        assert!(root.iter().any(|it| it == name), "{root:?}");
    }
    for path in ["etc/passwd", "none/at/all", "etc/hostname/x"] {
        assert!(
            image.refused(path).ends_with("is not in it"),
            "{path}: {}",
            image.refused(path)
        );
    }
    let (entries, _) = image.look("etc").unwrap();
    assert_eq!(
        (entries[0].kind, entries[1].kind),
        (Kind::Folder, Kind::File)
    );
    assert_eq!(entries[1].size, 8);
}

#[test]
fn files_of_ext4_are_told_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fill(&tree);
    symlink("/etc/hostname", tree.join("link")).unwrap();
    symlink("../../../../../../etc/hostname", tree.join("out")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    let disk = sparse(&folder, "disk", 32 * MIB);
    let (tree, path) = (tree.to_str().unwrap(), disk.to_str().unwrap());
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", tree, path]);
    let image = image(folder, &disk);
    check(&image);
    // A link leads within the image, however far up it wants.
    assert_eq!(image.file("link"), b"pitstop\n");
    assert_eq!(image.file("out"), b"pitstop\n");
    assert!(image.look("loop").is_err());
    let (entries, _) = image.look("").unwrap();
    let link = entries.iter().find(|entry| entry.name == "link").unwrap();
    assert_eq!(
        (link.kind, link.target.as_str()),
        (Kind::Link, "/etc/hostname")
    );
}

#[test]
fn files_of_fat_are_told_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fill(&tree);
    let disk = sparse(&folder, "disk", 40 * MIB);
    let path = disk.to_str().unwrap();
    run("mkfs.vfat", &["-F", "32", path]);
    for name in ["etc", "big", "nothing"] {
        let from = tree.join(name);
        run("mcopy", &["-s", "-i", path, from.to_str().unwrap(), "::"]);
    }
    let image = image(folder, &disk);
    check(&image);
    assert_eq!(image.file("ETC/HOSTNAME"), b"pitstop\n");
}

#[test]
fn files_of_ntfs_are_told_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sparse(&folder, "disk", 40 * MIB);
    run("mkntfs", &["-Q", "-F", "-q", disk.to_str().unwrap()]);
    {
        let mount = Mount::fuse("ntfs-3g", &disk, "rw");
        fill(mount.path());
        for number in 0..300 {
            fs::create_dir_all(mount.path().join("Program Files")).unwrap();
            let name = format!("Program Files/a rather long name {number:03}.txt");
            fs::write(mount.path().join(name), format!("{number}")).unwrap();
        }
    }
    let image = image(folder, &disk);
    check(&image);
    let names = image.names("program files");
    assert_eq!(names.len(), 300);
    assert_eq!(
        image.file("Program Files/a rather long name 299.txt"),
        b"299"
    );
    assert!(image.names("").iter().all(|name| !name.starts_with('$')));
}

#[test]
fn a_filesystem_that_is_not_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sparse(&folder, "disk", 320 * MIB);
    run("mkfs.xfs", &["-q", disk.to_str().unwrap()]);
    let image = image(folder, &disk);
    assert!(!volumes(&image.reader)[0].is_readable());
    assert_eq!(
        image.refused(""),
        "xfs is not read here: mount it to see its files (pitstop mount)"
    );
}

#[test]
fn a_damaged_filesystem_is_an_error_and_no_crash() {
    for (make, from) in [
        (&["mke2fs", "-q", "-F", "-t", "ext4"][..], 8192),
        (&["mkntfs", "-Q", "-F", "-q"], 16384),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let disk = sparse(&folder, "disk", 16 * MIB);
        let arguments: Vec<&str> = make[1..]
            .iter()
            .copied()
            .chain([disk.to_str().unwrap()])
            .collect();
        run(make[0], &arguments);
        let mut bytes = fs::read(&disk).unwrap();
        for (at, byte) in bytes.iter_mut().enumerate().skip(from) {
            *byte ^= u8::try_from(at % 251).unwrap();
        }
        fs::write(&disk, bytes).unwrap();
        let image = image(folder, &disk);
        assert!(image.look("etc/hostname").is_err());
    }
}
