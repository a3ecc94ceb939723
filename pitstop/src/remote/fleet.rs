//! `pitstop fleet list` and `show` by a server.

use super::Client;
use super::client::{pairs, part};
use crate::fleet::{Args, Command, show};
use crate::host::say;
use pitstop_api::{FleetMachine, FleetView};
use pitstop_fleet::{Selector, selectors};

/// `false` for what works on the file itself.
pub fn run(client: impl Fn() -> anyhow::Result<Client>, args: &Args) -> anyhow::Result<bool> {
    match &args.command {
        Command::List {
            selection,
            unknown: false,
            json,
            root: _,
        } => {
            let query = pairs("machine", &selection.words);
            let fleet: FleetView = client()?.get(&format!("/fleet?{query}"))?;
            say(&if *json {
                show::list_json(&fleet.machines)?
            } else {
                show::list(&fleet.file, &fleet.machines)
            })?;
        }
        Command::Show {
            machine,
            files: false,
            json,
            root: _,
        } => {
            let found: Vec<FleetMachine> = client()?.get(&format!("/fleet/{}", part(machine)))?;
            let words = selectors(&[machine]);
            let several = words.len() != 1 || words.iter().any(Selector::is_of_several);
            say(&if *json {
                show::machines_json(&found, several)?
            } else {
                found.iter().map(show::machine).collect()
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
