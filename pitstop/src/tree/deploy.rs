//! `pitstop tree deploy IMAGE DISK`: a tree onto a disk, without a boot.

use super::parts::Parts;
use super::print;
use super::shared::Shared;
use super::store::Where;
use crate::ask::agrees;
use crate::commands::place::reporter;
use crate::commands::place::signed::SignedBy;
use crate::job_options::{JobOptions, Which};
use anyhow::{Context, bail};
use pitstop_deploy::disk::{Deployment, HOOK_LIMIT, plan};
use pitstop_deploy::passphrase::Passphrase;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Feed;
use pitstop_imaging::interrupt;
use pitstop_imaging::layout::Layout;
use pitstop_imaging::units;
use pitstop_protocol::job::{ActionName, JobOption, Word};
use pitstop_trees::TreeImage;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree deploy web /dev/sdb --dry-run
  pitstop tree deploy web /dev/sdb --hostname web-07
  pitstop tree deploy web@2026-11-01T080000Z disk.img --layout layout.toml
  pitstop tree deploy web /dev/sdb --mirror /dev/sdc --layout raid1.toml
  pitstop tree deploy web /dev/sdb --layout luks.toml --luks-key luks.key
  pitstop tree deploy web.tar.gz /dev/sdb --overrides layers/site --hook 10-register.sh

As root. Everything on DISK (and on each --mirror) is lost. A disk that is mounted is refused. Until the work is whole, the disk does not boot.")]
pub struct Args {
    /// A NAME or NAME@VERSION on the share, a path or an `http(s)://` URL
    image: String,
    /// A block device or a plain file
    disk: PathBuf,
    /// Another disk that gets the same partitions, for the arrays of a layout with [[raid]]; may be repeated
    #[arg(long = "mirror", value_name = "DISK")]
    mirrors: Vec<PathBuf>,
    /// The layout to make [default: the image's own, which fits disks of any size]
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// A file whose one line is the passphrase of the layout's [[luks]]; only its owner may read it
    #[arg(long, value_name = "FILE")]
    luks_key: Option<PathBuf>,
    /// The machine's name [default: what the tree has]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    #[command(flatten)]
    asked: JobOptions<OfDeploy>,
    #[command(flatten)]
    parts: Parts,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Cores to unpack on; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    signed: SignedBy,
    #[command(flatten)]
    place: Where,
}

/// What the action `deploy` takes, but for what names files: those of a command are here, and not on a share.
struct OfDeploy;

impl Which for OfDeploy {
    fn has(option: &JobOption) -> bool {
        ["identity", "new-ids", "boot", "initrd"].contains(&option.key)
            && option.is_of(ActionName::Deploy)
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let reporter = reporter();
    let image = args
        .place
        .open_signed(&args.image, &args.signed, &reporter)?;
    let plan = plan(args.deployment(&image)?)?;
    if args.dry_run {
        return print(&plan.to_string());
    }
    let disks: Vec<String> = [&args.disk]
        .into_iter()
        .chain(&args.mirrors)
        .map(|disk| disk.display().to_string())
        .collect();
    let disks = disks.join(" and ");
    if !args.yes && std::io::stdin().is_terminal() {
        print(&plan.to_string())?;
        if !agrees(&format!("Write {disks}, and lose what is there?"))? {
            bail!("nothing was written");
        }
    }
    let shared = &args.shared;
    let node = shared.join(&args.image, &args.place, &image, &reporter)?;
    let feed = node.as_ref().map(|node| node as &dyn Feed);
    // Mounts end with this process, arrays and volumes do not.
    interrupt::heed().context("asking for signals")?;
    let done = plan.fed_by(feed).run(&reporter)?;
    reporter.info(format!(
        "{disks}: {} entries, {} of files",
        done.entries,
        units::bytes(done.bytes)
    ));
    Ok(())
}

impl Args {
    fn deployment<'a>(&'a self, image: &'a TreeImage<'a>) -> anyhow::Result<Deployment<'a>> {
        let layout = self.layout.as_deref().map(read_layout).transpose()?;
        let given = self.parts.read()?;
        Ok(Deployment {
            mirrors: self.mirrors.clone(),
            layout,
            identity: self.word("identity")?,
            hostname: self.hostname.clone(),
            new_ids: self.asked.get("new-ids").is_some(),
            boot: self.word("boot")?,
            initrd: self.word("initrd")?,
            overrides: given.layers,
            hooks: given.hooks,
            secrets: given.secrets,
            hook_limit: HOOK_LIMIT,
            passphrase: self.luks_key.as_deref().map(Passphrase::open).transpose()?,
            threads: self.threads,
            ..Deployment::new(image, &self.disk)
        })
    }

    fn word<W: Word + Default>(&self, key: &str) -> anyhow::Result<W> {
        let text = self.asked.text(key);
        text.map_or_else(|| Ok(W::default()), W::read)
            .map_err(anyhow::Error::msg)
    }
}

fn read_layout(file: &Path) -> anyhow::Result<Layout> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Layout::parse(&text).with_context(|| file.display().to_string())
}
