//! `pitstop host` by a server.

use super::Client;
use super::client::pairs;
use crate::host::{Args, Command, confirm, named, say, set};
use anyhow::bail;
use pitstop_api::{Answer, DryRun, HostFiles};
use pitstop_server::list;

pub fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Set(args) => set_jobs(client, args),
        Command::List {
            machines,
            all,
            json,
            root: _,
        } => {
            let query = pairs("machine", &named(machines, *all));
            let found: HostFiles = client.get(&format!("/host-files?{query}"))?;
            say(&if *json {
                list::json(&found.files)?
            } else {
                list::table(&found.files)
            })
        }
        Command::Clear {
            machines,
            all,
            root: _,
        } => {
            let query = pairs("machine", &named(machines, *all));
            let answer: Answer = client.delete(&format!("/host-files?{query}"))?;
            say(&answer.text)
        }
        Command::Log { .. } => bail!(
            "host log reads files of the server: run it there; pitstop job log works from here"
        ),
        Command::Run { .. } | Command::Shell { .. } => {
            bail!("host run and host shell read files of the server: run them there")
        }
    }
}

fn set_jobs(client: &Client, args: &set::Args) -> anyhow::Result<()> {
    let mut order = args.order()?;
    // What would be done comes first: it is checked, and shown where somebody is asked.
    order.dry_run = true;
    let plan: DryRun = client.post("/jobs", &order)?;
    confirm::ask(&args.many, args.action(), &plan.machines)?;
    order.dry_run = false;
    let answer: Answer = client.post("/jobs", &order)?;
    say(&answer.text)?;
    if super::power::print(&answer.power)? {
        return Ok(());
    }
    bail!("the jobs are set, but not every machine is switched")
}
