//! `pitstop restore IMAGE DISK`: an image goes back to a disk, without a boot.

use super::place::{RateLimit, is_local, reporter, slowed_source};
use anyhow::bail;
use pitstop_imaging::disk::same_bytes;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{Delta, Part, RestoreOptions, restore};
use pitstop_imaging::table::PartitionSelector;
use pitstop_imaging::units;
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
    /// Compare with the disk first and move only what differs; `auto` lets a sample decide
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        default_missing_value = "on",
        num_args = 0..=1,
        require_equals = true,
        value_name = "WHEN"
    )]
    delta: DeltaArg,
    /// Read the disk back afterwards; what differs is written again, once
    #[arg(long)]
    verify: bool,
    /// Give the copy's disk and partitions new GUIDs, or its MBR a new signature
    #[arg(long, conflicts_with_all = ["keep", "partition"])]
    new_ids: bool,
    /// On a larger disk, let the last partition and its filesystem (ext2-4, XFS, Btrfs, NTFS) have the room
    #[arg(long, conflicts_with_all = ["keep", "partition"])]
    grow: bool,
    /// A partition of DISK that survives, by number, GUID or GPT name; may be repeated
    #[arg(long, value_name = "PARTITION", conflicts_with = "partition")]
    keep: Vec<PartitionSelector>,
    /// Restore only this partition of the image, into the same of DISK, by number, GUID or GPT name; may be repeated
    #[arg(long, value_name = "PARTITION")]
    partition: Vec<PartitionSelector>,
    /// Cores to decompress on; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    rate_limit: RateLimit,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DeltaArg {
    Auto,
    On,
    Off,
}

impl Args {
    fn part(&self) -> Part {
        match (self.keep.as_slice(), self.partition.as_slice()) {
            ([], []) => Part::Whole,
            ([], only) => Part::Only(only.to_vec()),
            (kept, _) => Part::Keep(kept.to_vec()),
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if is_local(&args.image) && same_bytes(Path::new(&args.image), &args.disk) {
        bail!(
            "{} is the image itself, which a restore would destroy",
            args.disk.display()
        );
    }
    let image = slowed_source(&args.image, args.rate_limit)?;
    let options = RestoreOptions {
        part: args.part(),
        delta: match args.delta {
            DeltaArg::Auto => Delta::Auto,
            DeltaArg::On => Delta::On,
            DeltaArg::Off => Delta::Off,
        },
        verify: args.verify,
        new_ids: args.new_ids,
        grow: args.grow,
        threads: args.threads,
    };
    let reporter = reporter();
    let done = restore(&*image, &args.disk, &options, &reporter)?;
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
