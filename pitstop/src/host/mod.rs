//! Machines' jobs: plain host files under the server's root.

pub mod batch;
pub mod confirm;
mod image;
mod many;
mod order;
mod root;
mod set;
pub mod target;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Timestamp;
use pitstop_jobs::{Happened, State};
use pitstop_server::host_files::remove;
use pitstop_server::jobs::Store;
use pitstop_server::list::{self, jobs};
pub use root::Root;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use target::{Need, Target, Who, targets};

const EXAMPLES: &str = "\
Examples:
  pitstop host set 192.168.1.50 backup
  pitstop host set 52:54:00:12:34:56 restore --image 192.168.1.50 --disk serial=S4EVNX0M123456
  pitstop host list
  pitstop host clear 192.168.1.50
  pitstop host set @lab3 restore
  pitstop host set lab3-01 lab3-07 restore";

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
    #[command(
        after_help = "Examples:\n  pitstop host list --json\n  pitstop host list @lab3 192.168.1.50"
    )]
    List {
        /// Only these machines: IP or MAC address, UUID, or of fleet.toml: a name, @GROUP, network, pattern
        #[arg(value_name = "SELECTOR")]
        machines: Vec<Who>,
        /// Only machines of fleet.toml
        #[arg(long, conflicts_with = "machines")]
        all: bool,
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Drop a machine's job: it boots from its disk again
    #[command(
        after_help = "Examples:\n  pitstop host clear 192.168.1.50\n  pitstop host clear lab3-01 lab3-07"
    )]
    Clear {
        /// IP or MAC address, UUID, or of fleet.toml: a name, @GROUP, network, pattern; one or several
        #[arg(value_name = "SELECTOR", required_unless_present = "all")]
        machines: Vec<Who>,
        /// Every machine of fleet.toml
        #[arg(long, conflicts_with = "machines")]
        all: bool,
        #[command(flatten)]
        root: Root,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Set(args) => {
            let (answer, after) = set::run(args)?;
            say(&answer)?;
            after.switch()
        }
        Command::List {
            machines,
            all,
            root,
            json,
        } => {
            let mut jobs = jobs(&root.hosts()?)?;
            let machines = named(machines, *all);
            if !machines.is_empty() {
                let targets = targets(root, &machines, Need::Names)?;
                let files: HashSet<String> = targets.iter().flat_map(Target::files).collect();
                jobs.retain(|job| files.contains(&job.file));
            }
            say(&if *json {
                list::json(&jobs)?
            } else {
                list::table(&jobs)
            })
        }
        Command::Clear {
            machines,
            all,
            root,
        } => clear(&named(machines, *all), root),
    }
}

/// The machines of a command line; clap has it that those and `--all` are not both there.
fn named(machines: &[Who], all: bool) -> Vec<Who> {
    if all {
        vec![Who::all()]
    } else {
        machines.to_vec()
    }
}

fn clear(machines: &[Who], root: &Root) -> anyhow::Result<()> {
    let folder = root.path.join("hosts");
    let hosts = root.hosts()?;
    let targets = targets(root, machines, Need::Names)?;
    let store = Store::at(&root.path);
    let by = batch::who();
    let mut cleared = String::new();
    for target in &targets {
        let files = target.files();
        let mut tracked = String::new();
        let locked = store.lock()?;
        let mut jobs = locked.all()?.jobs;
        jobs.retain(|job| job.state.is_set() && files.contains(&job.host_file));
        for job in &jobs {
            let what = Happened::Cancelled { by: by.clone() };
            locked.change(&job.id, &what, Timestamp::now())?;
            // Writing to a String cannot fail.
            let _ = write!(tracked, "; job {} is cancelled", job.id);
            if job.state == State::Running {
                tracked.push_str(", but is at work and goes on to its end");
            }
        }
        let mut found = !jobs.is_empty();
        for file in files {
            found |= remove(&hosts, &file)
                .with_context(|| format!("removing {}", folder.join(&file).display()))?;
        }
        if found {
            let _ = writeln!(
                cleared,
                "{target} has no job any more: it boots from its own disk{tracked}"
            );
        }
    }
    if cleared.is_empty() {
        match &targets[..] {
            [target] => bail!(
                "{target} has no job: there is no {}",
                folder.join(target.machine.file()).display()
            ),
            targets => bail!("none of these {} machines has a job", targets.len()),
        }
    }
    say(&cleared)
}

/// Says it on standard output, where a closed pipe is an error like any other.
pub fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
