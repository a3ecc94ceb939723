//! The fleet file.

use crate::refusal::Refusal;
use crate::site::Site;
use axum::http::StatusCode;
use pitstop_api::{FleetGroup, FleetMachine, FleetNetwork, FleetView, Setting, Wrong};
use pitstop_fleet::{Fleet, Machine, selectors};

/// The whole file; of machines those that are meant, all where nothing is named.
pub fn fleet(site: &Site, words: &[String]) -> Result<FleetView, Refusal> {
    let fleet = site.fleet.current();
    let machines: Vec<&Machine> = if words.is_empty() {
        fleet.machines.iter().collect()
    } else {
        chosen(&fleet, words)?
    };
    let in_group = |at: usize| {
        let machines = fleet.machines.iter();
        machines
            .filter(|machine| machine.groups.contains(&at))
            .count()
    };
    let in_network = |at: usize| {
        let machines = fleet.machines.iter();
        machines
            .filter(|machine| machine.network == Some(at))
            .count()
    };
    Ok(FleetView {
        file: fleet.file.clone(),
        wrong: wrong(site),
        machines: machines
            .into_iter()
            .map(|one| identity(&fleet, one))
            .collect(),
        groups: fleet
            .groups
            .iter()
            .enumerate()
            .map(|(at, group)| FleetGroup {
                name: group.name.clone(),
                line: group.line,
                slots: group.slots,
                machines: in_group(at),
            })
            .collect(),
        networks: fleet
            .networks
            .iter()
            .enumerate()
            .map(|(at, network)| FleetNetwork {
                net: network.net.to_string(),
                line: network.line,
                router: network.router.map(|router| router.to_string()),
                domain: network.domain.clone(),
                machines: in_network(at),
            })
            .collect(),
    })
}

/// What is wrong with the file.
pub fn wrong(site: &Site) -> Option<Wrong> {
    site.fleet.wrong().map(|wrong| Wrong {
        why: wrong.why,
        meanwhile: wrong.meanwhile.to_owned(),
    })
}

fn chosen<'a>(fleet: &'a Fleet, words: &[String]) -> Result<Vec<&'a Machine>, Refusal> {
    let found = fleet.select(&selectors(words));
    found.map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))
}

/// One machine, or several, with all that holds for them.
pub fn fleet_machine(site: &Site, word: &str) -> Result<Vec<FleetMachine>, Refusal> {
    let fleet = site.fleet.current();
    let machines = chosen(&fleet, &[word.to_owned()])?.into_iter();
    Ok(machines
        .map(|machine| with_settings(&fleet, machine))
        .collect())
}

/// What a machine is known by, without its settings.
pub fn identity(fleet: &Fleet, machine: &Machine) -> FleetMachine {
    let network = machine.network.and_then(|at| fleet.networks.get(at));
    let groups = machine.groups.iter().filter_map(|at| fleet.groups.get(*at));
    FleetMachine {
        name: machine.name.clone(),
        mac: machine.macs.iter().map(ToString::to_string).collect(),
        ip: machine.ip.map(|ip| ip.to_string()),
        uuid: machine.uuid.map(|uuid| uuid.to_string()),
        serial: machine.serial.clone(),
        groups: groups.map(|group| group.name.clone()).collect(),
        network: network.map(|network| network.net.to_string()),
        line: machine.line,
        settings: None,
    }
}

/// The same with all that holds for it, each value with the layer and the line that gave it.
pub fn with_settings(fleet: &Fleet, machine: &Machine) -> FleetMachine {
    let settings = fleet.settings(machine).into_iter();
    let settings = settings.map(|(key, setting)| {
        let value = Setting {
            // What TOML says JSON can say too: of its times the text.
            value: serde_json::to_value(setting.shown(key)).unwrap_or_default(),
            layer: setting.layer.to_string(),
            line: setting.line,
        };
        (key.to_owned(), value)
    });
    FleetMachine {
        settings: Some(settings.collect()),
        ..identity(fleet, machine)
    }
}
