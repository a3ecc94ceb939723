//! `pitstop tree capture ROOT IMAGE`: a system becomes an image.

use super::new_image::NewImage;
use super::store::Where;
use crate::commands::place::encrypted::EncryptFor;
use crate::commands::place::reporter;
use anyhow::Context;
use pitstop_imaging::image::Level;
use pitstop_imaging::interrupt;
use pitstop_trees::path::TreePath;
use pitstop_trees::{CaptureOptions, Excludes, Packing};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree capture / web
  pitstop tree capture / http://192.168.1.10:8080/share/web.tar.gz --exclude '/srv/*'
  pitstop tree capture /mnt/golden golden.tar.gz

The root's filesystem is read, and those below it that its /etc/fstab names. Patterns begin at the root: /tmp/* and
**/*.pyc.")]
pub struct Args {
    /// The root of a system, or any folder
    root: PathBuf,
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
    /// Allow that files under /etc, /usr and /boot change while they are read
    #[arg(long)]
    allow_changed: bool,
    #[command(flatten)]
    place: Where,
}

/// How every command makes an image of a tree.
#[derive(clap::Args)]
pub struct NewTree {
    /// Cores to use; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// auto: as small as the time allows; fast; or small: two hundredths less in twice the time
    #[arg(long, default_value = "auto", value_name = "LEVEL")]
    level: LevelName,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub encrypt: EncryptFor,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LevelName {
    Auto,
    Fast,
    Small,
}

impl NewTree {
    pub fn packing(&self) -> Packing {
        Packing {
            level: match self.level {
                LevelName::Auto => Level::Auto,
                LevelName::Fast => Level::Fast,
                LevelName::Small => Level::Small,
            },
            threads: self.threads,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    // Snapshots of a system that runs are removed first.
    interrupt::heed().context("asking for signals")?;
    let image = args
        .place
        .new_image(&args.image, args.packing.force, &args.packing.encrypt)?;
    let reporter = reporter();
    let options = CaptureOptions {
        packing: args.packing.packing(),
        excludes: Excludes::new(&args.exclude)?,
        keep_identity: args.keep_identity,
        allow_changed: args.allow_changed,
        skipped: itself(&image, &args.root)?,
        meta: image.meta(),
    };
    image.write(|out| pitstop_trees::capture(&args.root, &options, out, &reporter))?;
    image.announce(&reporter);
    Ok(())
}

/// The paths in the tree that writing the image makes.
fn itself(image: &NewImage, root: &Path) -> anyhow::Result<Vec<TreePath>> {
    let Some(path) = image.path() else {
        return Ok(Vec::new());
    };
    let root = fs::canonicalize(root).with_context(|| format!("opening {}", root.display()))?;
    let path = path::absolute(&path).context("looking for the current folder")?;
    let folder = path.parent().unwrap_or(&path);
    // Those that are made for it are not there yet, but will be when the tree is read.
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(folder);
    let folder = fs::canonicalize(there)
        .with_context(|| format!("opening {}", there.display()))?
        .join(folder.strip_prefix(there)?);
    let (Ok(folder), Some(name)) = (folder.strip_prefix(&root), path.file_name()) else {
        return Ok(Vec::new());
    };
    let own = ["", ".part", ".toml", ".toml.part"].map(|end| {
        let name = [name.as_bytes(), end.as_bytes()].concat();
        let folder = TreePath::parse(folder.as_os_str().as_bytes())?;
        folder.join(&name)
    });
    Ok(own.into_iter().collect::<Result<_, _>>()?)
}
