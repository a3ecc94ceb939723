//! `pitstop backup DISK IMAGE`: a disk becomes an image, without a boot.

use super::place::encrypted::EncryptFor;
use super::place::{Destination, RateLimit, is_local, reporter};
use crate::job_options::{JobOptions, Which};
use anyhow::{Context, bail};
use pitstop_age::encrypting;
use pitstop_imaging::disk::{DiskInput, Input, lock, mounted_for_writing, same_bytes};
use pitstop_imaging::efi;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::encrypted::SUFFIX;
use pitstop_imaging::image::{CaptureOptions, Level, capture};
use pitstop_imaging::inventory::{DiskIdentity, identify};
use pitstop_imaging::patience::patiently;
use pitstop_protocol::job::options::RECIPIENTS;
use pitstop_protocol::job::{ActionName, JobOption, check};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop backup /dev/sda sda.raw.gz
  pitstop backup /dev/sda http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz --exact
  pitstop backup /dev/sda sda.raw.gz.age --recipients-file recipients.txt

The disk should not be written to meanwhile: unmount its filesystems first.")]
pub struct Args {
    /// A block device or a plain file
    disk: PathBuf,
    /// A path or an `http(s)://` URL; what the image is of goes beside it as IMAGE.toml
    image: String,
    #[command(flatten)]
    asked: JobOptions<OfBackup>,
    #[command(flatten)]
    made: NewImage,
    #[command(flatten)]
    rate_limit: RateLimit,
    #[command(flatten)]
    encrypt: EncryptFor,
}

/// How every command makes an image.
#[derive(clap::Args)]
pub struct NewImage {
    /// Cores to use; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    #[command(flatten)]
    level: JobOptions<OfNewImage>,
    /// Replace an image that is there
    #[arg(long)]
    pub force: bool,
}

const LEVEL: &str = "level";

/// How files end that are no gzip.
const OTHERS: [&str; 16] = [
    "zst", "zstd", "xz", "bz2", "lz4", "lzo", "lzma", "zip", "7z", "raw", "img", "iso", "qcow2",
    "vhd", "vhdx", "vmdk",
];

/// What the action `backup` takes, beside what every new image has.
struct OfBackup;

impl Which for OfBackup {
    fn has(option: &JobOption) -> bool {
        let own = option.is_of_some() && option.is_of(ActionName::Backup);
        // Whom it is for may be in files here.
        own && !OfNewImage::has(option) && option.key != RECIPIENTS
    }
}

/// What every new image has.
struct OfNewImage;

impl Which for OfNewImage {
    fn has(option: &JobOption) -> bool {
        option.key == LEVEL
    }
}

impl NewImage {
    pub fn level(&self) -> anyhow::Result<Level> {
        Ok(check::backup(&self.level.host_file()?)?.level)
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let identity = identity(&args.disk)?;
    if identity.size == 0 {
        let disk = args.disk.display();
        bail!("{disk} has no bytes: an empty file, or a drive without a medium");
    }
    refuse_itself(args)?;
    refuse_other_formats(&args.image)?;
    let asked = check::backup(&args.asked.host_file()?)?;
    let options = CaptureOptions {
        exact: asked.exact,
        level: args.made.level()?,
        threads: args.made.threads,
        read_errors: asked.read_errors,
        loaders: efi::loaders(
            &Path::new("/sys").join(efi::VARIABLES),
            &args.disk,
            identity.logical_sector_size,
        ),
        origin: None,
        levels: None,
    };
    let reporter = reporter();
    warn_of_writers(&args.disk, &reporter);
    let _shared = shared(&args.disk)?;
    let recipients = args.encrypt.recipients(&args.image)?;
    let to = Destination::new(&args.image, args.made.force)?.slowed(args.rate_limit.rate()?);
    match recipients {
        None => to.capture(&args.disk, &identity, &options, &reporter),
        // It has no byte in common with the image before.
        Some(recipients) => to.write(|out| {
            encrypting(out, &recipients, |out| {
                capture(&args.disk, &identity, &options, out, &reporter).map(Some)
            })
        }),
    }
}

/// The disk, which no restore writes to for as long as it is open: half of each would be in the image.
fn shared(disk: &Path) -> anyhow::Result<File> {
    let shown = disk.display();
    let file = File::open(disk).with_context(|| format!("opening {shown}"))?;
    if !patiently(lock::MOMENT, || lock::share(&file), |shared| !shared) {
        bail!(
            "{shown} is being written: a restore, a deploy or another program has it locked: let that end first"
        );
    }
    Ok(file)
}

/// What is written meanwhile may be in the image by half.
fn warn_of_writers(disk: &Path, reporter: &dyn Reporter) {
    let shown = disk.display();
    match mounted_for_writing(disk) {
        Ok(places) => {
            for place in places {
                reporter.warn(format!(
                    "{shown} is mounted for writing at {place}: what is written meanwhile may be in the image by half; \
                     unmount it first, or: mount -o remount,ro {place}"
                ));
            }
        }
        Err(error) => reporter.warn(format!(
            "whether {shown} is mounted cannot be told: {error}"
        )),
    }
}

/// The image must not take the place of the disk that it is of.
fn refuse_itself(args: &Args) -> anyhow::Result<()> {
    if is_local(&args.image) && same_bytes(&args.disk, Path::new(&args.image)) {
        bail!(
            "{} is the disk itself: the image needs another name",
            args.image
        );
    }
    Ok(())
}

/// An image is gzip, and a name that says something else would have every other tool fail.
pub fn refuse_other_formats(image: &str) -> anyhow::Result<()> {
    let path = image.split('?').next().unwrap_or(image);
    // In front of it may be a password.
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain = name.strip_suffix(SUFFIX).unwrap_or(name);
    let end = plain.rsplit_once('.').map_or("", |(_, end)| end);
    if OTHERS.contains(&end.to_ascii_lowercase().as_str()) {
        bail!(
            "{name} ends as another format, and what is made is gzip: call it something that ends in .gz, as \
             sda.raw.gz, or encrypted in .gz{SUFFIX}; `pitstop convert` makes .zst and .raw of it"
        );
    }
    Ok(())
}

/// What sysfs says of a whole disk; of a partition or a file, what can be measured.
fn identity(disk: &Path) -> anyhow::Result<DiskIdentity> {
    let shown = disk.display();
    let input = DiskInput::open(disk)?;
    let real = fs::canonicalize(disk).with_context(|| format!("looking at {shown}"))?;
    let device = real
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (logical, physical) = input.sector_sizes();
    let known = identify(Path::new("/sys"), &device)
        .filter(|known| real.starts_with("/dev") && known.size == input.size());
    Ok(known.unwrap_or(DiskIdentity {
        device,
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: input.size(),
        logical_sector_size: logical,
        physical_sector_size: physical,
    }))
}
