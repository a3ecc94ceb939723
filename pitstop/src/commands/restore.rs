//! `pitstop restore IMAGE DISK`: an image goes back to a disk, without a boot.

use super::place::encrypted::{ReadWith, is_locked};
use super::place::signed::SignedBy;
use super::place::{is_local, near_source, relay_of, reporter, slowed};
use crate::job_options::{JobOptions, Which};
use anyhow::bail;
use pitstop_imaging::disk::same_bytes;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{OpenedImage, PreparedRestore, RestoreOptions, shares_of};
use pitstop_imaging::units;
use pitstop_protocol::job::{ActionName, Distribute, JobOption, check, parse_rate};
use pitstop_transport::fetch::Listener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop restore sda.raw.gz /dev/sda --verify
  pitstop restore http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz /dev/sda --delta
  pitstop restore http://server:8080/share/golden/sda.raw.gz /dev/sda --mirror http://rack7:8080
  pitstop restore sda.raw.gz /dev/sda --grow
  pitstop restore sda.raw.gz /dev/sda --keep 3 --keep home
  pitstop restore sda.raw.gz /dev/sda --partition 2
  pitstop restore sda.raw.gz.age /dev/sda --identity lab.txt

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
    #[command(flatten)]
    signed: SignedBy,
    #[command(flatten)]
    read: ReadWith,
}

/// What the action `restore` takes.
struct OfRestore;

impl Which for OfRestore {
    fn has(option: &JobOption) -> bool {
        let is_of_restore = option.is_of_some() && option.is_of(ActionName::Restore);
        // A command says whose signature, by --signed-by.
        (is_of_restore && option.key != "signed") || option.key == "rate-limit"
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
    let mirrors = check::mirrors(&file)?;
    let reporter = Arc::new(reporter());
    let source = near_source(&args.image, &mirrors, Listener(Some(reporter.clone())))?;
    let source = slowed(source, rate.map_err(anyhow::Error::msg)?);
    let how = match &file.distribute {
        None => Distribute::Off,
        Some(_) => check::distribute(&file)?,
    };
    let is_shared = how != Distribute::Off || !mirrors.is_empty();
    if is_shared && is_locked(&*source)? {
        bail!(
            "{} is encrypted, which goes with neither --distribute nor --mirror: others would pass on what is in it, and \
             could not prove what is not",
            source.name()
        );
    }
    let source = args.read.open(source)?;
    let options = RestoreOptions {
        part: asked.part,
        delta: asked.delta,
        verify: asked.verify,
        new_ids: asked.new_ids,
        grow: asked.grow,
        threads: args.threads,
        ahead: None,
    };
    let image = OpenedImage::open(source)?;
    args.signed.check_disk(&args.image, &image, &*reporter)?;
    let offer = || Ok(relay_of(&args.image)?.map(|at| at.behind(&mirrors)));
    let node = pitstop_relay::join(how, &image, offer, &*reporter)?;
    let ready = PreparedRestore::new(&image, &args.disk, &options, &*reporter)?;
    let done = match &node {
        Some(node) => ready.run_fed(node, &*reporter),
        None => ready.run(&*reporter),
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
    if let Some(shares) = shares_of(&image.places()) {
        reporter.info(format!("{}: {shares}", args.disk.display()));
    }
    Ok(())
}
