//! `pitstop tree prune`: old versions leave the share.

use super::store::Where;
use crate::commands::place::reporter;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use std::fs;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree prune web --keep 3 --dry-run
  pitstop tree prune web --keep 3

The current version stays, whatever its age.")]
pub struct Args {
    /// The tree
    name: String,
    /// How many of the latest versions stay
    #[arg(long, default_value_t = 5, value_name = "N")]
    keep: usize,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let trees = args.place.trees()?;
    let Some(tree) = trees.iter().find(|tree| tree.name == args.name) else {
        bail!(
            "there is no tree {} on the share: `pitstop tree list` shows those that are there",
            args.name
        );
    };
    let reporter = reporter();
    let old = tree.all.len().saturating_sub(args.keep);
    for version in &tree.all[..old] {
        if tree.current.as_ref() == Some(version) {
            continue;
        }
        if args.dry_run {
            reporter.info(format!("{}@{version} would be removed", tree.name));
            continue;
        }
        let image = tree.path(version);
        // What describes it goes last: an image without it would be one of unknown origin.
        for path in [
            image.clone(),
            image.with_extension("").with_extension("toml"),
        ] {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
            }
        }
        reporter.info(format!("{}@{version} is removed", tree.name));
    }
    Ok(())
}
