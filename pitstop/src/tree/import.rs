//! `pitstop tree import FROM NAME`: somebody else's tree becomes an image.

use super::capture::NewTree;
use super::store::Where;
use crate::commands::place::{is_local, reporter, source};
use pitstop_imaging::event::Reporter;
use pitstop_trees::{CaptureOptions, Excludes, From, import};
use std::path::Path;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mmdebstrap bookworm rootfs.tar && pitstop tree import rootfs.tar web
  docker export CONTAINER -o app.tar && pitstop tree import app.tar app
  skopeo copy docker://debian:12 oci:debian && pitstop tree import ./debian debian

A tar may be packed by gzip, xz, zstd or bzip2. It is unpacked to a file without a name in TMPDIR, else /var/tmp.")]
pub struct Args {
    /// A tar (a path or an `http(s)://` URL), an OCI layout, or a folder
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
    let image = args.place.new_image(&args.image, args.packing.force)?;
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
    } else {
        let archive = source(&args.from)?;
        image.write(|out| import(&From::Archive(&*archive), &options, out, &reporter))?;
    }
    if let Some(version) = image.version() {
        reporter.info(format!("{version} is the current version"));
    }
    Ok(())
}
