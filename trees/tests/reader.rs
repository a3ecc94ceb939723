//! The reader in Python that `docs/tree-format.md` has, against images that have everything.

mod common;

use common::{Disk, capture_to, make_everything, options, run};
use pitstop_imaging::image::FileSource;
use pitstop_trees::TreeImage;
use pitstop_trees::entry::Kind;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// The program in the page.
fn program() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tree-format.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_reader_of_the_docs_sees_the_same_tree_and_reads_every_file() {
    let disk = Disk::new(200 << 20, &[]);
    let root = disk.join("tree");
    fs::create_dir(&root).unwrap();
    make_everything(&root);
    let work = tempfile::tempdir().unwrap();
    let (image, reader) = (work.path().join("x.tar.gz"), work.path().join("reader.py"));
    capture_to(&root, &image, &options()).unwrap();
    fs::write(&reader, program()).unwrap();
    let source = FileSource::open(&image).unwrap();
    let tree = TreeImage::open(&source).unwrap();

    let listed = run(Command::new("python3").arg(&reader).arg(&image)).stdout;
    let listed = String::from_utf8(listed).unwrap();
    let expected: Vec<String> = tree
        .index
        .entries()
        .map(|entry| {
            let attributes = &entry.attributes;
            let size = match entry.kind {
                Kind::File { size, .. } => size,
                _ => 0,
            };
            format!(
                "{} 0o{:o} {} {} {} {} {size} ",
                char::from(entry.kind.letter()),
                attributes.mode,
                attributes.uid,
                attributes.gid,
                attributes.mtime.seconds,
                attributes.mtime.nanos
            )
        })
        .collect();
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed.len(), expected.len());
    for (listed, expected) in listed.iter().zip(&expected) {
        assert!(
            listed.starts_with(expected.as_str()),
            "{listed}\n{expected}"
        );
    }
    for path in [
        "usr/bin/large",
        "usr/small-77",
        "var/log/holes",
        "etc/empty",
        "usr/bin/exact",
    ] {
        let read = run(Command::new("python3").arg(&reader).arg(&image).arg(path)).stdout;
        assert!(read == fs::read(root.join(path)).unwrap(), "{path}");
        let mut ours = Vec::new();
        pitstop_trees::cat(&tree, std::ffi::OsStr::new(path).as_bytes(), &mut ours).unwrap();
        assert!(ours == read, "{path}");
    }
}
