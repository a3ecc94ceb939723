//! `pitstop fleet`: the machines of a lab from one file.

mod change;
mod file;
mod files;
mod generate;
mod import;
mod install;
pub mod show;
mod unknown;

use crate::host::Root;
use anyhow::Context;
use clap::Subcommand;
pub use file::FleetFile;
use files::Files;
use pitstop_fleet::Selector;
use pitstop_server::jobs::{Store, moved};
use pitstop_server::view::{identity, with_settings};
use serde_json::json;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  pitstop fleet set 192.168.1.0/24 router=192.168.1.1 dns=192.168.1.1
  pitstop fleet add 'lab3-[01-40]' --mac '52:54:00:00:01:[01-40]' --ip '192.168.1.[101-140]'
  pitstop fleet set @lab3 'match=lab3-*' image=golden-lab3
  pitstop fleet check
  pitstop fleet list @lab3
  pitstop fleet show lab3-07
  pitstop fleet import /etc/dhcp/dhcpd.conf --from dhcpd
  pitstop fleet generate dnsmasq --install --reload

The file is fleet.toml in the root: edit it by hand as you like.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Say what is wrong with fleet.toml, with its lines
    #[command(after_help = "Example:\n  pitstop fleet check --root /srv/pitstop")]
    Check {
        #[command(flatten)]
        root: Root,
        /// An array of problems, for programs
        #[arg(long)]
        json: bool,
    },
    /// List machines
    #[command(
        after_help = "Examples:\n  pitstop fleet list\n  pitstop fleet list @lab3 192.168.1.0/24 --json"
    )]
    List {
        #[command(flatten)]
        selection: Selection,
        /// Machines that the file does not know, and that were sent to say what they are ([server] unknown = "enroll")
        #[arg(long, conflicts_with_all = ["words", "all"])]
        unknown: bool,
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show what holds for a machine, each setting with the layer and the line that gave it
    #[command(
        after_help = "Examples:\n  pitstop fleet show lab3-07\n  pitstop fleet show @lab3 --json"
    )]
    Show {
        /// A name, an address or a MAC, or what may be several: @GROUP, a network, a pattern
        #[arg(value_name = "NAME")]
        machine: String,
        #[command(flatten)]
        root: Root,
        /// The files of its layers on the share, each with the layer that gave it
        #[arg(long)]
        files: bool,
        /// An object, of what may be several an array of them, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give a machine that waits for one a name
    Adopt(unknown::Adopt),
    /// Add a machine, or a range of them
    Add(change::Add),
    /// Change keys of a machine, a group, a network, an address or of all
    Set(change::Set),
    /// Drop machines
    Remove(change::Remove),
    /// Add the machines of another program's file
    Import(import::Args),
    /// Make the configuration of another server
    Generate(generate::Args),
}

/// Which machines are meant.
#[derive(clap::Args)]
pub struct Selection {
    /// Names, addresses, MACs, @GROUP, networks (192.168.1.0/24), patterns (lab3-*) [default: all]
    #[arg(value_name = "SELECTOR")]
    pub words: Vec<String>,
    /// Every machine
    #[arg(long, conflicts_with = "words")]
    all: bool,
}

impl Selection {
    /// The machines of `fleet` that are meant.
    fn of<'a>(
        &self,
        fleet: &'a pitstop_fleet::Fleet,
    ) -> anyhow::Result<Vec<&'a pitstop_fleet::Machine>> {
        if self.words.is_empty() {
            return Ok(fleet.machines.iter().collect());
        }
        let selectors = chosen(&self.words)?;
        fleet
            .select(&selectors)
            .with_context(|| format!("looking in {}", fleet.file))
    }
}

