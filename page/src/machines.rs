//! `/`: every machine, those that want somebody first.

use crate::queue::waits_for;
use crate::words::{self, count, machine_path};
use maud::{Markup, html};
use pitstop_api::{Machine, MachineState, RunState};

/// What wants somebody comes first: what failed, then what goes on, then what waits. Within each the order stays.
pub fn arrange(machines: &mut [Machine]) {
    machines.sort_by_key(|machine| rank(machine.state));
}

fn rank(state: MachineState) -> u8 {
    match state {
        MachineState::Failed | MachineState::Silent => 0,
        MachineState::Running => 1,
        MachineState::Queued => 2,
        MachineState::Waiting => 3,
        MachineState::New => 4,
        MachineState::Scheduled => 5,
        MachineState::Done | MachineState::Idle => 6,
    }
}

/// What of the list is asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// Words that a machine's row must have.
    pub words: &'a str,
    /// Why the fleet file is not used as it is.
    pub wrong: Option<&'a pitstop_api::Wrong>,
}

/// The content of the page; `machines` in the order in which the fleet has them.
pub fn content(machines: &[Machine], asked: &Asked<'_>) -> Markup {
    let mut rows: Vec<(usize, &Machine)> = machines.iter().enumerate().collect();
    rows.sort_by_key(|(_, machine)| rank(machine.state));
    html! {
        div class="head" {
            h1 { "Machines" }
            (summary(machines))
            form class="find push" role="search" action="/" {
                label class="unseen" for="filter" { "Filter machines" }
                input id="filter" type="search" name="q" value=(asked.words) placeholder="Name, address, group, reason…"
                    autocomplete="off" spellcheck="false";
                button { "Filter" }
            }
            span id="count" class="dim" role="status" {}
        }
        @if let Some(wrong) = asked.wrong { (fleet_wrong(wrong)) }
        div class="panel" {
            @if machines.is_empty() { (none()) } @else { (table(&rows, asked.words)) }
        }
    }
}

pub fn fleet_wrong(wrong: &pitstop_api::Wrong) -> Markup {
    html! {
        div class="note bad" role="alert" {
            strong { "fleet.toml is wrong." } " Meanwhile: " (wrong.meanwhile) "."
            pre { (wrong.why) }
        }
    }
}

fn none() -> Markup {
    html! {
        div class="empty" {
            p { strong { "No machine yet." } }
            p {
                "Name machines in " code { "fleet.toml" } ", or set a job: "
                code { "pitstop host set 192.168.1.50 refresh-info" }
            }
        }
    }
}

fn table(rows: &[(usize, &Machine)], asked: &str) -> Markup {
    let words: Vec<String> = asked.split_whitespace().map(str::to_lowercase).collect();
    html! {
        table id="machines" class="cards" {
            caption class="unseen" { "Machines: what failed comes first, then what is at work" }
            thead {
                tr {
                    th scope="col" class="c-name" { "Machine" }
                    th scope="col" class="c-state" { "State" }
                    th scope="col" class="c-work" { "Now" }
                    th scope="col" class="c-last" { "Last result" }
                }
            }
            tbody {
                @for (place, machine) in rows {
                    (row(machine, Some(*place), !fits(machine, &words)))
                }
            }
        }
    }
}

/// Whether what its row says has all of `words`.
fn fits(machine: &Machine, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let text = said_in_row(machine).to_lowercase();
    words.iter().all(|word| text.contains(word))
}

fn said_in_row(machine: &Machine) -> String {
    let mut parts = vec![
        machine.shown().to_owned(),
        words::machine_state(machine.state).word.to_owned(),
    ];
    parts.extend(machine.addresses.iter().map(ToString::to_string));
    parts.extend(machine.groups.iter().cloned());
    parts.extend(machine.job.iter().map(|job| job.action.clone()));
    if let Some(last) = &machine.last {
        parts.extend([last.action.clone(), last.reason.clone()]);
    }
    parts.join(" ")
}

/// The id of a machine's row in the document.
pub fn row_id(machine: &Machine) -> String {
    format!("m-{}", machine.id)
}

