//! `pitstop verify IMAGE`: every chunk is checked.

use super::place::encrypted::ReadWith;
use super::place::signed::SignedBy;
use super::place::{reporter, source};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{OpenedImage, verify_opened};
use pitstop_imaging::units;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pitstop verify sda.raw.gz\n  pitstop verify sda.raw.gz --signed-by lab.pub"
)]
pub struct Args {
    /// A path or an `http(s)://` URL; any gzip, xz or zstd image
    image: String,
    /// Cores to check on; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    signed: SignedBy,
    #[command(flatten)]
    read: ReadWith,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let image = OpenedImage::open(args.read.open(source(&args.image)?)?)?;
    let reporter = reporter();
    args.signed.check_disk(&args.image, &image, &reporter)?;
    let verified = verify_opened(&image, args.threads, &reporter)?;
    let size = units::bytes(verified.bytes());
    if verified.has_checksums() {
        reporter.info(format!("{} is right: {size} of disk", image.name()));
    } else {
        reporter.warn(format!(
            "{}: {size} of disk can be read, but it has no checksums that would tell whether they are right",
            image.name()
        ));
    }
    Ok(())
}
