//! Maps of holes that are hostile, or long.

use crate::{entry, imported, paths, pax, refused};

/// Such a map says nowhere how long it is: each line of it may be in what is not yet read.
#[test]
fn a_map_of_holes_that_does_not_end_is_refused() {
    let sparse = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "f"),
        ("GNU.sparse.realsize", "1"),
    ];
    for length in [100, 300_000] {
        let map = vec![b'1'; length];
        let error = refused(&[pax(b'x', &sparse), entry("f", b'0', "", &map)]);
        assert!(error.contains("cut short"), "{length}: {error}");
    }
    let map = vec![b'1'; 17 << 20];
    let error = refused(&[pax(b'x', &sparse), entry("f", b'0', "", &map)]);
    assert!(error.contains("a header of more than"), "{error}");
}

/// A file with a byte in each of so many stretches, far from each other.
fn sparse_file(parts: usize) -> Vec<u8> {
    let lines = (0..parts).map(|part| format!("{}\n1\n", part * 1_000_000));
    let mut data = [vec![format!("{parts}\n")], lines.collect()]
        .concat()
        .concat();
    let map = data.len().next_multiple_of(512);
    data.push_str(&"\0".repeat(map - data.len()));
    data.push_str(&"x".repeat(parts));
    let size = (parts * 1_000_000).to_string();
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "long"),
        ("GNU.sparse.realsize", size.as_str()),
    ];
    [pax(b'x', &records), entry("f", b'0', "", data.as_bytes())].concat()
}

/// Thousands of lines, more than are read at first.
#[test]
fn a_long_map_of_holes_is_read_and_one_that_no_image_has_room_for_is_refused() {
    let made = imported(&[sparse_file(8192), entry("next", b'0', "", b"x")]).unwrap();
    assert_eq!(paths(&made.image), ["/", "/long", "/next"]);
    let error = refused(&[sparse_file(8193)]);
    assert!(
        error.contains("/long has 8193 stretches of data"),
        "{error}"
    );
}