/// What words name: an empty one, as of a variable that is not set, names nothing.
fn chosen<S: AsRef<str>>(words: &[S]) -> anyhow::Result<Vec<Selector>> {
    let selectors = pitstop_fleet::selectors(words);
    anyhow::ensure!(!selectors.is_empty(), "\"\" names no machine");
    Ok(selectors)
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Check { root, json } => check(root, *json),
        Command::List {
            selection,
            unknown,
            root,
            json,
        } => {
            if *unknown {
                return unknown::list(root, *json);
            }
            let fleet = FleetFile::at(root).read()?;
            let machines = selection.of(&fleet)?;
            let machines: Vec<_> = machines
                .into_iter()
                .map(|machine| identity(&fleet, machine))
                .collect();
            say(&if *json {
                show::list_json(&machines)?
            } else {
                show::list(&fleet.file, &machines)
            })
        }
        Command::Show {
            machine,
            root,
            files,
            json,
        } => say(&shown(machine, root, *files, *json)?),
        Command::Adopt(args) => say(&unknown::adopt(args)?),
        Command::Add(args) => say(&change::add(args)?),
        Command::Set(args) => {
            say(&change::set(args)?)?;
            warn_of_jobs(&args.root);
            Ok(())
        }
        Command::Remove(args) => {
            say(&change::remove(args)?)?;
            warn_of_jobs(&args.root);
            Ok(())
        }
        Command::Import(args) => say(&import::run(args)?),
        Command::Generate(args) => say(&generate::run(args)?),
    }
}

fn shown(machine: &str, root: &Root, files: bool, json: bool) -> anyhow::Result<String> {
    let fleet = FleetFile::at(root).read()?;
    let selectors = chosen(&[machine])?;
    let machines = fleet.select(&selectors)?;
    let several = selectors.len() != 1 || selectors.iter().any(Selector::is_of_several);
    if !files {
        let shown = machines.into_iter().map(|one| with_settings(&fleet, one));
        let shown: Vec<_> = shown.collect();
        return if json {
            show::machines_json(&shown, several)
        } else {
            Ok(shown.iter().map(show::machine).collect())
        };
    }
    let mut layers = Files::at(root)?;
    let mut text = String::new();
    let mut values = Vec::new();
    for machine in machines {
        let laid = layers.of(&fleet, machine)?;
        if json {
            values.push(json!({ "name": machine.name, "files": files::value(&laid) }));
        } else {
            text.push_str(&files::text(machine, &laid));
        }
    }
    if json {
        show::written_json(values, several)
    } else {
        Ok(text)
    }
}

fn check(root: &Root, json: bool) -> anyhow::Result<()> {
    let file = &FleetFile::at(root);
    let bytes = file.bytes()?;
    let fleet = match file.parse(&bytes) {
        Ok(fleet) => fleet,
        Err(bad) => {
            if json {
                let text = serde_json::to_string_pretty(&bad.problems).context("writing JSON")?;
                say(&(text + "\n"))?;
            }
            return Err(bad.into());
        }
    };
    for what in Files::at(root)?.check(&fleet)? {
        eprintln!("pitstop: warning: {what}");
    }
    for problem in fleet.shared_bmcs() {
        eprintln!("pitstop: warning: {}", problem.in_file(&fleet.file));
    }
    warn_of_jobs(root);
    say(&if json {
        "[]\n".into()
    } else {
        format!(
            "{}: {}, {}, {}: all is well\n",
            fleet.file,
            counted(fleet.machines.len(), "machine"),
            counted(fleet.networks.len(), "network"),
            counted(fleet.groups.len(), "group")
        )
    })
}

/// Tells of jobs that wait where their machine is not any more. The file is right, and written, whatever hinders the look at them.
fn warn_of_jobs(root: &Root) {
    let lines = moved_jobs(root)
        .unwrap_or_else(|error| vec![format!("jobs under old addresses are not told: {error:#}")]);
    for line in lines {
        eprintln!("pitstop: warning: {line}");
    }
}

fn moved_jobs(root: &Root) -> anyhow::Result<Vec<String>> {
    let jobs = Store::at(&root.path).all()?.jobs;
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(moved(&FleetFile::at(root).read()?, &jobs, &root.hosts()?))
}

/// `1 machine`, `2 machines`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Says it on standard output, where a closed pipe is an error like any other.
fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
