//! `pitstop layout`: partitions and filesystems from a file that people can read.

use super::place::{is_stream, reporter};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::layout::apply::{apply, compare};
use pitstop_imaging::layout::{Layout, capture, import};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop layout capture /dev/sda -o layout.toml
  pitstop layout apply layout.toml /dev/sdb
  pitstop layout import desc -o layout.toml

docs/layout.md has every key.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write the layout of a disk
    #[command(after_help = "Example:\n  pitstop layout capture /dev/sda -o layout.toml")]
    Capture {
        /// A block device or a plain file
        disk: PathBuf,
        /// Where to [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Also what makes this disk itself: its GUIDs and the UUIDs of its filesystems
        #[arg(long)]
        exact: bool,
    },
    /// Make a disk look as a layout says; what is right already is left alone
    #[command(after_help = "Examples:
  pitstop layout apply layout.toml /dev/sdb --dry-run
  pitstop layout apply layout.toml /dev/sdb")]
    Apply {
        /// The layout
        file: PathBuf,
        /// A block device or a plain file
        disk: PathBuf,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Make a layout of KA's `linux 4000` lines
    #[command(after_help = "Example:\n  pitstop layout import desc -o layout.toml")]
    Import {
        /// The description
        file: PathBuf,
        /// Where to [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Capture {
            disk,
            output,
            exact,
        } => write(&capture(disk, *exact)?, output.as_deref()),
        Command::Import { file, output } => {
            let layout =
                import(&read(file)?).with_context(|| format!("importing {}", file.display()))?;
            write(&layout, output.as_deref())
        }
        Command::Apply {
            file,
            disk,
            dry_run,
        } => make(file, disk, *dry_run),
    }
}

fn make(file: &Path, disk: &Path, dry_run: bool) -> anyhow::Result<()> {
    let layout = Layout::parse(&read(file)?).with_context(|| file.display().to_string())?;
    let changes = compare(&layout, disk)?;
    let reporter = reporter();
    let (shown, from) = (disk.display(), file.display());
    if changes.is_empty() {
        reporter.info(format!("{shown} is as {from} says already"));
        return Ok(());
    }
    if dry_run {
        let table = if changes.table {
            "a new table; everything on it is lost"
        } else {
            "its table is right"
        };
        reporter.info(format!(
            "{shown}: {table}; filesystems to be made on partitions {:?}",
            changes.filesystems
        ));
        return Ok(());
    }
    apply(&changes, disk, &reporter)?;
    reporter.info(format!("{shown} is as {from} says"));
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn write(layout: &Layout, output: Option<&Path>) -> anyhow::Result<()> {
    let text = layout.to_toml()?;
    match output {
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .context("writing to standard output"),
        Some(path) if path.exists() && !is_stream(path) => {
            bail!("{} is there already: remove it first", path.display())
        }
        Some(path) => fs::write(path, text).with_context(|| format!("writing {}", path.display())),
    }
}
