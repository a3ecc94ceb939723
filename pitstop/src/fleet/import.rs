//! `pitstop fleet import`: machines out of other programs' files. The fleet file changes in one step, or not at all.

use super::counted;
use super::file::FleetFile;
use crate::host::Root;
use anyhow::{Context, anyhow, bail};
use pitstop_fleet::LARGEST;
use pitstop_fleet::edit::Editor;
use pitstop_fleet::import::{self, From, NotTaken, Report};
use pitstop_protocol::host_name::printable;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  pitstop fleet import /etc/dhcp/dhcpd.conf --from dhcpd
  pitstop fleet import /var/lib/misc/dnsmasq.leases --from leases
  pitstop fleet import clients.conf --from clients.conf --scheme-map restore/scheme.map
  pitstop fleet import machines.csv --from csv --dry-run

Machines that are in the file already stay as they are. What cannot be taken is listed with its line.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file to read
    file: PathBuf,
    /// What it is
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    from: String,
    /// With clients.conf: the scheme.map that tells the images
    #[arg(long, value_name = "FILE")]
    scheme_map: Option<PathBuf>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    root: Root,
}

fn kinds() -> Vec<&'static str> {
    From::ALL.map(From::name).to_vec()
}

pub fn run(args: &Args) -> anyhow::Result<String> {
    let from = From::ALL
        .into_iter()
        .find(|from| from.name() == args.from)
        .ok_or_else(|| anyhow!("there is no kind {}", args.from))?;
    if args.scheme_map.is_some() && from != From::ClientsConf {
        bail!("--scheme-map goes with --from clients.conf");
    }
    let name = args.file.display();
    let mut imported =
        import::read(&text(&args.file)?, from).map_err(|what| anyhow!("{name}: {what}"))?;
    let mut left = String::new();
    if let Some(map) = &args.scheme_map {
        let not_taken = import::scheme_map(&text(map)?, &mut imported);
        left.push_str(&lines(map, &not_taken));
    }
    let file = FleetFile::at(&args.root);
    let report = file.change(|text| {
        let fleet = file.parse(text.as_bytes())?;
        let mut editor = Editor::new(text, &file.name())?;
        let report = import::take(&fleet, imported, &mut editor).map_err(|what| anyhow!(what))?;
        let has_machines = !report.added.is_empty() || !report.there.is_empty();
        let news = !report.added.is_empty() || !report.networks.is_empty();
        let changed = has_machines && news && !args.dry_run;
        let new = if changed {
            editor.text()
        } else {
            text.to_owned()
        };
        Ok((new, report))
    })?;
    left = lines(&args.file, &report.not_taken) + &left;
    eprint!("{left}");
    if report.added.is_empty() && report.there.is_empty() {
        bail!(
            "{name} has no machine that could be taken: {} stays as it is",
            file.name()
        );
    }
    Ok(summary(args, &file, &report, left.lines().count()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut bytes = Vec::new();
    // Lease files grow; nothing larger is one.
    let most = 8 * LARGEST;
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    if bytes.len() > most {
        bail!(
            "{} is larger than {} MiB: is it something else?",
            path.display(),
            most >> 20
        );
    }
    // Old files have names in old alphabets; the lines with machines are plain.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lines(file: &Path, not_taken: &[NotTaken]) -> String {
    let lines = not_taken.iter();
    lines
        .map(|left| {
            format!(
                "pitstop: not taken: {}, line {}: {}\n",
                file.display(),
                left.line,
                printable(&left.what)
            )
        })
        .collect::<Vec<_>>()
        .concat()
}

fn summary(args: &Args, file: &FleetFile, report: &Report, left: usize) -> String {
    let (fleet, name) = (file.name(), args.file.display());
    let would = if args.dry_run { " would be" } else { "" };
    let mut text = format!(
        "{} of {name}{would} added to {fleet}\n",
        counted(report.added.len(), "machine")
    );
    // Writing to a String cannot fail.
    let mut line = |words: String| {
        let _ = writeln!(text, "  {words}");
    };
    if !report.there.is_empty() {
        line(format!(
            "{} there already",
            counted(report.there.len(), "machine")
        ));
    }
    for net in &report.networks {
        line(format!("the network {net}{would} added"));
    }
    for net in &report.cut {
        line(format!(
            "the range of {net} {}cut around addresses of machines in it",
            if args.dry_run { "would be " } else { "is " }
        ));
    }
    for net in &report.guessed {
        line(format!(
            "the network {net}{would} added: its size is a guess; set its router with pitstop fleet set {net} router=…"
        ));
    }
    if left > 0 {
        line(format!("{} not taken, listed above", counted(left, "line")));
    }
    text
}
