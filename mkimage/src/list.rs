//! `mkimage list`: what an initramfs holds, whoever made it.

use crate::command::ListOptions;
use crate::input;
use crate::weigh::{self, Weight};
use anyhow::{Context, Result};
use pitstop_imaging::initramfs;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

#[derive(Debug, Serialize)]
struct Listing {
    /// Bytes on the server.
    packed: u64,
    parts: Vec<Weight>,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
pub struct Entry {
    pub path: String,
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

/// Reads an initramfs that goes into something else: of another file a machine would have no system.
pub fn initramfs(path: &Path) -> Result<Vec<u8>> {
    let packed = input::read(path)?;
    initramfs::walk(packed.as_slice(), &mut |_, data| {
        std::io::copy(data, &mut std::io::sink())?;
        Ok(())
    })
    .with_context(|| format!("{} is no initramfs", path.display()))?;
    Ok(packed)
}

/// What is in an initramfs, with its data.
pub type Contents = Vec<(Entry, Vec<u8>)>;

/// Everything in an initramfs.
pub fn contents(image: &[u8]) -> Result<Contents> {
    let mut found = Vec::new();
    initramfs::walk(image, &mut |entry, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        let entry = Entry {
            path: entry.path.clone(),
            mode: entry.mode,
            size: entry.size,
        };
        found.push((entry, bytes));
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::codec::Codec;
    use crate::tree::{Node, Tree};
    use proptest::prelude::*;

    fn archive(path: &str) -> Vec<u8> {
        let mut tree = Tree::new();
        tree.add(path, 0o644, Node::File(b"hello".to_vec()))
            .unwrap();
        tree.archive(0).unwrap()
    }

    fn pack(codec: Codec, data: &[u8], image: &mut Vec<u8>) {
        codec.compress(data, Architecture::X86_64, image).unwrap();
    }

    fn paths(image: &[u8]) -> Vec<String> {
        let found = contents(image).unwrap();
        found.into_iter().map(|(entry, _)| entry.path).collect()
    }

    #[test]
    fn plain_microcode_in_front_of_a_compressed_archive_is_listed_with_it() {
        let mut image = archive("microcode.bin");
        image.resize(image.len().next_multiple_of(512), 0);
        pack(Codec::Zstd, &archive("init"), &mut image);
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
        pack(Codec::Gzip, &archive("init"), &mut once);
        pack(Codec::Gzip, &once, &mut twice);
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
