//! `/fleet`: the fleet file as it holds: machines, groups, networks, and behind each value of a machine its layer and line.

use crate::machines::fleet_wrong;
use crate::words::{self, machine_path};
use maud::{Markup, html};
use pitstop_api::{FleetMachine, FleetView};

/// The content of the page; `one` is the machine whose settings are asked for.
pub fn content(fleet: &FleetView, one: Option<&FleetMachine>) -> Markup {
    html! {
        div class="head" {
            h1 { "Fleet" }
            p class="sub" {
                @if fleet.file.is_empty() { "There is no fleet.toml yet." }
                @else { (fleet.file) ": " (words::count(fleet.machines.len())) " machines" }
            }
        }
        div id="wrong" data-part="" { @if let Some(wrong) = &fleet.wrong { (fleet_wrong(wrong)) } }
        @if let Some(machine) = one { (settings(machine)) }
        div class="columns" {
            section class="panel" aria-labelledby="fleet-machines" {
                h2 id="fleet-machines" { "Machines" }
                div id="fleet-list" data-part="" {
                    @if fleet.machines.is_empty() {
                        p class="empty" { "None. Add " code { "[host.NAME]" } " sections, or " code { "pitstop fleet import" } " a list." }
                    } @else { div class="scroll" tabindex="0" { (machines(&fleet.machines)) } }
                }
            }
            div id="fleet-layers" data-part="" { (groups(fleet)) (networks(fleet)) }
        }
    }
}

fn machines(machines: &[FleetMachine]) -> Markup {
    html! {
        table class="cards" {
            caption class="unseen" { "Machines of the fleet file" }
            thead {
                tr {
                    th scope="col" { "Name" }
                    th scope="col" { "Address" }
                    th scope="col" { "MAC" }
                    th scope="col" { "Groups" }
                    th scope="col" class="number" { "Line" }
                    th scope="col" { "Settings" }
                }
            }
            tbody {
                @for machine in machines {
                    tr {
                        th scope="row" { a href=(machine_path(&machine.name)) { (machine.name) } }
                        td class="mono" { @if let Some(ip) = &machine.ip { (ip) } }
                        td class="mono" { (machine.mac.join(", ")) }
                        td { (machine.groups.join(", ")) }
                        td class="number" data-label="line" { (machine.line) }
                        td {
                            a href={ "/fleet?machine=" (words::component(&machine.name)) }
                                aria-label={ "Settings of " (machine.name) } { "by layer" }
                        }
                    }
                }
            }
        }
    }
}

fn settings(machine: &FleetMachine) -> Markup {
    html! {
        section class="panel" aria-labelledby="settings" {
            h2 id="settings" {
                "Settings of " a href=(machine_path(&machine.name)) { (machine.name) }
                span class="dim" { "The later layer wins: base, network, group, host, ip." }
            }
            div class="scroll" tabindex="0" {
                table {
                    caption class="unseen" { "Every setting that holds, with the layer and line that gave it" }
                    thead {
                        tr {
                            th scope="col" { "Key" }
                            th scope="col" { "Value" }
                            th scope="col" { "Layer" }
                            th scope="col" class="number" { "Line" }
                        }
                    }
                    tbody {
                        @for (key, setting) in machine.settings.iter().flatten() {
                            tr {
                                th scope="row" { code { (key) } }
                                td class="mono" { (value(&setting.value)) }
                                td { code { (setting.layer) } }
                                td class="number" { (setting.line) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A text without its quotes; anything else as JSON has it.
fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn groups(fleet: &FleetView) -> Markup {
    html! {
        section class="panel" aria-labelledby="groups" {
            h2 id="groups" { "Groups" }
            @if fleet.groups.is_empty() { p class="empty" { "None." } } @else {
                table {
                    caption class="unseen" { "Groups of the fleet file" }
                    thead {
                        tr {
                            th scope="col" { "Group" }
                            th scope="col" class="number" { "Machines" }
                            th scope="col" class="number" { "Slots" }
                            th scope="col" class="number" { "Line" }
                        }
                    }
                    tbody {
                        @for group in &fleet.groups {
                            tr {
                                th scope="row" { "@" (group.name) }
                                td class="number" { (group.machines) }
                                td class="number" { @if let Some(slots) = group.slots { (slots) } }
                                td class="number" { (group.line) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn networks(fleet: &FleetView) -> Markup {
    html! {
        section class="panel" aria-labelledby="networks" {
            h2 id="networks" { "Networks" }
            @if fleet.networks.is_empty() { p class="empty" { "None." } } @else {
                table {
                    caption class="unseen" { "Networks of the fleet file" }
                    thead {
                        tr {
                            th scope="col" { "Network" }
                            th scope="col" class="number" { "Machines" }
                            th scope="col" class="number" { "Line" }
                        }
                    }
                    tbody {
                        @for network in &fleet.networks {
                            tr {
                                th scope="row" {
                                    (network.net)
                                    @if let Some(domain) = &network.domain { span class="why dim" { (domain) } }
                                }
                                td class="number" { (network.machines) }
                                td class="number" { (network.line) }
                            }
                        }
                    }
                }
            }
        }
    }
}
