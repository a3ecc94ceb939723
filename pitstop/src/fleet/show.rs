//! Machines and settings, for people and for programs.

use anyhow::Context;
use pitstop_api::FleetMachine;
use serde_json::Value;
use std::fmt::Write;

/// A line a machine; `file` is the name of the fleet file.
pub fn list(file: &str, machines: &[FleetMachine]) -> String {
    if machines.is_empty() {
        return format!("{file} has no machines yet\n");
    }
    let rows: Vec<[String; 4]> = machines
        .iter()
        .map(|machine| {
            [
                machine.name.clone(),
                machine.ip.clone().unwrap_or_else(|| "-".into()),
                machine.mac.first().cloned().unwrap_or_else(|| "-".into())
                    + if machine.mac.len() > 1 { " …" } else { "" },
                machine.groups.join(", "),
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

pub fn list_json(machines: &[FleetMachine]) -> anyhow::Result<String> {
    written(&serde_json::to_value(machines).context("putting machines into JSON")?)
}

fn written(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("writing JSON")? + "\n")
}

/// All that holds for a machine.
pub fn machine(machine: &FleetMachine) -> String {
    let mut text = format!("{}\n", machine.name);
    let settings = machine.settings.iter().flatten();
    let rows: Vec<[String; 2]> = settings
        .map(|(key, setting)| {
            [
                format!("{key} = {}", in_toml(&setting.value)),
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
    if !machine.groups.is_empty() {
        let _ = writeln!(text, "  in the groups {}", machine.groups.join(", "));
    }
    text
}

/// A value as the fleet file writes it.
fn in_toml(value: &Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => value.to_string(),
        Err(_) => value.to_string(),
    }
}

/// An object of one machine; of what may be several an array, however many there are.
pub fn machines_json(machines: &[FleetMachine], several: bool) -> anyhow::Result<String> {
    let shown = machines.iter().map(serde_json::to_value);
    let shown: Result<_, _> = shown.collect();
    written_json(shown.context("putting machines into JSON")?, several)
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
