//! `pitstop shrink IMAGE NEW`: an image becomes one of a smaller disk, its last filesystem shrunk by its own tools.

mod filesystems;
mod last;
mod owned;
mod scratch;

use super::backup::{NewImage, refuse_other_formats};
use super::place::{Destination, is_local, reporter, shown, source, url};
use anyhow::{Context, bail};
use filesystems::Shrinker;
use last::Last;
use percent_encoding::percent_decode_str;
use pitstop_imaging::disk::{LoopDevice, same_bytes};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{CaptureOptions, ImageMeta, ImageReader, Origin};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::table::Resized;
use pitstop_imaging::units::{self, parse_bytes};
use scratch::Scratch;
use std::path::{Path, PathBuf};
use url::Position;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop shrink sda.raw.gz smaller.raw.gz
  pitstop shrink sda.raw.gz smaller.raw.gz --to 20GiB
  pitstop shrink http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz smaller.raw.gz --scratch /var/tmp

The filesystem of the last partition is shrunk: ext2-4 by resize2fs, NTFS by ntfsresize, Btrfs by the kernel. Swap
after it moves. IMAGE stays as it is. Needs root, and room for what the disk has in use beside NEW.")]
pub struct Args {
    /// A path or an `http(s)://` URL of an image with an index
    image: String,
    /// The new image: a path or an `http(s)://` URL; what it is of goes beside it as NEW.toml
    new: String,
    /// Bytes of the smaller disk [default: the least, with 5 % or 64 MiB to spare in the filesystem]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    to: Option<u64>,
    /// Where the disk is laid out meanwhile; nothing stays there [default: the folder of NEW]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    made: NewImage,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if is_same(&args.image, &args.new) {
        bail!(
            "{} is the image itself: the new one needs another name",
            args.new
        );
    }
    if is_named_encrypted(&args.new) {
        bail!(
            "{}: a smaller image is plain, and a name like this says that it is encrypted",
            args.new
        );
    }
    refuse_other_formats(&args.new)?;
    let reader = ImageReader::open(source(&args.image)?)?;
    let last = Last::of(&reader)?;
    let shrinker = Shrinker::of(&last.summary)?;
    last.check_size(args.to)?;
    let destination = Destination::new(&args.new, args.made.force)?;
    LoopDevice::check()
        .context("a loop device has to show the partition to the filesystem's programs")?;
    let image = source(&args.image)?;
    let meta = reader.meta();
    // What is in use, and the new image, which is no larger than the old one.
    let scratch = Scratch::new(&args.folder(), meta.kept.saturating_add(image.size()))?;
    let reporter = reporter();
    warn_of_errors(meta, reader.name(), &reporter);
    scratch.fill(&*image, args.made.threads, &reporter)?;
    let resized = shrink(&last, shrinker, &scratch, args.to, &reporter)?;
    let table = last.table(&resized)?;
    let smallest = Last::smallest(table.as_ref(), &resized);
    let disk = last.disk(smallest, args.to)?;
    scratch.cut(&resized, table.as_ref(), disk)?;
    last.check_table(&scratch, &resized)?;
    let identity = DiskIdentity {
        size: disk,
        ..meta.disk.clone()
    };
    let options = CaptureOptions {
        exact: meta.exact,
        level: args.made.level()?,
        threads: args.made.threads,
        loaders: meta.loaders.clone(),
        origin: meta.origin.clone().map(Origin::without_request),
        ..CaptureOptions::default()
    };
    destination.write(|out| {
        scratch
            .capture(&identity, &options, out, &reporter)
            .map(Some)
    })?;
    reporter.info(format!(
        "{}: a disk of {} ({disk} bytes), was {}; {}; the smallest disk for it has {smallest} bytes",
        shown(&args.new),
        units::bytes(disk),
        units::bytes(reader.disk_size()),
        last.change(&resized)
    ));
    Ok(())
}

impl Args {
    fn folder(&self) -> PathBuf {
        let beside = || match Path::new(&self.new).parent() {
            Some(folder) if is_local(&self.new) && folder != Path::new("") => folder.into(),
            _ if is_local(&self.new) => ".".into(),
            _ => std::env::temp_dir(),
        };
        self.scratch.clone().unwrap_or_else(beside)
    }
}

/// Whether two names are those of one image.
fn is_same(image: &str, new: &str) -> bool {
    match (is_local(image), is_local(new)) {
        (true, true) => same_bytes(Path::new(image), Path::new(new)),
        (false, false) => place(image).is_some_and(|of| place(new) == Some(of)),
        _ => false,
    }
}

/// The host, port and path of a URL: who asks, and what signs it, make no other image of it.
fn place(name: &str) -> Option<Vec<u8>> {
    let url = self::url(name).ok()??;
    let place = &url[Position::BeforeHost..Position::AfterPath];
    Some(percent_decode_str(place).collect())
}

/// Shrinks the filesystem on the scratch disk, if it has to be; what becomes of its partition.
fn shrink(
    last: &Last,
    shrinker: Shrinker,
    scratch: &Scratch,
    to: Option<u64>,
    reporter: &dyn Reporter,
) -> anyhow::Result<Resized> {
    let what = || format!("shrinking {last}");
    let device = scratch.partition(last)?;
    shrinker.check(device.path(), reporter).with_context(what)?;
    let needed = shrinker.least(device.path()).with_context(what)?;
    let resized = last.resized(needed, to)?;
    let owned = shrinker.owned(device.path()).with_context(what)?;
    last.check_dropped(scratch, &resized, &owned)?;
    if resized.to < resized.from {
        reporter.info(format!("{}: this takes its time", last.change(&resized)));
        shrinker
            .shrink(device.path(), resized.to, reporter)
            .with_context(what)?;
    }
    device.finish().with_context(what)?;
    Ok(resized)
}

fn warn_of_errors(meta: &ImageMeta, image: &str, reporter: &dyn Reporter) {
    let errors = meta.read_errors.len();
    if errors > 0 {
        reporter.warn(format!(
            "{errors} places of the disk could not be read when {image} was made and are zeros: the new image does not \
             tell where they are"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_by_every_spelling_of_its_url() {
        let image = "http://server:80/share/a%20b/sda.raw.gz?signed";
        for (new, same) in [
            ("http://server/share/a b/sda.raw.gz", true),
            ("HTTP://me:secret@Server/x/../share/a%20b/sda.raw.gz", true),
            ("http://server/share/a%20b/%73da.raw.gz", true),
            ("http://server/share/a%20b/sda.raw.gz#it", false),
            ("http://server:8080/share/a%20b/sda.raw.gz", false),
            ("http://server/share/a%20b/sdb.raw.gz", false),
            ("share/a b/sda.raw.gz", false),
        ] {
            assert_eq!(is_same(image, new), same, "{new}");
        }
    }
}
