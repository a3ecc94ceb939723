//! `pitstop restore IMAGE DISK`: an image goes back to a disk, without a boot.

use super::place::{is_local, relay_of, reporter, slowed_source};
use crate::job_options::{JobOptions, Which};
use anyhow::bail;
use pitstop_imaging::disk::same_bytes;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{OpenedImage, PreparedRestore, RestoreOptions};
use pitstop_imaging::units;
use pitstop_protocol::job::{ActionName, Distribute, JobOption, check, parse_rate};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop restore sda.raw.gz /dev/sda --verify
  pitstop restore http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz /dev/sda --delta
  pitstop restore sda.raw.gz /dev/sda --grow
  pitstop restore sda.raw.gz /dev/sda --keep 3 --keep home
  pitstop restore sda.raw.gz /dev/sda --partition 2

Everything on DISK up to the size of the image is replaced, unless --keep or --partition says less. A disk that is
mounted is refused.")]
pub struct Args {
    /// A path or an `http(s)://` URL; any gzip, xz, zstd or raw image
    image: String,
    /// A block device or a plain file
    disk: PathBuf,
    #[command(flatten)]
    asked: JobOptions<OfRestore>,
    /// Cores to decompress on; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// What the action `restore` takes.
struct OfRestore;

impl Which for OfRestore {
    fn has(option: &JobOption) -> bool {
        let is_of_restore = option.is_of_some() && option.is_of(ActionName::Restore);
        is_of_restore || option.key == "rate-limit"
    }

    /// A command opens no port unless it is asked to.
    fn preset(option: &JobOption) -> Option<&'static str> {
        (option.key == "distribute").then_some("off")
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if is_local(&args.image) && same_bytes(Path::new(&args.image), &args.disk) {
        bail!(
            "{} is the image itself, which a restore would destroy",
            args.disk.display()
        );
    }
    let file = args.asked.host_file()?;
    let asked = check::restore(&file)?;
    let rate = args.asked.text("rate-limit").map(parse_rate).transpose();
    let source = slowed_source(&args.image, rate.map_err(anyhow::Error::msg)?)?;
    let how = match &file.distribute {
        None => Distribute::Off,
        Some(_) => check::distribute(&file)?,
    };
    let options = RestoreOptions {
        part: asked.part,
        delta: asked.delta,
        verify: asked.verify,
        new_ids: asked.new_ids,
        grow: asked.grow,
        threads: args.threads,
    };
    let reporter = reporter();
    let image = OpenedImage::open(source)?;
    let node = pitstop_relay::join(how, &image, || relay_of(&args.image), &reporter)?;
    let ready = PreparedRestore::new(&image, &args.disk, &options, &reporter)?;
    let done = match &node {
        Some(node) => ready.run_fed(node, &reporter),
        None => ready.run(&reporter),
    }?;
    let checked = if done.verified {
        ", read back and right"
    } else {
        ""
    };
    reporter.info(format!(
        "{}: {} written, {} zeroed, {} right already, {} read from the image{checked}",
        args.disk.display(),
        units::bytes(done.written),
        units::bytes(done.zeroed),
        units::bytes(done.unchanged),
        units::bytes(done.transferred)
    ));
    Ok(())
}
