//! What stands before an entry's data in the tar: a ustar header (POSIX.1-2017 pax, "ustar Interchange Format"), and before
//! that a pax header where ustar has no room. An entry makes the very same bytes every time.

use crate::entry::{Entry, Extent, Kind};
use crate::pax::Records;
use std::io::Write;

/// A tar is made of these.
pub const BLOCK: u64 = 512;
/// Two blocks of zeros end it.
pub const END: usize = 1024;
const NAME: usize = 100;
const PREFIX: usize = 155;
/// What seven and eleven octal digits hold.
pub const OCTAL_7: u64 = 0o7_777_777;
pub const OCTAL_11: u64 = 0o77_777_777_777;
/// The pax records of GNU tar's sparse files, version 1.0.
const SPARSE_FOLDER: &[u8] = b"GNUSparseFile.0";

/// `size` and what fills the last block.
pub fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// The header of `entry`, with the map of a sparse file, which tars count as data.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let path = tar_path(entry);
    let link = match &entry.kind {
        Kind::Symlink(target) => target.clone(),
        Kind::HardLink(target) => dotted(target.as_bytes()),
        _ => Vec::new(),
    };
    let map = sparse_map(&entry.kind);
    let size = map.len() as u64 + entry.kind.stored();
    let mut records = Records::default();
    let short = |bytes: &[u8]| (bytes.len() <= NAME).then(|| bytes.to_vec());
    let place = match &entry.kind {
        Kind::File {
            size,
            extents: Some(_),
            ..
        } => {
            records.name(b"GNU.sparse.name", &path);
            records.text("GNU.sparse.major", "1");
            records.text("GNU.sparse.minor", "0");
            records.text("GNU.sparse.realsize", &size.to_string());
            split(&stand_in(&path)).unwrap_or_else(|| (Vec::new(), cut(&path)))
        }
        _ => split(&path).unwrap_or_else(|| {
            records.name(b"path", &path);
            (Vec::new(), cut(&path))
        }),
    };
    let link_field = short(&link).unwrap_or_else(|| {
        records.name(b"linkpath", &link);
        cut(&link)
    });
    records.attributes(&entry.attributes, !matches!(entry.kind, Kind::HardLink(_)));
    if size > OCTAL_11 {
        records.text("size", &size.to_string());
    }
    let records = records.finish();
    if !records.is_empty() {
        put_pax(&records, &path, out);
    }
    let mut block = [0; 512];
    put(&mut block, 0, &place.1);
    put(&mut block, 345, &place.0);
    put(&mut block, 157, &link_field);
    fields(&mut block, entry, size);
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&map);
}

/// Paths have `./` in front: so the root has a name, and GNU tar sets its time after all that is in it.
fn dotted(path: &[u8]) -> Vec<u8> {
    [b"./", path].concat()
}

fn tar_path(entry: &Entry) -> Vec<u8> {
    let mut path = dotted(entry.path.as_bytes());
    if entry.kind == Kind::Folder && !entry.path.is_root() {
        path.push(b'/');
    }
    path
}

/// Where GNU tar puts a sparse file for readers that know nothing of it.
fn stand_in(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    [&path[..at], b"/", SPARSE_FOLDER, &path[at..]].concat()
}

fn cut(path: &[u8]) -> Vec<u8> {
    path[..path.len().min(NAME)].to_vec()
}

/// A path as ustar's prefix and name; `None` when it has no room.
fn split(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if path.len() <= NAME {
        return Some((Vec::new(), path.to_vec()));
    }
    let least = path.len() - NAME - 1;
    let at = (least..=PREFIX.min(path.len() - 2)).find(|at| path[*at] == b'/')?;
    Some((path[..at].to_vec(), path[at + 1..].to_vec()))
}

