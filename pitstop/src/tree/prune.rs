//! `pitstop tree prune`: old versions leave the share.

use super::store::Where;
use crate::commands::place::reporter;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// After a day nobody goes on with what is half written.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree prune web --keep 3 --dry-run
  pitstop tree prune web --keep 3

The current version stays, whatever its age, and one whose .toml does not tell when it was made.")]
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
    let mut dated = Vec::new();
    for version in &tree.all {
        match &version.created {
            Ok(_) => dated.push(&version.name),
            Err(error) => reporter.warn(format!(
                "{}@{} is kept: nothing tells how old it is: {error:#}",
                tree.name, version.name
            )),
        }
    }
    let old = dated.len().saturating_sub(args.keep);
    for version in dated.into_iter().take(old) {
        if tree.current.as_ref() == Some(version) {
            continue;
        }
        if args.dry_run {
            reporter.info(format!("{}@{version} would be removed", tree.name));
            continue;
        }
        let image = tree.path(version);
        // What describes it goes last: an image without it would be one of unknown origin.
        let about = tree.about(version);
        let signature = about.with_extension("toml.minisig");
        for path in [image, signature, about] {
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
    for part in tree.parts.iter().filter(|part| is_left(part)) {
        let shown = part.display();
        if args.dry_run {
            reporter.info(format!("{shown} would be removed: it was never finished"));
            continue;
        }
        fs::remove_file(part).with_context(|| format!("removing {shown}"))?;
        reporter.info(format!("{shown} is removed: it was never finished"));
    }
    Ok(())
}

/// Whether nobody has written to a file for long: what made it was killed.
fn is_left(part: &Path) -> bool {
    let changed = fs::metadata(part).and_then(|found| found.modified());
    let age = changed.ok().and_then(|changed| changed.elapsed().ok());
    age.is_some_and(|age| age > LEFT)
}
