//! `pitstop convert FROM TO`: any image becomes one with an index, or zstd, or raw.

use super::backup::NewImage;
use super::place::{Destination, led_to, reporter, shown, source};
use anyhow::{Context, bail};
use pitstop_imaging::disk::{is_device_path, lock};
use pitstop_imaging::image::{Delta, RestoreOptions, restore, to_indexed, to_zstd};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop convert old.gz sda.raw.gz
  pitstop convert sda.raw.gz sda.img

The name of TO decides: .gz with an index, .zst or .zstd, .raw or .img. A level is for .gz alone.")]
pub struct Args {
    /// A path or an `http(s)://` URL; any gzip, xz, zstd or raw image
    from: String,
    /// A path; for .gz and .zst also an `http(s)://` URL
    to: String,
    #[command(flatten)]
    made: NewImage,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let image = source(&args.from)?;
    let reporter = reporter();
    let end = args.to.rsplit('.').next().unwrap_or_default();
    match end.to_ascii_lowercase().as_str() {
        "gz" => Destination::new(&args.to, args.made.force)?.write(|out| {
            to_indexed(
                &*image,
                args.made.level()?,
                args.made.threads,
                out,
                &reporter,
            )
            .map(Some)
        }),
        "zst" | "zstd" => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let threads = if args.made.threads == 0 {
                cores
            } else {
                args.made.threads
            };
            let threads = u32::try_from(threads).unwrap_or(1);
            Destination::new(&args.to, args.made.force)?
                .write(|out| to_zstd(&*image, threads, out, &reporter).map(|()| None))
        }
        "raw" | "img" => to_raw(args, &*image, &reporter),
        _ => bail!(
            "{}: its name must end in .gz, .zst, .raw or .img, which says what to make",
            shown(&args.to)
        ),
    }
}

/// A restore to a new file: on all cores, with holes where there are zeros.
fn to_raw(
    args: &Args,
    image: &dyn pitstop_imaging::image::ImageSource,
    reporter: &dyn pitstop_imaging::event::Reporter,
) -> anyhow::Result<()> {
    let path = led_to(Path::new(&args.to))?;
    let path = path.as_path();
    if path.exists() && !path.is_file() {
        bail!(
            "{} is not a plain file: an image is not written there (pitstop restore writes to a disk)",
            args.to
        );
    }
    if path.exists() && !args.made.force {
        bail!("{} is there already: remove it, or say --force", args.to);
    }
    if !path.exists() && is_device_path(path) {
        bail!("there is no {}", args.to);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = std::path::PathBuf::from(part);
    let options = RestoreOptions {
        delta: Delta::Off,
        threads: args.made.threads,
        ..RestoreOptions::default()
    };
    let held = begin(&part)?;
    let written = restore(image, &part, &options, reporter).map_err(anyhow::Error::from);
    let done = written.and_then(|_| {
        if !is_at(&held, &part) {
            bail!("{} was replaced meanwhile", part.display());
        }
        std::fs::rename(&part, path)
            .with_context(|| format!("renaming {} to {}", part.display(), path.display()))
    });
    if done.is_err() && is_at(&held, &part) {
        // The error itself says what went wrong; half a file helps nobody.
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// A new file, which the restore locks. What a command that was killed has left under its name goes.
fn begin(part: &Path) -> anyhow::Result<File> {
    let shown = part.display();
    match std::fs::symlink_metadata(part) {
        Ok(found) if found.is_file() => {
            let old = File::options().write(true).open(part);
            let old = old.with_context(|| format!("opening {shown}"))?;
            if !lock::take(&old) || !is_at(&old, part) {
                bail!("another command is writing {shown} now");
            }
            std::fs::remove_file(part).with_context(|| format!("removing {shown}"))?;
        }
        Ok(_) => bail!("{shown} is there and no plain file: remove it"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("looking at {shown}")),
    }
    File::create_new(part).with_context(|| format!("creating {shown}"))
}

fn is_at(file: &File, path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    file.metadata().is_ok_and(|ours| {
        found.is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()))
    })
}
