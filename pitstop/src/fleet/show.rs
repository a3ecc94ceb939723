//! Machines and settings, for people and for programs.

use anyhow::Context;
use pitstop_fleet::{Fleet, Machine};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A line a machine.
pub fn list(fleet: &Fleet, machines: &[&Machine]) -> String {
    if machines.is_empty() {
        return format!("{} has no machines yet\n", fleet.file);
    }
    let rows: Vec<[String; 4]> = machines
        .iter()
        .map(|machine| {
            [
                machine.name.clone(),
                machine.ip.map_or_else(|| "-".into(), |ip| ip.to_string()),
                machine
                    .macs
                    .first()
                    .map_or_else(|| "-".into(), ToString::to_string)
                    + if machine.macs.len() > 1 { " …" } else { "" },
                groups(fleet, machine).join(", "),
            ]
        })
        .collect();
    let titles = ["NAME", "ADDRESS", "MAC", "GROUPS"].map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&titles]);
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (name, ip, mac) = (width(0), width(1), width(2));
    let mut table = String::new();
    for row in std::iter::once(&titles).chain(&rows) {
        let line = format!(
            "{:name$}  {:ip$}  {:mac$}  {}",
            row[0], row[1], row[2], row[3]
        );
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

pub fn list_json(fleet: &Fleet, machines: &[&Machine]) -> anyhow::Result<String> {
    let machines: Vec<Value> = machines
        .iter()
        .map(|machine| identity(fleet, machine))
        .collect();
    written(&Value::Array(machines))
}

fn written(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("writing JSON")? + "\n")
}

fn groups<'a>(fleet: &'a Fleet, machine: &Machine) -> Vec<&'a str> {
    let groups = machine.groups.iter();
    groups
        .filter_map(|at| fleet.groups.get(*at))
        .map(|group| group.name.as_str())
        .collect()
}

fn network(fleet: &Fleet, machine: &Machine) -> Option<String> {
    let network = fleet.networks.get(machine.network?)?;
    Some(network.net.to_string())
}

fn identity(fleet: &Fleet, machine: &Machine) -> Value {
    json!({
        "name": machine.name,
        "mac": machine.macs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ip": machine.ip.map(|ip| ip.to_string()),
        "uuid": machine.uuid.map(|uuid| uuid.to_string()),
        "serial": machine.serial,
        "groups": groups(fleet, machine),
        "network": network(fleet, machine),
        "line": machine.line,
    })
}

/// All that holds for a machine.
pub fn machine(fleet: &Fleet, machine: &Machine) -> String {
    let mut text = format!("{}\n", machine.name);
    let settings = fleet.settings(machine);
    let rows: Vec<[String; 2]> = settings
        .iter()
        .map(|(key, setting)| {
            [
                format!("{key} = {}", setting.shown(key)),
                format!("{}, line {}", setting.layer, setting.line),
            ]
        })
        .collect();
    let width = rows
        .iter()
        .map(|row| row[0].chars().count())
        .max()
        .unwrap_or(0);
    for [setting, layer] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {setting:width$}  {layer}");
    }
    let groups = groups(fleet, machine);
    if !groups.is_empty() {
        let _ = writeln!(text, "  in the groups {}", groups.join(", "));
    }
    text
}

/// An object of one machine; of what may be several an array, however many there are.
pub fn machines_json(
    fleet: &Fleet,
    machines: &[&Machine],
    several: bool,
) -> anyhow::Result<String> {
    let shown = machines.iter().map(|machine| machine_json(fleet, machine));
    written_json(shown.collect(), several)
}

/// One value, or an array of what may be several.
pub fn written_json(mut shown: Vec<Value>, several: bool) -> anyhow::Result<String> {
    match (shown.pop(), several) {
        (Some(one), false) => written(&one),
        (last, _) => {
            shown.extend(last);
            written(&Value::Array(shown))
        }
    }
}

fn machine_json(fleet: &Fleet, machine: &Machine) -> Value {
    let mut settings = Map::new();
    for (key, setting) in fleet.settings(machine) {
        settings.insert(
            key.to_owned(),
            json!({
                "value": setting.shown(key),
                "layer": setting.layer.to_string(),
                "line": setting.line,
            }),
        );
    }
    let mut shown = identity(fleet, machine);
    if let Some(object) = shown.as_object_mut() {
        object.insert("settings".into(), Value::Object(settings));
    }
    shown
}
