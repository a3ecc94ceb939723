//! `pitstop host set`: a job becomes a host file, checked before a machine sees it.

use super::Root;
use super::confirm;
use super::many::Many;
use super::order::Order as Words;
use super::origin::Origin;
use super::sign::Sign;
use super::who::who;
use crate::job_options::{JobOptions, Which};
use crate::power;
use anyhow::{Context, bail};
use pitstop_api::{JobPower, Order};
use pitstop_protocol::job::{ActionName, JobOption};
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
  pitstop host set @lab3 restore --from lab3-01 --follow
  pitstop host set lab3-01 lab3-07 backup --image '{hostname}'
  pitstop host set --all rescue", override_usage = USAGE)]
pub struct Args {
    #[command(flatten)]
    order: Words,
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
    pub many: Many,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    sign: Sign,
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
            terms: self.sign.wished(),
            from: self.origin.wished(),
            follows: None,
        }
    }
}

impl Args {
    /// The same as a server elsewhere is asked for it.
    ///
    /// # Errors
    /// Something that is said of this computer's files.
    pub fn order(&self) -> anyhow::Result<Order> {
        if self.url.is_some() {
            bail!("--url is of files here: the server that --server names knows its own URL");
        }
        if self.sign.wished().is_some() {
            bail!(
                "--sign is of files here: sign where the root is, or put the file and its .minisig there yourself"
            );
        }
        let values = self.job.table().into_iter();
        let values = values.map(|(key, value)| Ok((key, serde_json::to_value(value)?)));
        let job: Result<_, serde_json::Error> = values.collect();
        Ok(Order {
            machines: self
                .order
                .machines
                .iter()
                .map(ToString::to_string)
                .collect(),
            action: self.order.action.to_string(),
            at: self.many.at.map(|at| at.to_string()),
            every: self.many.every.clone(),
            slots: self.many.slots,
            order: Some(self.many.order),
            power: self.power.of_job().map(|power| match power {
                JobPower::Cycle => "cycle".to_owned(),
                JobPower::On => "on".to_owned(),
            }),
            from: self.origin.from(),
            follow: self.origin.follow,
            force: self.force,
            dry_run: false,
            job: job.context("putting the job into JSON")?,
        })
    }

    pub fn action(&self) -> ActionName {
        self.order.action
    }
}

/// Writes the host files. Returns what will happen, for people, and what is to be switched when they have been told.
pub fn run(args: &Args) -> anyhow::Result<(String, After)> {
    let hosts = args.root.hosts()?;
    let wish = args.wish().with_origin(&args.root.path)?;
    let mut prepared = set::prepare(&args.root.path, &hosts, &wish)?;
    args.sign.show(&prepared)?;
    confirm::ask(&args.many, wish.action, &prepared.plan()?)?;
    args.sign.sign(&mut prepared)?;
    let set = prepared.set()?;
    Ok((set.text, set.after))
}

#[cfg(test)]
mod tests;
