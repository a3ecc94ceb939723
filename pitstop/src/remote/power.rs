//! `pitstop power` by a server.

use super::Client;
use crate::ask::agrees;
use crate::host::say;
use crate::power::{Args, failures, told};
use anyhow::{Context, bail};
use pitstop_api::{FleetView, PowerAct, PowerAsk, PowerResult, PowerResults};
use pitstop_power::{Act, State};
use std::io::IsTerminal;

pub fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let act = args.words.act;
    let machines: Vec<String> = args
        .words
        .machines
        .iter()
        .map(ToString::to_string)
        .collect();
    if act != Act::Status && !args.yes && std::io::stdin().is_terminal() {
        ask(client, &machines, act)?;
    }
    let act = match act {
        Act::On => PowerAct::On,
        Act::Off => PowerAct::Off,
        Act::Cycle => PowerAct::Cycle,
        Act::Status => PowerAct::Status,
        Act::Pxe => PowerAct::Pxe,
    };
    let results: PowerResults = client.post(
        "/power",
        &PowerAsk {
            machines,
            act,
            force: args.force,
        },
    )?;
    let results = results.results;
    if args.json {
        let value = serde_json::to_value(&results).context("putting the results into JSON")?;
        let text = serde_json::to_string_pretty(&value).context("writing JSON")?;
        say(&(text + "\n"))?;
    } else {
        print(&results)?;
    }
    let failed = results.iter().filter(|one| one.error.is_some());
    let failed: Vec<String> = failed.map(|one| one.name.clone()).collect();
    failures(&failed, results.len())
}

/// Which machines are meant is the server's to say; several are asked about.
fn ask(client: &Client, machines: &[String], act: Act) -> anyhow::Result<()> {
    let query = super::client::pairs("machine", machines);
    let Ok(fleet) = client.get::<FleetView>(&format!("/fleet?{query}")) else {
        // One that no fleet file knows, by its address.
        return Ok(());
    };
    if fleet.machines.len() < 2 {
        return Ok(());
    }
    let names: Vec<&str> = fleet.machines.iter().map(|one| one.name.as_str()).collect();
    let question = format!(
        "{}\nSwitch these {} machines: {act}?",
        names.join("\n"),
        names.len()
    );
    if !agrees(&question)? {
        bail!("nothing was switched");
    }
    Ok(())
}

/// A line for each. Returns whether all went well.
pub fn print(results: &[PowerResult]) -> anyhow::Result<bool> {
    for one in results {
        match (&one.power, &one.error) {
            (_, Some(error)) => eprintln!("pitstop: {}: {error}", one.name),
            (power, None) => {
                let states = [State::On, State::Off, State::Unknown];
                let is = |state: &State| Some(state.name()) == power.as_deref();
                let state = states.into_iter().find(is).unwrap_or(State::Unknown);
                let told = match one.act.parse() {
                    Ok(act) => told(act, state),
                    Err(_) => state.to_string(),
                };
                say(&format!("{}  {told}\n", one.name))?;
            }
        }
    }
    Ok(results.iter().all(|one| one.error.is_none()))
}
