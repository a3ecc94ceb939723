//! `pitstop job`: what became of jobs that were set. Works on the files under the root, with or without a server.

mod change;
pub mod history;
mod log;
pub mod show;
pub mod wait;
mod which;

use crate::host::Root;
use clap::Subcommand;
use jiff::Timestamp;
use pitstop_imaging::units;
use pitstop_server::jobs::Which;
use pitstop_server::set::Who;
use std::time::Duration;
pub use wait::Waited;

pub use history::since;

const EXAMPLES: &str = "\
Examples:
  pitstop job list
  pitstop job wait @lab3 --timeout 2h
  pitstop job retry @lab3
  pitstop job log lab3-01 -f";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the jobs that are open, and the last one of each machine
    #[command(after_help = "Examples:\n  pitstop job list\n  pitstop job list @lab3 --json")]
    List {
        /// Only of these: jobs, or machines as in `host list`
        #[arg(value_name = "SELECTOR")]
        which: Vec<Which>,
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Say all about one job
    #[command(after_help = "Example:\n  pitstop job show 20261128-213000-3fa9c1")]
    Show {
        /// A job, or a machine for its last one
        #[arg(value_name = "ID")]
        which: Which,
        #[command(flatten)]
        root: Root,
        /// An object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Withdraw jobs that are not over: a machine that waits stops, one at work goes on to its end
    #[command(
        after_help = "Examples:\n  pitstop job cancel 20261128-213000-3fa9c1\n  pitstop job cancel @lab3"
    )]
    Cancel(Some),
    /// Set jobs again that failed or were cancelled
    #[command(after_help = "Examples:\n  pitstop job retry lab3-07\n  pitstop job retry @lab3")]
    Retry(Some),
    /// Wait until jobs are over; the exit status is 0 only if all are done and well
    #[command(
        after_help = "Examples:\n  pitstop job wait @lab3\n  pitstop job wait lab3-01 --timeout 30m"
    )]
    Wait {
        #[command(flatten)]
        some: Some,
        /// Give up after this time: 30s, 20m, 2h [default: wait for ever]
        #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Print the log of a job, or of a machine
    #[command(
        after_help = "Examples:\n  pitstop job log lab3-01\n  pitstop job log 20261128-213000-3fa9c1 -f"
    )]
    Log {
        /// A job, or a machine
        #[arg(value_name = "NAME")]
        which: Which,
        /// Go on with what is added, until the job is over
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        root: Root,
    },
    /// List what ended, oldest first
    #[command(
        after_help = "Examples:\n  pitstop job history lab3-01\n  pitstop job history --since 7d --json"
    )]
    History {
        /// Only of these: jobs, or machines as in `host list`
        #[arg(value_name = "SELECTOR")]
        which: Vec<Which>,
        /// What ended later than this: 7d, 2026-12-01, or as in `host set --at`
        #[arg(long, value_name = "TIME", value_parser = history::since)]
        since: Option<Timestamp>,
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Jobs of a command that needs some.
#[derive(clap::Args)]
pub struct Some {
    /// Jobs, or machines as in `host list`
    #[arg(value_name = "ID|SELECTOR", required_unless_present = "all")]
    which: Vec<Which>,
    /// Every machine of fleet.toml
    #[arg(long, conflicts_with = "which")]
    all: bool,
    #[command(flatten)]
    root: Root,
}

impl Some {
    pub fn which(&self) -> Vec<Which> {
        if self.all {
            vec![Which::Machine(Who::all())]
        } else {
            self.which.clone()
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::List { which, root, json } => show::list(root, which, *json),
        Command::Show { which, root, json } => show::show(root, which, *json),
        Command::Cancel(some) => change::cancel(&some.root, &some.which()),
        Command::Retry(some) => change::retry(&some.root, &some.which()),
        Command::Wait { some, timeout } => wait::wait(&some.root, &some.which(), *timeout),
        Command::Log {
            which,
            follow,
            root,
        } => log::print(root, which, *follow),
        Command::History {
            which,
            since,
            root,
            json,
        } => history::print(root, which, *since, *json),
    }
}
