//! `mkimage list`: what an initramfs holds, whoever made it.

use crate::codec::Codec;
use crate::command::ListOptions;
use crate::input;
use crate::weigh::{self, Weight};
use anyhow::{Context, Result, ensure};
use cpio::newc::Reader;
use serde::Serialize;
use std::io::{Read, Write};

/// The largest initramfs taken, unpacked.
const LARGEST: u64 = 4 << 30;

#[derive(Debug, Serialize)]
struct Listing {
    /// Bytes on the server.
    packed: u64,
    parts: Vec<Weight>,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    path: String,
    /// As `stat` has it, type bits included.
    mode: u32,
    size: u32,
}

pub fn run(options: &ListOptions) -> Result<()> {
    let name = options.image.display();
    let packed = input::read(&options.image)?;
    let found = contents(&packed).with_context(|| format!("{name} is no initramfs"))?;
    let regular = found
        .iter()
        .filter(|(entry, _)| entry.mode & 0o170_000 == 0o100_000);
    let parts = weigh::weigh(regular.map(|(entry, data)| (entry.path.as_str(), data.as_slice())))?;
    let entries = found.into_iter().map(|(entry, _)| entry).collect();
    let listing = Listing {
        packed: packed.len() as u64,
        parts,
        entries,
    };
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &listing)?;
        writeln!(out)?;
        return Ok(());
    }
    for entry in &listing.entries {
        writeln!(out, "{:06o} {:>10} {}", entry.mode, entry.size, entry.path)?;
    }
    write!(out, "\n{}", weigh::table(&listing.parts))?;
    writeln!(out, "{:<28} {:>19}", "packed", weigh::kib(listing.packed))?;
    Ok(())
}

/// Everything in an initramfs: archives one after the other with zeros between them, of which the last may be
/// compressed (Linux Documentation/driver-api/early-userspace/buffer-format.rst). Distributions put microcode in
/// front, plain.
fn contents(image: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut found = Vec::new();
    let compressed = read_archives(image, &mut found)?;
    if !compressed.is_empty() {
        let plain = Codec::decompress(compressed, LARGEST)?;
        let behind = read_archives(&plain, &mut found)?;
        ensure!(behind.is_empty(), "it is compressed twice");
    }
    ensure!(!found.is_empty(), "it is empty");
    Ok(found)
}

/// Reads plain archives up to the end or to the first compressed one, which it returns.
fn read_archives<'a>(data: &'a [u8], found: &mut Vec<(Entry, Vec<u8>)>) -> Result<&'a [u8]> {
    let mut rest = without_padding(data);
    while !rest.is_empty() && Codec::of(rest) == Codec::None {
        rest = without_padding(read_archive(rest, found)?);
    }
    Ok(rest)
}

fn without_padding(data: &[u8]) -> &[u8] {
    let zeros = data.iter().take_while(|byte| **byte == 0).count();
    &data[zeros..]
}

/// Reads one archive up to its trailer and returns what is behind it.
fn read_archive<'a>(archive: &'a [u8], found: &mut Vec<(Entry, Vec<u8>)>) -> Result<&'a [u8]> {
    let mut rest = archive;
    loop {
        let mut reader = Reader::new(rest).context("reading a cpio header")?;
        let entry = Entry {
            path: reader.entry().name().to_owned(),
            mode: reader.entry().mode(),
            size: reader.entry().file_size(),
        };
        let is_trailer = reader.entry().is_trailer();
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        ensure!(
            data.len() as u64 == u64::from(entry.size),
            "it is cut off in the middle of {}",
            entry.path
        );
        rest = reader
            .finish()
            .with_context(|| format!("it is cut off after {}", entry.path))?;
        if is_trailer {
            return Ok(rest);
        }
        found.push((entry, data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Node, Tree};
    use proptest::prelude::*;

    fn archive(path: &str) -> Vec<u8> {
        let mut tree = Tree::new();
        tree.add(path, 0o644, Node::File(b"hello".to_vec()))
            .unwrap();
        tree.archive(0).unwrap()
    }

    fn paths(image: &[u8]) -> Vec<String> {
        let found = contents(image).unwrap();
        found.into_iter().map(|(entry, _)| entry.path).collect()
    }

    #[test]
    fn plain_microcode_in_front_of_a_compressed_archive_is_listed_with_it() {
        let mut image = archive("microcode.bin");
        image.resize(image.len().next_multiple_of(512), 0);
        Codec::Zstd.compress(&archive("init"), &mut image).unwrap();
        assert_eq!(paths(&image), ["microcode.bin", "init"]);
    }

    #[test]
    fn a_cut_archive_says_where() {
        let whole = archive("init");
        let cut = whole.iter().position(|byte| *byte == b'h').unwrap() + 2;
        let error = contents(&whole[..cut]).unwrap_err();
        assert_eq!(error.to_string(), "it is cut off in the middle of init");
        assert_eq!(contents(&[0; 512]).unwrap_err().to_string(), "it is empty");
        let error = contents(b"some text").unwrap_err();
        assert_eq!(error.to_string(), "reading a cpio header");
    }

    #[test]
    fn nothing_is_unpacked_twice() {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        Codec::Gzip.compress(&archive("init"), &mut once).unwrap();
        Codec::Gzip.compress(&once, &mut twice).unwrap();
        assert_eq!(paths(&once), ["init"]);
        let error = contents(&twice).unwrap_err();
        assert_eq!(error.to_string(), "it is compressed twice");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..400),
            at in 0usize..300,
        ) {
            let _ = contents(&noise);
            let mut bent = archive("init");
            let at = at % bent.len();
            bent.truncate(at + noise.len());
            for (byte, noise) in bent[at..].iter_mut().zip(&noise) {
                *byte = *noise;
            }
            let _ = contents(&bent);
        }
    }
}
