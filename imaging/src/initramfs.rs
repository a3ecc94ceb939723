//! What is in an initramfs, whoever made it: archives one after the other with zeros between them, each packed in its own way or plain
//! (Linux Documentation/driver-api/early-userspace/buffer-format.rst). Distributions put microcode in front, plain.
//!
//! It is read from its beginning to its end, and nothing of it is kept: unpacked it is larger than a small machine's memory.

mod members;

use anyhow::{Context, ensure};
use members::Members;
use std::io::{self, BufReader, Read};

/// The largest initramfs taken, unpacked.
const LARGEST: u64 = 4 << 30;
/// The longest path that the kernel takes (`N_ALIGN(PATH_MAX)`, init/initramfs.c).
const NAME_MOST: u32 = 4096;
/// What stands behind the last entry of an archive.
const TRAILER: &str = "TRAILER!!!";
/// Of a header: six bytes of magic, then thirteen numbers of eight hex digits.
const HEADER: usize = 110;
const MAGIC: usize = 6;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    /// As `stat` has it, type bits included.
    pub mode: u32,
    /// Bytes.
    pub size: u32,
}

/// A compression that the kernel knows, and this reader does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is packed with {0}, which is not read here")]
pub struct UnknownPacking(pub &'static str);

/// How an archive is packed, by its first bytes (lib/decompress.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
    Unknown(&'static str),
}

fn packing(start: &[u8]) -> Packing {
    match start {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        [0x02, 0x21, 0x4c, 0x18, ..] => Packing::Unknown("lz4"),
        [b'B', b'Z', b'h', ..] => Packing::Unknown("bzip2"),
        [0x5d, 0, 0, ..] => Packing::Unknown("lzma"),
        [0x89, b'L', b'Z', b'O', ..] => Packing::Unknown("lzo"),
        _ => Packing::None,
    }
}

/// Takes an entry, and its data as far as it wants it.
pub type Visit<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> anyhow::Result<()>;

/// Goes through all entries of all archives in `image`.
///
/// # Errors
/// When it is damaged, is none, or is packed in a way that is not known here: an [`UnknownPacking`]. And as `visit` has them.
pub fn walk(image: impl Read, visit: Visit) -> anyhow::Result<()> {
    let mut image = Members::new(BufReader::new(image)).take(LARGEST);
    let mut seen = 0u64;
    let mut count = |entry: &Entry, data: &mut dyn Read| {
        seen += 1;
        visit(entry, data)
    };
    loop {
        let read = archives(&mut image, &mut count);
        let image = image.get_mut();
        if image.is_plain() {
            let Some((start, length)) = read? else { break };
            if let Packing::Unknown(name) = packing(&start[..length]) {
                return Err(UnknownPacking(name).into());
            }
            image.begins(start, length)?;
        } else {
            let behind = read.context("unpacking it")?;
            ensure!(behind.is_none(), "it is compressed twice");
            break;
        }
    }
    ensure!(seen > 0, "it is empty");
    Ok(())
}

/// Goes through plain archives up to the end, or to the first one that is packed: its first bytes, and how many those are.
fn archives(image: &mut impl Read, visit: Visit) -> anyhow::Result<Option<([u8; MAGIC], usize)>> {
    loop {
        let mut start = [0; MAGIC];
        // Zeros fill up to whatever the writer liked.
        loop {
            if read_full(image, &mut start[..1])? == 0 {
                return Ok(None);
            }
            if start[0] != 0 {
                break;
            }
        }
        let length = 1 + read_full(image, &mut start[1..])?;
        match packing(&start[..length]) {
            Packing::None => archive(image, start, visit)?,
            _ => return Ok(Some((start, length))),
        }
    }
}

/// One archive up to its trailer.
fn archive(image: &mut impl Read, start: [u8; MAGIC], visit: Visit) -> anyhow::Result<()> {
    let mut header = [0; HEADER];
    header[..MAGIC].copy_from_slice(&start);
    let mut path = String::new();
    loop {
        let length = read_full(image, &mut header[MAGIC..])?;
        let read = length == HEADER - MAGIC && header.starts_with(b"07070");
        let (entry, name_size) = read
            .then(|| parse(&header))
            .flatten()
            .with_context(|| after("reading a cpio header", &path))?;
        let mut name = vec![0; name_size];
        ensure!(
            read_full(image, &mut name)? == name.len(),
            after("it is cut off", &path)
        );
        skip_padding(image, HEADER + name_size).with_context(|| after("it is cut off", &path))?;
        name.pop();
        path = String::from_utf8_lossy(&name).into_owned();
        let entry = Entry {
            path: path.clone(),
            ..entry
        };
        let size = u64::from(entry.size);
        let mut data = image.take(size);
        if path != TRAILER {
            visit(&entry, &mut data)?;
        }
        io::copy(&mut data, &mut io::sink())?;
        ensure!(
            data.limit() == 0,
            "it is cut off in the middle of {}",
            entry.path
        );
        skip_padding(image, usize::try_from(size)?)
            .with_context(|| format!("it is cut off after {path}"))?;
        if path == TRAILER {
            return Ok(());
        }
        let length = read_full(image, &mut header[..MAGIC])?;
        ensure!(length == MAGIC, "it is cut off after {path}");
    }
}

fn after(what: &str, path: &str) -> String {
    if path.is_empty() {
        what.to_owned()
    } else {
        format!("{what} after {path}")
    }
}

/// Mode, size, and the length of the name with the zero byte behind it.
fn parse(header: &[u8; HEADER]) -> Option<(Entry, usize)> {
    let number = |at: usize| {
        let digits = header.get(MAGIC + at * 8..MAGIC + at * 8 + 8)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let name = number(11).filter(|name| (1..=NAME_MOST).contains(name))?;
    let entry = Entry {
        path: String::new(),
        mode: number(1)?,
        size: number(6)?,
    };
    Some((entry, usize::try_from(name).ok()?))
}

/// Everything begins at a multiple of four.
fn skip_padding(image: &mut impl Read, behind: usize) -> anyhow::Result<()> {
    let mut padding = [0; 3];
    let padding = &mut padding[..behind.next_multiple_of(4) - behind];
    ensure!(read_full(image, padding)? == padding.len(), "its end");
    Ok(())
}

/// Reads until `buffer` is full or the end; how much that was.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// An archive as cpio makes it.
    fn cpio(names: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("data of {name}")).unwrap();
        }
        let list = names.join("\n");
        piped(
            "cpio",
            &[
                "-o",
                "-H",
                "newc",
                "--quiet",
                "-D",
                folder.path().to_str().unwrap(),
            ],
            list.as_bytes(),
        )
    }

    fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    fn found(image: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        walk(image, &mut |entry, data| {
            let mut text = String::new();
            if entry.path.ends_with('2') {
                return Ok(());
            }
            data.read_to_string(&mut text)?;
            found.push((entry.path.clone(), text));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn archives_of_every_packing_are_read_with_microcode_in_front() {
        let modules = cpio(&["lib/a.ko", "lib/b2", "init"]);
        let expected = |front: bool| -> Vec<(String, String)> {
            let names = if front { vec!["micro.bin"] } else { vec![] };
            let names = names.into_iter().chain(["lib/a.ko", "init"]);
            names
                .map(|name| (name.into(), format!("data of {name}")))
                .collect()
        };
        let packings: [(&str, &[&str]); 4] = [
            ("cat", &[]),
            ("gzip", &["-c"]),
            ("xz", &["--check=crc32", "-c"]),
            ("zstd", &["-q", "-c"]),
        ];
        for (program, arguments) in packings {
            let packed = piped(program, arguments, &modules);
            assert_eq!(found(&packed).unwrap(), expected(false), "{program}");
            // As the kernel has it: zeros between members and behind them.
            let mut twice = [&packed[..], &[0; 3]].concat();
            twice.extend(piped(program, arguments, &cpio(&["more"])));
            twice.extend([0; 5]);
            let more = [
                expected(false),
                vec![("more".into(), "data of more".into())],
            ]
            .concat();
            assert_eq!(found(&twice).unwrap(), more, "{program}");
            let mut image = cpio(&["micro.bin"]);
            image.resize(image.len().next_multiple_of(4096), 0);
            image.extend(packed);
            assert_eq!(found(&image).unwrap(), expected(true), "{program}");
        }
        // Whoever adds something to an initramfs packs it in a way of his own, or not at all.
        let mut image = Vec::new();
        let mut names = Vec::new();
        for (number, at) in [1, 2, 0, 3, 0, 0, 1].into_iter().enumerate() {
            let (program, arguments) = packings[at];
            names.push(format!("own-{number}-"));
            image.extend(piped(program, arguments, &cpio(&[&names[number]])));
            image.resize(image.len().next_multiple_of(4), 0);
        }
        let all = found(&image).unwrap();
        let all: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
        assert_eq!(all, names);
    }

    #[test]
    fn what_is_damaged_or_not_known_is_told() {
        let whole = cpio(&["init"]);
        let cut = whole
            .windows(7)
            .position(|part| part == b"data of")
            .unwrap()
            + 2;
        for (image, why) in [
            (&whole[..cut], "it is cut off in the middle of init"),
            (&[0; 512][..], "it is empty"),
            (b"some text", "reading a cpio header"),
            (
                b"\x02\x21\x4c\x18....",
                "it is packed with lz4, which is not read here",
            ),
        ] {
            assert_eq!(found(image).unwrap_err().to_string(), why);
        }
        let error = found(b"BZh9....").unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&UnknownPacking("bzip2")));
        let once = piped("gzip", &["-c"], &whole);
        let error = found(&piped("gzip", &["-c"], &once)).unwrap_err();
        assert_eq!(error.to_string(), "it is compressed twice");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let _ = found(&noise);
            // A header that cpio could have made, and then bent.
            let mut bent = b"070701".to_vec();
            for number in [1u32, 0o100_644, 0, 0, 1, 0, 4, 0, 0, 0, 0, 5, 0] {
                bent.extend(format!("{number:08x}").bytes());
            }
            bent.extend(b"init\0\0data");
            bent.extend(&noise);
            for (at, byte) in places {
                let at = at.index(bent.len());
                bent[at] = byte;
            }
            let _ = found(&bent);
        }
    }
}
