//! A tar out of whatever packs it, in a file without a name: its entries are read in another order than they stand in.

use anyhow::Context;
use bzip2::read::MultiBzDecoder;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::members::{Decoder, kind};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// The tar in `archive`, which may be plain, gzip, xz, zstd or bzip2.
pub fn unpack(archive: &dyn ImageSource) -> anyhow::Result<File> {
    let mut start = [0; 20];
    let length = usize::try_from(archive.size()).map_or(start.len(), |size| size.min(start.len()));
    archive
        .read_exact_at(&mut start[..length], 0)
        .with_context(|| format!("reading {}", archive.name()))?;
    let mut from: Box<dyn Read + '_> = if start.starts_with(b"BZh") {
        Box::new(MultiBzDecoder::new(archive.stream_from(0)?))
    } else {
        Box::new(Decoder::open(archive, kind(&start[..length]))?)
    };
    copy(&mut *from).with_context(|| format!("unpacking {}", archive.name()))
}

/// All of `from` in a file that has no name, and is gone with its handle.
pub fn copy(from: &mut dyn Read) -> anyhow::Result<File> {
    let folder =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let making = || format!("making a file in {} (TMPDIR)", folder.display());
    let mut file = tempfile::tempfile_in(&folder).with_context(making)?;
    io::copy(from, &mut file)?;
    Ok(file)
}