fn put(block: &mut [u8; 512], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Digits with zeros in front and a zero byte behind; what is too large stands in a pax record.
fn octal(block: &mut [u8; 512], at: usize, digits: usize, value: u64) {
    let most = if digits == 7 { OCTAL_7 } else { OCTAL_11 };
    let value = if value > most { 0 } else { value };
    put(block, at, format!("{value:0digits$o}").as_bytes());
}

fn fields(block: &mut [u8; 512], entry: &Entry, size: u64) {
    let attributes = &entry.attributes;
    octal(block, 100, 7, u64::from(attributes.mode));
    octal(block, 108, 7, u64::from(attributes.uid));
    octal(block, 116, 7, u64::from(attributes.gid));
    octal(block, 124, 11, size);
    let seconds = u64::try_from(attributes.mtime.seconds).unwrap_or(0);
    octal(block, 136, 11, seconds);
    block[156] = match entry.kind {
        Kind::File { .. } => b'0',
        Kind::HardLink(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Character { .. } => b'3',
        Kind::Block { .. } => b'4',
        Kind::Folder => b'5',
        Kind::Fifo => b'6',
    };
    if let Kind::Character { major, minor } | Kind::Block { major, minor } = entry.kind {
        octal(block, 329, 7, u64::from(major));
        octal(block, 337, 7, u64::from(minor));
    }
}

/// Magic and checksum.
fn seal(block: &mut [u8; 512]) {
    put(block, 257, b"ustar\x0000");
    put(block, 148, b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

/// The map of GNU.sparse 1.0: how many stretches, then where each begins and how long it is, a line each; filled up to
/// whole blocks.
fn sparse_map(kind: &Kind) -> Vec<u8> {
    let Kind::File {
        size,
        extents: Some(extents),
        ..
    } = kind
    else {
        return Vec::new();
    };
    // A file that ends in a hole ends in an empty stretch, as GNU tar has it.
    let last = extents.last().map(|extent| extent.start + extent.length);
    let end = (last != Some(*size)).then_some(Extent {
        start: *size,
        length: 0,
    });
    let count = extents.len() + usize::from(end.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for extent in extents.iter().chain(&end) {
        // Writing to a Vec cannot fail.
        let _ = writeln!(map, "{}\n{}", extent.start, extent.length);
    }
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

fn put_pax(records: &[u8], path: &[u8], out: &mut Vec<u8>) {
    let mut block = [0; 512];
    let at = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let name = [b"./PaxHeaders/", &path[at..]].concat();
    put(&mut block, 0, &cut(&name));
    octal(&mut block, 100, 7, 0o644);
    octal(&mut block, 108, 7, 0);
    octal(&mut block, 116, 7, 0);
    octal(&mut block, 124, 11, records.len() as u64);
    octal(&mut block, 136, 11, 0);
    block[156] = b'x';
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(records);
    out.resize(out.len().next_multiple_of(512), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Attributes, Time, Xattrs};
    use crate::path::TreePath;
    use std::sync::Arc;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: TreePath::parse(path.as_bytes()).unwrap(),
            kind,
            attributes: Attributes {
                mode: 0o755,
                ..Attributes::default()
            },
        }
    }

    fn bytes(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        encode(entry, &mut out);
        assert_eq!(out.len() % 512, 0);
        out
    }

    #[test]
    fn what_ustar_has_room_for_takes_one_block() {
        let plain = bytes(&entry("etc", Kind::Folder));
        assert_eq!(plain.len(), 512);
        assert!(plain.starts_with(b"./etc/\0"));
        assert!(bytes(&entry("", Kind::Folder)).starts_with(b"./\0"));
        let deep = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let split = bytes(&entry(&deep, Kind::Fifo));
        assert_eq!(split.len(), 512);
        assert_eq!(&split[..90], "f".repeat(90).as_bytes());
        assert_eq!(&split[345..347], b"./");
    }

    #[test]
    fn the_rest_stands_in_records_that_count_themselves() {
        let mut odd = entry(&"x".repeat(200), Kind::Fifo);
        odd.attributes.mtime = Time {
            seconds: -5,
            nanos: 250_000_000,
        };
        odd.attributes.uid = 4_000_000_000;
        odd.attributes.xattrs = Arc::new(Xattrs::new(vec![
            (b"user.a=b".to_vec(), b"\0\xff".to_vec()),
            (b"security.selinux".to_vec(), b"system_u\0".to_vec()),
        ]));
        let out = bytes(&odd);
        assert_eq!(out[156], b'x');
        let length = out[124..135]
            .iter()
            .fold(0, |n, d| n * 8 + usize::from(d - b'0'));
        let mut rest = &out[512..512 + length];
        let mut keys = Vec::new();
        while !rest.is_empty() {
            let space = rest.iter().position(|b| *b == b' ').unwrap();
            let size: usize = std::str::from_utf8(&rest[..space])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(rest[size - 1], b'\n');
            keys.push(String::from_utf8_lossy(&rest[space + 1..size - 1]).into_owned());
            rest = &rest[size..];
        }
        let name = "x".repeat(200);
        assert_eq!(
            keys,
            [
                &format!("path=./{name}"),
                "mtime=-4.75",
                "uid=4000000000",
                "SCHILY.xattr.security.selinux=system_u\0",
                "SCHILY.xattr.user.a%3Db=\0\u{fffd}",
            ]
        );
    }

    #[test]
    fn a_sparse_file_has_its_map_before_its_data() {
        let extents: Arc<[Extent]> = Arc::new([Extent {
            start: 4096,
            length: 10,
        }]);
        let sparse = entry(
            "var/log/lastlog",
            Kind::File {
                size: 1 << 40,
                extents: Some(extents),
                hash: [0; 32],
            },
        );
        let out = bytes(&sparse);
        let map = &out[out.len() - 512..];
        assert!(map.starts_with(b"2\n4096\n10\n1099511627776\n0\n\0"));
        let header = &out[out.len() - 1024..];
        assert!(header.starts_with(b"./var/log/GNUSparseFile.0/lastlog\0"));
        assert_eq!(&header[124..135], format!("{:011o}", 522).as_bytes());
    }
}
