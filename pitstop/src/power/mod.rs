//! `pitstop power`: machines are switched, and asked about.

mod after;
mod words;

use crate::ask::agrees;
use crate::host::Root;
pub use after::{Order, switch};
use anyhow::{Context, bail};
use pitstop_power::{Act, Credentials, PowerError, State, Switch, each};
use pitstop_server::set::{refuse_act, switches};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

const EXAMPLES: &str = "\
Examples:
  pitstop power lab3-01 status
  pitstop power @lab3 on
  pitstop power lab3-01 lab3-07 cycle --yes
  pitstop power 52:54:00:12:34:56 on

How each machine is switched is the key power in fleet.toml; users and passwords of BMCs are in credentials.toml.";

/// clap would write `<SELECTOR> <ACT>...`.
const USAGE: &str = "pitstop power [OPTIONS] <SELECTOR>... <on|off|cycle|status|pxe>
       pitstop power [OPTIONS] --all <on|off|cycle|status|pxe>";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
pub struct Args {
    #[command(flatten)]
    pub words: words::Words,
    #[command(flatten)]
    root: Root,
    /// Do not ask, whatever is switched
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Switch machines off though they are at work
    #[arg(long)]
    pub force: bool,
    /// An array of objects, for programs
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let act = args.words.act;
    let switches = switches(&args.root.path, &args.words.machines)?;
    if !args.force {
        refuse_act(&args.root.path, &args.words.machines, act)?;
    }
    let credentials = Credentials::read(&args.root.path)?;
    if switches.len() > 1 && act != Act::Status && !args.yes && std::io::stdin().is_terminal() {
        ask(&switches, act)?;
    }
    let mut shown = vec![serde_json::Value::Null; switches.len()];
    let failed = work(
        &switches,
        |switch| switch.power.act(act, &switch.target, &credentials),
        |at, switch, result| {
            if args.json {
                shown[at] = json!({
                    "name": switch.target.name,
                    "act": act.name(),
                    "power": result.as_ref().ok().map(|state| state.name()),
                    "error": result.as_ref().err().map(ToString::to_string),
                });
                return Ok(());
            }
            match result {
                Ok(state) => say(&format!("{}  {}\n", switch.target.name, told(act, *state))),
                Err(error) => {
                    eprintln!("pitstop: {}: {error}", switch.target.name);
                    Ok(())
                }
            }
        },
    )?;
    if args.json {
        say(&(serde_json::to_string_pretty(&shown).context("writing JSON")? + "\n"))?;
    }
    failures(&failed, switches.len())
}

/// What came of it, for people.
pub fn told(act: Act, state: State) -> String {
    match (act, state) {
        (Act::Pxe, _) => "boots from the network next".into(),
        (Act::On, State::Unknown) => {
            "is sent a magic packet: nothing tells whether it wakes".into()
        }
        (_, state) => state.to_string(),
    }
}

/// Does `work` with each, and tells `done` of each. Returns the names of those that failed.
fn work(
    switches: &[Switch],
    work: impl Fn(&Switch) -> Result<State, PowerError> + Sync,
    mut done: impl FnMut(usize, &Switch, &Result<State, PowerError>) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let mut failed = Vec::new();
    let mut told = Ok(());
    each(switches, work, |at, result| {
        let Some(switch) = switches.get(at) else {
            return;
        };
        if result.is_err() {
            failed.push((at, switch.target.name.clone()));
        }
        // Who does not listen any more has machines switched all the same.
        if told.is_ok() {
            told = done(at, switch, &result);
        }
    });
    told?;
    failed.sort();
    Ok(failed.into_iter().map(|(_, name)| name).collect())
}

pub fn failures(failed: &[String], of: usize) -> anyhow::Result<()> {
    match failed {
        [] => Ok(()),
        [one] if of == 1 => bail!("{one} was not switched"),
        failed => bail!("{} of {of} failed: {}", failed.len(), failed.join(", ")),
    }
}

/// Shows what will be switched, and asks whoever sits at the terminal.
fn ask(switches: &[Switch], act: Act) -> anyhow::Result<()> {
    let width = switches.iter().map(|switch| switch.target.name.len()).max();
    let width = width.unwrap_or_default();
    let mut table = String::new();
    for switch in switches {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "  {:width$}  {}", switch.target.name, switch.power);
    }
    let question = format!("{table}Switch these {} machines: {act}?", switches.len());
    if !agrees(&question)? {
        bail!("nothing was switched");
    }
    Ok(())
}

/// Says it on standard output, where a closed pipe is an error like any other.
fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
