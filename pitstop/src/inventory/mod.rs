//! `pitstop inventory`: what machines are, and what changed of it. Works on the files under the root, with or without a server.

mod show;

use crate::fleet::FleetFile;
use crate::host::{Root, say};
use crate::job::history::since;
use crate::remote::{Client, part};
use anyhow::{Context, anyhow, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::Subcommand;
use jiff::Timestamp;
use pitstop_api::inventory::{InventoryDiff, InventoryList, MachineInventory};
use pitstop_inventory::{Query, export};
use pitstop_server::inventory::{Inventory, Sources};
use serde::Serialize;
use std::str::FromStr;

const EXAMPLES: &str = "\
Examples:
  pitstop inventory
  pitstop inventory 'ram<8GiB disk.model~\"EVO\"'
  pitstop inventory 'disk.health=failing or last.result=failed' --json
  pitstop inventory 'group=lab3 not last.when<30d' --csv > lab3.csv
  pitstop inventory diff lab3-01 --since 2026-03-01

Fields: name group address mac uuid serial vendor model cpu cores ram disk.model disk.serial disk.size disk.health
nic.driver nic.mac nic.speed firmware secure-boot seen last.action last.result last.when, and those of docs/inventory.md.
Between conditions: a space (and), or, not, parentheses. A word alone is looked for everywhere.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Which machines [default: all]
    #[arg(value_name = "QUERY")]
    query: Option<Search>,
    /// An object, for programs
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// A line for each machine, for table programs
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    root: Root,
}

/// A search, and how it was written.
#[derive(Debug, Clone)]
struct Search {
    text: String,
    query: Query,
}

impl FromStr for Search {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let query = Query::parse(text).map_err(|error| error.pointed(text))?;
        Ok(Self {
            text: text.to_owned(),
            query,
        })
    }
}

#[derive(Subcommand)]
enum Command {
    /// Say all that is known of one machine
    #[command(
        after_help = "Examples:\n  pitstop inventory show lab3-01\n  pitstop inventory show 52:54:00:12:34:56 --json"
    )]
    Show(One),
    /// Say what changed of a machine since a time, or since it was first seen
    #[command(
        after_help = "Examples:\n  pitstop inventory diff lab3-01\n  pitstop inventory diff lab3-01 --since 2026-03-01"
    )]
    Diff {
        #[command(flatten)]
        one: One,
        /// 90d, 2026-03-01, or as in `host set --at`
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Timestamp>,
    },
    /// List when something changed of a machine, and what
    #[command(after_help = "Example:\n  pitstop inventory history lab3-01")]
    History(One),
}

#[derive(clap::Args)]
struct One {
    /// A name, an address, a MAC, a UUID or a serial number
    #[arg(value_name = "NAME")]
    name: String,
    /// An object, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    root: Root,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        None => search(args),
        Some(Command::Show(one)) => {
            let found = machine(one)?;
            told(&found, one.json, show::machine)
        }
        Some(Command::History(one)) => {
            let found = machine(one)?;
            told(&found, one.json, show::history)
        }
        Some(Command::Diff { one, since }) => {
            let files = Files::open(&one.root)?;
            let found = files
                .inventory
                .changes(&files.sources(), &one.name, *since)?;
            told(&found, one.json, show::changes)
        }
    }
}

/// The same, by a server elsewhere.
pub fn run_by(client: &Client, args: &Args) -> anyhow::Result<()> {
    let machine = |one: &One| -> anyhow::Result<MachineInventory> {
        client.get(&format!("/inventory/{}", part(&one.name)))
    };
    match &args.command {
        None => {
            let text = part(&args.search()?.text);
            let list: InventoryList = client.get(&format!("/inventory?q={text}"))?;
            listed(args, &list)
        }
        Some(Command::Show(one)) => told(&machine(one)?, one.json, show::machine),
        Some(Command::History(one)) => told(&machine(one)?, one.json, show::history),
        Some(Command::Diff { one, since }) => {
            let since = since.map(|since| format!("?since={since}"));
            let since = since.unwrap_or_default();
            let path = format!("/inventory/{}/diff{since}", part(&one.name));
            let found: InventoryDiff = client.get(&path)?;
            told(&found, one.json, show::changes)
        }
    }
}

impl Args {
    fn search(&self) -> anyhow::Result<Search> {
        match &self.query {
            Some(search) => Ok(search.clone()),
            None => Search::from_str("").map_err(|wrong| anyhow!(wrong)),
        }
    }
}

fn search(args: &Args) -> anyhow::Result<()> {
    let Search { text, query } = args.search()?;
    let files = Files::open(&args.root)?;
    let list = files.inventory.search(&files.sources(), &text, &query)?;
    listed(args, &list)
}

fn listed(args: &Args, list: &InventoryList) -> anyhow::Result<()> {
    if args.csv {
        return say(&export::csv(list));
    }
    told(list, args.json, show::list)
}

fn machine(one: &One) -> anyhow::Result<MachineInventory> {
    let files = Files::open(&one.root)?;
    files.inventory.machine(&files.sources(), &one.name)
}

fn told<T: Serialize>(value: &T, json: bool, words: fn(&T) -> String) -> anyhow::Result<()> {
    if json {
        let text = serde_json::to_string_pretty(value).context("writing JSON")?;
        return say(&(text + "\n"));
    }
    say(&words(value))
}

/// The files under a root.
struct Files<'a> {
    root: &'a Root,
    inventory: Inventory,
    fleet: pitstop_fleet::Fleet,
    share: Option<Dir>,
}

impl<'a> Files<'a> {
    fn open(root: &'a Root) -> anyhow::Result<Self> {
        if !root.path.is_dir() {
            bail!(
                "{} is no folder: is it what pitstop serve serves? (--root, PITSTOP_ROOT)",
                root.path.display()
            );
        }
        let fleet = FleetFile::at(root).read_if_there();
        let fleet = fleet.unwrap_or_else(|error| {
            eprintln!("pitstop: warning: without names and groups: {error:#}");
            None
        });
        let files = Self {
            root,
            inventory: Inventory::below(&root.path),
            fleet: fleet.unwrap_or_default(),
            share: Dir::open_ambient_dir(root.path.join("share"), ambient_authority()).ok(),
        };
        if let Err(error) = files.inventory.refresh(&files.sources()) {
            // Who may look and not write still gets to look.
            eprintln!("pitstop: warning: machines may have changed since: {error:#}");
        }
        Ok(files)
    }

    fn sources(&self) -> Sources<'_> {
        Sources::new(&self.root.path, self.share.as_ref(), &self.fleet)
    }
}
