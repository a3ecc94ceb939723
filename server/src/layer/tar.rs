//! A folder as a tar: POSIX ustar (IEEE 1003.1, pax), with a record of its own for a name that has no room in the header.

use cap_std::fs::{Dir, Metadata, MetadataExt};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;
/// What the header has for a name, and for the target of a link.
const NAME: usize = 100;
/// Two blocks of zeros end a tar.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const FILE: u8 = b'0';
const SYMLINK: u8 = b'2';
const FOLDER: u8 = b'5';
const PAX: u8 = b'x';

/// Writes what is in `folder`, by name; sockets, devices and FIFOs are left out. No symlink is followed.
pub fn write(folder: &Dir, out: &mut impl Write) -> io::Result<()> {
    write_folder(folder, Path::new(""), out)?;
    out.write_all(&END)
}

fn write_folder(folder: &Dir, path: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut names: Vec<OsString> = folder
        .entries()?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let below = path.join(&name);
        let metadata = folder.symlink_metadata(&name)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut shown = below.as_os_str().as_bytes().to_vec();
            shown.push(b'/');
            entry(FOLDER, &shown, b"", 0, &metadata, out)?;
            write_folder(&folder.open_dir(&name)?, &below, out)?;
        } else if kind.is_symlink() {
            let target: PathBuf = folder.read_link_contents(&name)?;
            let target = target.as_os_str().as_bytes();
            entry(
                SYMLINK,
                below.as_os_str().as_bytes(),
                target,
                0,
                &metadata,
                out,
            )?;
        } else if kind.is_file() {
            let size = metadata.len();
            entry(
                FILE,
                below.as_os_str().as_bytes(),
                b"",
                size,
                &metadata,
                out,
            )?;
            let mut data = folder.open(&name)?.take(size);
            let copied = io::copy(&mut data, out)?;
            if copied != size {
                return Err(io::Error::other(format!(
                    "{} became shorter while it was read",
                    below.display()
                )));
            }
            pad(size, out)?;
        }
    }
    Ok(())
}

fn pad(size: u64, out: &mut impl Write) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let missing = (BLOCK - over) % BLOCK;
    out.write_all(&END[..missing])
}

fn entry(
    kind: u8,
    name: &[u8],
    target: &[u8],
    size: u64,
    metadata: &Metadata,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut records = Vec::new();
    if name.len() > NAME {
        records.extend(record("path", name));
    }
    if target.len() > NAME {
        records.extend(record("linkpath", target));
    }
    if !records.is_empty() {
        let length = records.len() as u64;
        out.write_all(&header(PAX, b"pax", b"", length, 0o644, 0)?)?;
        out.write_all(&records)?;
        pad(length, out)?;
    }
    let time = u64::try_from(metadata.mtime()).unwrap_or_default();
    let mode = u64::from(metadata.mode() & 0o7777);
    out.write_all(&header(kind, name, target, size, mode, time)?)
}

/// `30 mtime=1350244992.023960108\n`: the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn header(
    kind: u8,
    name: &[u8],
    target: &[u8],
    size: u64,
    mode: u64,
    time: u64,
) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, most: usize, bytes: &[u8]| {
        let length = bytes.len().min(most);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    let octal = |value: u64, digits: usize| {
        let text = format!("{value:0digits$o}");
        if text.len() > digits {
            return Err(io::Error::other("a file is too large for a layer's tar"));
        }
        Ok(text.into_bytes())
    };
    text(0, NAME, name);
    text(100, 7, &octal(mode, 7)?);
    text(108, 7, &octal(0, 7)?);
    text(116, 7, &octal(0, 7)?);
    text(124, 11, &octal(size, 11)?);
    text(136, 11, &octal(time, 11)?);
    text(148, 8, b"        ");
    text(156, 1, &[kind]);
    text(157, NAME, target);
    text(257, 8, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(sum.as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        for length in [1, 80, 90, 91, 92, 93, 990, 9_990] {
            let record = record("path", &vec![b'x'; length]);
            let text = String::from_utf8(record.clone()).unwrap();
            let told: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, record.len());
        }
    }
}