/// One machine. `place` is its place in the fleet, where that is known; a row that is only asked for anew keeps its own.
pub fn row(machine: &Machine, place: Option<usize>, hidden: bool) -> Markup {
    let class = match machine.state {
        MachineState::Failed | MachineState::Silent => Some("is-failed"),
        MachineState::Running => Some("is-running"),
        _ => None,
    };
    html! {
        tr id=(row_id(machine)) class=[class] data-rank=(rank(machine.state)) data-place=[place]
            data-said=[announced(machine)] hidden[hidden] {
            th scope="row" class="c-name" {
                a href=(machine_path(&machine.id)) { (machine.shown()) }
                @if let Some(address) = machine.addresses.first() {
                    @let address = address.to_string();
                    @if address != machine.shown() { span class="address" { (address) } }
                }
                @if !machine.groups.is_empty() {
                    span class="unseen" { ", groups " (machine.groups.join(", ")) }
                }
            }
            td class="c-state" { (words::machine_state(machine.state).show()) }
            td class="c-work" { (now(machine)) }
            td class="c-last" { (last(machine)) }
        }
    }
}

/// What a screen reader is told when it changes: ends, and what wants somebody.
pub(crate) fn announced(machine: &Machine) -> Option<String> {
    let name = machine.shown();
    match machine.state {
        MachineState::Failed => Some(format!("{name} has failed")),
        MachineState::Silent => Some(format!("{name} has fallen silent")),
        MachineState::Done => Some(format!("{name} is done")),
        _ => None,
    }
}

pub(crate) fn now(machine: &Machine) -> Markup {
    let action = machine.job.as_ref().map_or("", |job| &job.action);
    html! {
        @match machine.state {
            MachineState::Running => {
                @if let Some(progress) = &machine.progress {
                    (words::progress(machine.shown(), progress))
                } @else { (action) }
            }
            MachineState::Failed => { span class="why" { (reason(machine)) } }
            MachineState::Silent => { span class="why" { (words::SILENT) } }
            MachineState::Queued => {
                (action)
                @if let Some(place) = machine.waits_at { ", number " (place) " in the queue" }
                @else if let Some(why) = machine.job.as_ref().and_then(waits_for) { ": " (why) }
            }
            MachineState::Waiting => { (action) ", when it boots from the network" }
            MachineState::Scheduled => {
                (action)
                @if let Some(at) = machine.job.as_ref().and_then(|job| job.at) { ", " (words::time(at)) }
            }
            MachineState::New => { "Waits for a name" }
            MachineState::Done | MachineState::Idle => {}
        }
    }
}

/// Why it failed, in a few words for a list.
pub(crate) fn reason(machine: &Machine) -> &str {
    let of_run = machine.last.as_ref().map_or("", |last| &last.reason);
    if !of_run.is_empty() {
        return of_run;
    }
    let of_job = machine.job.as_ref().and_then(|job| job.reason.as_deref());
    of_job.unwrap_or("It does not say why.")
}

fn last(machine: &Machine) -> Markup {
    html! {
        @if let Some(last) = &machine.last {
            (last.action)
            @match last.state {
                RunState::Ok => { " went well" }
                RunState::Failed | RunState::Silent => { " failed" }
                RunState::Cancelled => { " was cancelled" }
                RunState::Running => {}
            }
            @if let Some(ended) = last.ended { ", " (words::time(ended)) }
            @if machine.state != MachineState::Failed && !last.reason.is_empty() {
                span class="why dim" { (last.reason) }
            }
        }
    }
}

/// How many of each kind there are. The script counts anew when rows change: by the ranks of their kind.
fn summary(machines: &[Machine]) -> Markup {
    let kinds: [(&str, &str, &[u8]); 4] = [
        ("failed", "failed", &[0]),
        ("running", "at work", &[1]),
        ("waiting", "waiting", &[2, 3]),
        ("new", "new", &[4]),
    ];
    let of = |ranks: &[u8]| {
        machines
            .iter()
            .filter(|m| ranks.contains(&rank(m.state)))
            .count()
    };
    html! {
        ul id="summary" class="tiles" {
            @for (class, word, ranks) in kinds {
                @let number = of(ranks);
                li data-ranks=(ranks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")) hidden[number == 0] {
                    span class={ "tile " (class) } { b { (count(number)) } " " (word) }
                }
            }
            li data-ranks="" { span class="tile" { b { (count(machines.len())) } " in all" } }
        }
    }
}
