//! Machines' jobs: plain host files under the server's root.

pub mod confirm;
mod many;
mod node;
mod order;
mod origin;
mod root;
pub mod set;
mod sign;
mod who;

use crate::power;
use anyhow::Context;
use clap::Subcommand;
use pitstop_server::list;
use pitstop_server::set::{self as set_jobs, Who};
pub use root::Root;
use std::ffi::OsString;
use std::io::Write as _;
pub use who::who;

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
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
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
    /// Print what a machine says in its run, now or last
    #[command(
        after_help = "Examples:\n  pitstop host log lab3-01\n  pitstop host log 192.168.1.50 -f"
    )]
    Log {
        /// IP or MAC address, UUID, or its name in fleet.toml
        #[arg(value_name = "NAME")]
        machine: Who,
        #[command(flatten)]
        root: Root,
        /// Go on with what comes, until the run is over
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Run a command on a machine that is in rescue
    #[command(
        after_help = "Examples:\n  pitstop host run lab3-01 -- smartctl -a /dev/sda\n  pitstop host run lab3-01 -- 'dmesg | tail'"
    )]
    Run {
        /// IP or MAC address, UUID, or its name in fleet.toml
        #[arg(value_name = "NAME")]
        machine: Who,
        #[command(flatten)]
        reach: node::Reach,
        /// A program and its arguments; or one word, a line for the shell
        #[arg(value_name = "CMD", last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Open a shell on a machine that is in rescue
    #[command(
        after_help = "Examples:\n  pitstop host shell lab3-01\n  pitstop host shell lab3-01 -i ~/.ssh/lab"
    )]
    Shell {
        /// IP or MAC address, UUID, or its name in fleet.toml
        #[arg(value_name = "NAME")]
        machine: Who,
        #[command(flatten)]
        reach: node::Reach,
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
            power::switch(&after)
        }
        Command::List {
            machines,
            all,
            root,
            json,
        } => {
            let machines = named(machines, *all);
            let jobs = set_jobs::host_files(&root.path, &root.hosts()?, &machines)?;
            say(&if *json {
                list::json(&jobs)?
            } else {
                list::table(&jobs)
            })
        }
        Command::Log {
            machine,
            root,
            follow,
        } => node::log(root, machine, *follow),
        Command::Run {
            machine,
            reach,
            command,
        } => {
            exit_as(node::ssh(reach, machine, command)?);
            Ok(())
        }
        Command::Shell { machine, reach } => {
            exit_as(node::ssh(reach, machine, &[])?);
            Ok(())
        }
        Command::Clear {
            machines,
            all,
            root,
        } => clear(&named(machines, *all), root),
    }
}

/// Ends as the command on the machine did.
fn exit_as(code: i32) {
    if code != 0 {
        std::process::exit(code);
    }
}

/// The machines of a command line; clap has it that those and `--all` are not both there.
pub fn named(machines: &[Who], all: bool) -> Vec<Who> {
    if all {
        vec![Who::all()]
    } else {
        machines.to_vec()
    }
}

fn clear(machines: &[Who], root: &Root) -> anyhow::Result<()> {
    let cleared = set_jobs::clear(&root.path, &root.hosts()?, machines, &who())?;
    say(&(cleared.lines.join("\n") + "\n"))
}

/// Says it on standard output, where a closed pipe is an error like any other.
pub fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
