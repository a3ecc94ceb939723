//! A tar out of whatever packs it, in a file without a name: its entries are read in another order than they stand in.

use anyhow::{Context, bail};
use bzip2::read::MultiBzDecoder;
use pitstop_imaging::image::members::{Decoder, kind};
use pitstop_imaging::image::{ImageSource, Kind};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// How much tells what packs a file.
const START: usize = 20;

/// How a file begins that is encrypted.
const AGE: &[u8] = b"age-encryption.org/";

/// A program that unpacks from its standard input to its standard output.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
}

/// The tar in `archive`: plain, gzip, xz, zstd or bzip2, or packed by something that a program here unpacks.
pub fn unpack(archive: &dyn ImageSource) -> anyhow::Result<File> {
    let mut start = [0; START];
    let length = usize::try_from(archive.size()).map_or(START, |size| size.min(START));
    archive
        .read_exact_at(&mut start[..length], 0)
        .with_context(|| format!("reading {}", archive.name()))?;
    let start = &start[..length];
    if start.starts_with(AGE) {
        bail!(
            "{name} is encrypted by age: have it decrypted on the way (age -d -i KEY.txt {name} | pitstop tree import - …)",
            name = archive.name()
        );
    }
    let unpacking = || format!("unpacking {}", archive.name());
    if let Some(program) = program(start) {
        return by_program(&program, &mut *archive.stream_from(0)?).with_context(unpacking);
    }
    let mut from: Box<dyn Read + '_> = if start.starts_with(b"BZh") {
        Box::new(MultiBzDecoder::new(archive.stream_from(0)?))
    } else {
        Box::new(Decoder::open(archive, kind(start))?)
    };
    copy(&mut *from).with_context(unpacking)
}

/// Whether a tar is as tar writes it, and not packed.
///
/// # Errors
/// It is packed, or cannot be read.
pub fn check_plain(tar: &File) -> anyhow::Result<()> {
    let mut start = [0; START];
    let length = tar.read_at(&mut start, 0).context("reading the tar")?;
    let start = &start[..length];
    let is_packed =
        program(start).is_some() || start.starts_with(b"BZh") || kind(start) != Kind::Raw;
    if is_packed {
        bail!("it is packed, and a plain tar is wanted: unpack it (gunzip, unxz, unzstd …)");
    }
    Ok(())
}

/// What unpacks a file that begins so, where it is nothing that is unpacked here.
fn program(start: &[u8]) -> Option<Program> {
    let begins = |magic: &[u8]| start.starts_with(magic);
    // lzma has no magic: its properties, as all write them, and the size of its dictionary. A tar of a file `]` has zeros there.
    let is_lzma = begins(&[0x5d, 0, 0]) && start.get(3..5).is_some_and(|size| size != [0, 0]);
    let (name, arguments): (_, &[&str]) = if begins(&[0x04, 0x22, 0x4d, 0x18]) {
        ("lz4", &["-dc"])
    } else if begins(b"LZIP\x01") {
        ("lzip", &["-dc"])
    } else if begins(b"\x89LZO\0") {
        ("lzop", &["-dc"])
    } else if begins(&[0x1f, 0x9d]) {
        // compress: .Z
        ("gzip", &["-dc"])
    } else if is_lzma {
        ("xz", &["--format=lzma", "-dc"])
    } else {
        return None;
    };
    Some(Program { name, arguments })
}

fn by_program(program: &Program, from: &mut dyn Read) -> anyhow::Result<File> {
    let name = program.name;
    let file = unnamed()?;
    let out = file.try_clone().context("keeping a file open")?;
    let spawned = Command::new(name)
        .args(program.arguments)
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {name} here: install it, or unpack the tar yourself");
        }
        spawned => spawned.with_context(|| format!("starting {name}"))?,
    };
    let (to, complaints) = (child.stdin.take(), child.stderr.take());
    let (fed, said) = thread::scope(|scope| {
        let said = scope.spawn(|| {
            let mut said = String::new();
            complaints.map(|mut it| it.read_to_string(&mut said));
            said
        });
        // Its input ends with the handle.
        let fed = to.map_or(Ok(0), |mut to| io::copy(from, &mut to));
        (fed, said.join().unwrap_or_default())
    });
    let status = child
        .wait()
        .with_context(|| format!("waiting for {name}"))?;
    // What cannot be read ends its input, and then it complains of that. One that failed reads no further, and says why itself.
    let is_unread = |error: &io::Error| error.kind() != io::ErrorKind::BrokenPipe;
    if !status.success() && !fed.as_ref().is_err_and(is_unread) {
        bail!("{name}: {status}: {}", said.trim());
    }
    fed?;
    Ok(file)
}

fn unnamed() -> anyhow::Result<File> {
    let folder =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let making = || format!("making a file in {} (TMPDIR)", folder.display());
    tempfile::tempfile_in(&folder).with_context(making)
}

/// All of `from` in a file that has no name, and is gone with its handle.
pub fn copy(from: &mut dyn Read) -> anyhow::Result<File> {
    let mut file = unnamed()?;
    io::copy(from, &mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::image::FileSource;
    use std::fs;
    use std::io::Seek;

    #[test]
    fn other_packers_are_known_and_a_tar_of_a_bracket_is_none() {
        let name = |start: &[u8]| program(start).map(|it| it.name);
        assert_eq!(name(b"\x5d\0\0\x80\0\xff"), Some("xz"));
        assert_eq!(name(b"LZIP\x01x"), Some("lzip"));
        assert_eq!(name(b"\x04\x22\x4d\x18"), Some("lz4"));
        for plain in [&b"]\0\0\0\0\0"[..], b"LZIP\0", b"", b"./"] {
            assert_eq!(name(plain), None, "{plain:?}");
        }
    }

    #[test]
    fn one_that_is_encrypted_says_how_it_is_decrypted() {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("a.tar.age");
        fs::write(&tar, "age-encryption.org/v1\n-> X25519 …").unwrap();
        let error = unpack(&FileSource::open(&tar).unwrap()).unwrap_err();
        assert!(error.to_string().contains("age -d -i KEY.txt"), "{error}");
    }

    /// A line that is cut.
    struct Cut;

    impl Read for Cut {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is cut"))
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_what_the_program_makes_of_it() {
        let xz = Program {
            name: "xz",
            arguments: &["--format=lzma", "-dc"],
        };
        let start: &[u8] = &[0x5d, 0, 0, 0x80, 0];
        let mut from = start.chain(Cut);
        let error = by_program(&xz, &mut from).unwrap_err();
        assert_eq!(format!("{error:#}"), "the line is cut");
    }

    #[test]
    fn a_program_unpacks_what_is_packed_otherwise_and_says_when_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, vec![7; 300_000]).unwrap();
        let packed = Command::new("xz")
            .args(["--format=lzma", "-c"])
            .arg(&plain)
            .output()
            .unwrap()
            .stdout;
        let path = folder.path().join("packed");
        for (bytes, is_whole) in [(&packed[..], true), (&packed[..packed.len() / 2], false)] {
            fs::write(&path, bytes).unwrap();
            let unpacked = unpack(&FileSource::open(&path).unwrap());
            if is_whole {
                let (mut file, mut found) = (unpacked.unwrap(), Vec::new());
                file.rewind().unwrap();
                file.read_to_end(&mut found).unwrap();
                assert!(found == vec![7; 300_000]);
            } else {
                let error = format!("{:#}", unpacked.unwrap_err());
                assert!(error.contains("xz: "), "{error}");
            }
        }
    }
}
