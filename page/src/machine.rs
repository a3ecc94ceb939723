//! `/machines/NAME`: one machine: what goes on, its disks, its log, its history, and what can be done with it.

use crate::layout::Viewer;
use crate::words::{self, machine_path, path_below, size};
use crate::{acts, disk, machines, runs};
use maud::{Markup, html};
use pitstop_api::{Machine, MachineDetail, MachineState};

/// The log of its newest run, as far as it has come.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub run: String,
    pub text: String,
    /// Whether more may come.
    pub grows: bool,
}

/// The content of the page.
pub fn content(detail: &MachineDetail, log: Option<&Log>, viewer: &Viewer) -> Markup {
    let machine = &detail.machine;
    html! {
        nav class="crumb" aria-label="Where you are" { a href="/" { "Machines" } " › " (machine.shown()) }
        div id="state" class="head" data-part="" {
            h1 { (machine.shown()) }
            (words::machine_state(machine.state).show())
            @if !machine.known { span class="dim" { "not in fleet.toml" } }
        }
        div class="columns" {
            div {
                (now(machine))
                section class="panel" aria-labelledby="disks" {
                    h2 id="disks" { "Disks" }
                    div id="disk-list" class="in" data-part="" {
                        @if detail.disks.is_empty() {
                            p class="dim" { "None is known yet: refresh-info, or any run, tells." }
                        }
                        @for disk in &detail.disks { (disk::show(disk)) }
                    }
                }
                div id="log-part" data-part="" { @if let Some(log) = log { (log_panel(log)) } }
                (history(detail))
            }
            div {
                @if viewer.operates { (acts::panel(detail, viewer)) }
                section class="panel" aria-labelledby="what" {
                    h2 id="what" { "What it is" }
                    div id="facts" class="in" data-part="" { (facts(detail)) }
                }
                (images(detail))
            }
        }
    }
}

/// What goes on, or what came of it.
fn now(machine: &Machine) -> Markup {
    let action = machine.job.as_ref().map_or("", |job| job.action.as_str());
    html! {
        div id="now" data-part="" data-said=[machines::announced(machine)] {
            @match machine.state {
                MachineState::Running => {
                    section class="panel big" aria-labelledby="now-title" {
                        h2 id="now-title" { "Now: " (action) }
                        div class="in" {
                            @if let Some(progress) = &machine.progress {
                                (words::progress(machine.shown(), progress))
                            } @else { p { "It has begun, and has not moved anything yet." } }
                        }
                    }
                }
                MachineState::Failed => { p class="note bad" { strong { "Failed: " } (machines::reason(machine)) } }
                MachineState::Silent => { p class="note bad" { strong { "Silent. " } (words::SILENT) } }
                MachineState::Queued | MachineState::Waiting | MachineState::Scheduled => {
                    p class="note wait" { (machines::now(machine)) }
                }
                MachineState::New => {
                    p class="note wait" { "It is not in fleet.toml. Give it a name there: " code { "[host.NAME]" } "." }
                }
                MachineState::Done | MachineState::Idle => {}
            }
        }
    }
}

pub(crate) fn log_panel(log: &Log) -> Markup {
    html! {
        section class="panel" aria-labelledby="log-title" {
            h2 id="log-title" {
                "Log"
                a href={ "/runs/" (log.run) } { "of run " (log.run) }
            }
            (log_text(log, "log"))
        }
    }
}

pub(crate) fn log_text(log: &Log, class: &str) -> Markup {
    html! {
        pre id="log" class=(class) tabindex="0" role="region" aria-label="Lines of the log"
            data-run=[log.grows.then_some(&log.run)] data-at=(log.text.len()) { (log.text) }
    }
}

fn history(detail: &MachineDetail) -> Markup {
    html! {
        section class="panel" aria-labelledby="history" {
            h2 id="history" { "History" }
            div id="runs" data-part="" {
                @if detail.runs.is_empty() {
                    p class="empty" { "No run yet." }
                } @else {
                    div class="scroll" tabindex="0" { (runs::table(&detail.runs, "Runs of this machine, the newest first", false)) }
                }
            }
        }
        section class="panel" aria-labelledby="jobs" {
            h2 id="jobs" { "Jobs" }
            div id="job-list" data-part="" {
                @if detail.jobs.is_empty() {
                    p class="empty" { "No job: it boots from its own disk." }
                } @else {
                    div class="scroll" tabindex="0" { (jobs(detail)) }
                }
            }
        }
    }
}

fn jobs(detail: &MachineDetail) -> Markup {
    html! {
        table {
            caption class="unseen" { "Jobs of this machine, the newest first" }
            thead {
                tr {
                    th scope="col" { "Action" }
                    th scope="col" { "State" }
                    th scope="col" { "Set" }
                    th scope="col" { "By" }
                    th scope="col" { "When" }
                }
            }
            tbody {
                @for job in &detail.jobs {
                    tr {
                        th scope="row" { (job.action) }
                        td { (words::job_state(job.state).show()) @if let Some(reason) = &job.reason { span class="why" { (reason) } } }
                        td { (words::time(job.set)) }
                        td { (job.set_by) }
                        td {
                            @if let Some(every) = &job.every { code { (every) } ", next " }
                            (words::maybe_time(job.at))
                        }
                    }
                }
            }
        }
    }
}

fn facts(detail: &MachineDetail) -> Markup {
    let machine = &detail.machine;
    let addresses: Vec<String> = machine.addresses.iter().map(ToString::to_string).collect();
    let line = detail.line.map(|line| line.to_string()).unwrap_or_default();
    let known = [
        ("Address", addresses.join(", ")),
        ("MAC", machine.mac.join(", ")),
        ("UUID", machine.uuid.clone().unwrap_or_default()),
        ("Serial", machine.serial.clone().unwrap_or_default()),
        ("Model", machine.model.clone().unwrap_or_default()),
        ("Groups", machine.groups.join(", ")),
        ("Network", machine.network.clone().unwrap_or_default()),
        ("Folder", detail.folder.clone().unwrap_or_default()),
        ("Power", detail.power.clone().unwrap_or_default()),
        (
            "In fleet.toml",
            if line.is_empty() {
                line
            } else {
                format!("line {line}")
            },
        ),
    ];
    html! {
        dl class="facts" {
            @for (name, value) in known {
                @if !value.is_empty() { dt { (name) } dd { (value) } }
            }
            @if let Some(seen) = machine.seen { dt { "Last heard" } dd { (words::time(seen)) } }
            @for fact in &detail.facts { dt { (fact.key) } dd { (fact.value) } }
        }
        @if machine.known {
            p { a href={ "/fleet?machine=" (words::component(machine.shown())) } { "Its settings, by layer" } }
        }
    }
}

fn images(detail: &MachineDetail) -> Markup {
    html! {
        section class="panel" aria-labelledby="its-images" {
            h2 id="its-images" { "Images" }
            div id="image-list" class="in" data-part="" {
                @if detail.images.is_empty() {
                    p class="dim" { "None yet: a backup makes one." }
                } @else {
                    ul class="list" {
                        @for image in &detail.images {
                            li {
                                a href=(path_below("/images", &image.path)) { (image.path) } ", " (size(image.file_size))
                                @if let Some(created) = image.created { ", " (words::time(created)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where a form of the machine goes.
pub(crate) fn act_path(machine: &Machine, act: &str) -> String {
    format!("{}/{act}", machine_path(&machine.id))
}
