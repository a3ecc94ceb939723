//! `pitstop tree import FROM NAME`: somebody else's tree becomes an image.

use super::capture::NewTree;
use super::store::Where;
use crate::commands::place::{is_local, reporter, source};
use anyhow::{Context, bail};
use pitstop_imaging::image::FileSource;
use pitstop_trees::{CaptureOptions, Excludes, From, import, spool};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mmdebstrap bookworm rootfs.tar && pitstop tree import rootfs.tar web
  docker export CONTAINER | pitstop tree import - app
  skopeo copy docker://debian:12 oci:debian && pitstop tree import ./debian debian

A tar may be packed by gzip, xz, zstd or bzip2; by lz4, lzip, lzma, lzop or compress where their programs are here. It is unpacked to a file without a name in TMPDIR, else /var/tmp.")]
pub struct Args {
    /// A tar (a path, an `http(s)://` URL, or - for the standard input), an OCI layout, or a folder
    from: String,
    /// A NAME on the share, a path or an `http(s)://` URL
    image: String,
    #[command(flatten)]
    packing: NewTree,
    /// Leave out what matches; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Keep what is one machine's alone: host keys, machine-id, leases, seeds
    #[arg(long)]
    keep_identity: bool,
    #[command(flatten)]
    place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let image = args
        .place
        .new_image(&args.image, args.packing.force, &args.packing.encrypt)?;
    let reporter = reporter();
    let options = CaptureOptions {
        packing: args.packing.packing(),
        excludes: Excludes::new(&args.exclude)?,
        keep_identity: args.keep_identity,
        allow_changed: false,
        skipped: Vec::new(),
        meta: image.meta(),
    };
    let folder = Path::new(&args.from);
    if is_local(&args.from) && folder.is_dir() {
        image.write(|out| import(&From::Folder(folder), &options, out, &reporter))?;
    } else if let Some(mut pipe) = pipe(&args.from)? {
        let file = spool(&mut *pipe).with_context(|| format!("reading {}", args.from))?;
        let archive = FileSource::of(args.from.clone(), file)?;
        image.write(|out| import(&From::Archive(&archive), &options, out, &reporter))?;
    } else {
        let archive = source(&args.from)?;
        image.write(|out| import(&From::Archive(&*archive), &options, out, &reporter))?;
    }
    image.announce(&reporter);
    Ok(())
}

/// What can be read only once, where `from` is that: `-`, the standard input, or a pipe with a name.
fn pipe(from: &str) -> anyhow::Result<Option<Box<dyn Read>>> {
    if from == "-" {
        let input = io::stdin();
        if input.is_terminal() {
            bail!(
                "- is the standard input, and that is a terminal: have a program write a tar to it"
            );
        }
        return Ok(Some(Box::new(input)));
    }
    let is_pipe = is_local(from) && fs::metadata(from).is_ok_and(|it| it.file_type().is_fifo());
    if !is_pipe {
        return Ok(None);
    }
    let opened = File::open(from).with_context(|| format!("opening {from}"))?;
    Ok(Some(Box::new(opened)))
}
