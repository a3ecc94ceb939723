//! Entries with a size in their headers, and no data behind them; and with records that are not read.

use super::{entry, extract_to, imported, paths, pax};
use std::fs;

/// An entry of which its header says that it has `size` bytes.
fn sized(mut entry: Vec<u8>, size: u64) -> Vec<u8> {
    entry[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    entry[148..156].fill(b' ');
    let sum: u32 = entry[..512].iter().map(|byte| u32::from(*byte)).sum();
    entry[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    entry
}

#[test]
fn sizes_of_what_has_no_data_hide_nothing() {
    let made = imported(&[
        entry("a", b'0', "", b"hello"),
        sized(entry("b", b'1', "a", b""), 5),
        sized(entry("c/", b'5', "", b""), 4096),
        entry("c/d", b'0', "", b"data"),
        sized(entry("e", b'1', "a", b""), 4096),
        sized(entry("f", b'2', "a", b""), 1),
        sized(entry("g", b'6', "", b""), 512),
        entry("h", b'0', "", b"data"),
    ])
    .unwrap();
    assert_eq!(
        paths(&made.image),
        ["/", "/a", "/b", "/c", "/c/d", "/e", "/f", "/g", "/h"]
    );
}

/// As `pax -o linkdata` and cpio's formats have it.
#[test]
fn data_behind_a_hard_link_is_passed_over() {
    let made = imported(&[
        entry("a", b'0', "", b"hello"),
        entry("b", b'1', "a", b"hello"),
        entry("c", b'0', "", b"x"),
    ])
    .unwrap();
    let target = tempfile::tempdir().unwrap();
    let root = target.path().join("root");
    extract_to(&made.image, &root).unwrap();
    assert_eq!(fs::read(root.join("b")).unwrap(), b"hello");
    assert_eq!(fs::read(root.join("c")).unwrap(), b"x");
}

#[test]
fn records_that_are_not_read_are_told() {
    let made = imported(&[
        pax(
            b'x',
            &[("LIBARCHIVE.xattr.user.a", "YQ=="), ("SCHILY.acl.ace", "x")],
        ),
        entry("lost", b'0', "", b""),
        pax(
            b'x',
            &[
                ("LIBARCHIVE.xattr.user.a", "YQ=="),
                ("SCHILY.xattr.user.a", "a"),
            ],
        ),
        entry("kept", b'0', "", b""),
    ])
    .unwrap();
    let said = made.said.0.lock().unwrap().join("\n");
    assert!(
        said.contains("LIBARCHIVE.xattr.user.a, SCHILY.acl.ace"),
        "{said}"
    );
    assert!(said.contains("lost") && !said.contains("kept"), "{said}");
    let holes = imported(&[
        pax(b'x', &[("SUN.holesdata", " 0 512 1024")]),
        entry("sparse", b'0', "", b"data"),
    ]);
    let error = format!("{:#}", holes.err().unwrap());
    assert!(
        error.contains("sparse") && error.contains("holes"),
        "{error}"
    );
}
