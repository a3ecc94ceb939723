//! Machines' jobs: plain host files under the server's root.

mod image;
mod root;
mod set;

use anyhow::{Context, bail};
use cap_std::fs::Dir;
use clap::Subcommand;
use pitstop_server::list::{self, jobs};
use pitstop_server::machine::MachineName;
use pitstop_server::write::remove;
pub use root::Root;
use std::io::Write;
use std::path::Path;

const EXAMPLES: &str = "\
Examples:
  pitstop host set 192.168.1.50 backup
  pitstop host set 52:54:00:12:34:56 restore --image 192.168.1.50 --disk serial=S4EVNX0M123456
  pitstop host list
  pitstop host clear 192.168.1.50";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Give a machine a job for its next network boot
    Set(Box<set::Args>),
    /// List machines with jobs
    #[command(after_help = "Example:\n  pitstop host list --json")]
    List {
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Drop a machine's job: it boots from its disk again
    #[command(after_help = "Example:\n  pitstop host clear 192.168.1.50")]
    Clear {
        /// The machine's IP or MAC address, or its UUID
        #[arg(value_name = "IP|MAC|UUID")]
        machine: MachineName,
        #[command(flatten)]
        root: Root,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Set(args) => say(&set::run(args)?),
        Command::List { root, json } => {
            let jobs = jobs(&root.hosts()?)?;
            say(&if *json {
                list::json(&jobs)?
            } else {
                list::table(&jobs)
            })
        }
        Command::Clear { machine, root } => clear(machine, &root.path, &root.hosts()?),
    }
}

fn clear(machine: &MachineName, root: &Path, hosts: &Dir) -> anyhow::Result<()> {
    let folder = root.join("hosts");
    let mut found = false;
    for file in machine.files() {
        found |= remove(hosts, &file)
            .with_context(|| format!("removing {}", folder.join(&file).display()))?;
    }
    if !found {
        let path = folder.join(machine.file());
        bail!("{machine} has no job: there is no {}", path.display());
    }
    say(&format!(
        "{machine} has no job any more: it boots from its own disk\n"
    ))
}

/// Says it on standard output, where a closed pipe is an error like any other.
fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
