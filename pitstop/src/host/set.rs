//! `pitstop host set`: a job becomes a host file, checked before a machine sees it.

use super::Root;
use super::confirm;
use super::many::Many;
use super::order::Order;
use super::who::who;
use crate::job_options::{JobOptions, Which};
use crate::power;
use pitstop_protocol::job::JobOption;
use pitstop_server::set::{self, After, LAYOUT, Wish};
use pitstop_server::valid_url;

/// clap would write `<SELECTOR> <ACTION>...`.
const USAGE: &str = "pitstop host set [OPTIONS] <SELECTOR>... <ACTION>
       pitstop host set [OPTIONS] --all <ACTION>";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop host set 192.168.1.50 backup
  pitstop host set 192.168.1.50 restore --disk serial=S4EVNX0M123456 --verify
  pitstop host set 52:54:00:12:34:56 restore --image 192.168.1.50 --new-ids
  pitstop host set 192.168.1.50 wipe --disk sda --method discard
  pitstop host set 192.168.1.50 rescue
  pitstop host set @lab3 restore
  pitstop host set lab3-01 lab3-07 backup --image '{hostname}'
  pitstop host set --all rescue", override_usage = USAGE)]
pub struct Args {
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    job: JobOptions<OfJob>,
    /// The server, if it is not the one that serves the root now
    #[arg(long, value_name = "URL", value_parser = valid_url)]
    url: Option<String>,
    /// Switch the machines when their jobs are set, and have them boot from the network: see pitstop power
    #[arg(long, value_enum, value_name = "cycle|on|none", default_value = "none")]
    power: power::Order,
    /// Set the job even if it looks as if it will fail
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    many: Many,
}

/// Every option of a job.
struct OfJob;

impl Which for OfJob {
    fn has(_option: &JobOption) -> bool {
        true
    }

    fn preset(option: &JobOption) -> Option<&'static str> {
        match option.key {
            "share" => Some("the one of the server"),
            "layout" => Some(LAYOUT),
            _ => None,
        }
    }
}

impl Args {
    /// What the command line says, for the server that does it.
    fn wish(&self) -> Wish {
        Wish {
            machines: self.order.machines.clone(),
            action: self.order.action,
            given: self.job.table(),
            url: self.url.clone(),
            power: self.power.of_job(),
            force: self.force,
            many: self.many.wished(),
            by: who(),
        }
    }
}

/// Writes the host files. Returns what will happen, for people, and what is to be switched when they have been told.
pub fn run(args: &Args) -> anyhow::Result<(String, After)> {
    let hosts = args.root.hosts()?;
    let wish = args.wish();
    let prepared = set::prepare(&args.root.path, &hosts, &wish)?;
    confirm::ask(&args.many, wish.action, &prepared.plan()?)?;
    let set = prepared.set()?;
    Ok((set.text, set.after))
}

#[cfg(test)]
mod tests;
