//! `mkimage list`: what an initramfs holds, whoever made it.

use crate::codec::Codec;
use crate::command::ListOptions;
use crate::weigh::{self, Weight};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::Write;

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
    let packed = std::fs::read(&options.image).with_context(|| format!("reading {name}"))?;
    let plain = Codec::decompress(&packed, LARGEST).with_context(|| format!("reading {name}"))?;
    let entries = entries(&plain).with_context(|| format!("{name} is no initramfs"))?;
    let files = entries
        .iter()
        .filter(|entry| entry.mode & 0o170_000 == 0o100_000);
    let parts = weigh::weigh(files.map(|entry| (entry.path.as_str(), u64::from(entry.size))));
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

fn entries(archive: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = archive;
    loop {
        let reader = cpio::newc::Reader::new(rest).context("reading a cpio header")?;
        let entry = reader.entry();
        if entry.is_trailer() {
            return Ok(entries);
        }
        entries.push(Entry {
            path: entry.name().to_owned(),
            mode: entry.mode(),
            size: entry.file_size(),
        });
        if rest.is_empty() {
            bail!("the archive ends without its trailer");
        }
        rest = reader.finish().context("the archive is cut off")?;
    }
}
