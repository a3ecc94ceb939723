//! `pitstop tree rollback ROOT`: back to the system as it was before the last update.

use super::update::{real_root, show};
use crate::commands::place::reporter;
use pitstop_deploy::disk::apart;
use pitstop_deploy::root::Root;
use pitstop_deploy::update::snapshot;
use pitstop_imaging::event::Reporter;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree rollback --live
  pitstop tree rollback /mnt

As root. Only where the root is a subvolume of Btrfs: there an update keeps the system as it was. The system that was there until now is
kept in its turn: a second rollback goes forward again. One that runs changes at its next start; what it writes until then stays in
the one that is put aside.")]
pub struct Args {
    /// The root of a system, with its filesystems mounted below
    #[arg(value_name = "ROOT", default_value = "/")]
    folder: PathBuf,
    /// Allow that it is the system that runs
    #[arg(long)]
    live: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let real = real_root(&args.folder, args.live)?;
    let reporter = reporter();
    let root = Root::new(real.clone());
    let restored = apart(|| snapshot::rollback(&root, &reporter))?;
    if args.live {
        reporter.info(format!(
            "{} is the system from the next start on",
            restored.name
        ));
    } else {
        reporter.info(format!("{} is the system again", restored.name));
        show(&real, &restored.path, &reporter);
    }
    Ok(())
}
