//! `/runs` and `/runs/RUN`: what was done, when, and how it ended.

use crate::disk;
use crate::machine::{Log, log_text};
use crate::words::{self, lasted, machine_path, path_below, size};
use maud::{Markup, html};
use pitstop_api::{Disk, PlannedDisk, Run, Source};

/// The newest runs of all machines.
pub fn list(runs: &[Run]) -> Markup {
    html! {
        div class="head" { h1 { "Runs" } p class="sub" { "Each try of a job, the newest first" } }
        div id="runs" class="panel" data-part="" {
            @if runs.is_empty() {
                p class="empty" { "No run yet. The first machine that works is here by itself." }
            } @else {
                div class="scroll" tabindex="0" { (table(runs, "Runs, the newest first", true)) }
            }
        }
    }
}

/// As people know the machine.
fn shown(run: &Run) -> &str {
    let names = [&run.machine, &run.address, &run.peer, &run.mac];
    names
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or("?", |name| name)
}

/// What its page is asked for by.
fn asked_by(run: &Run) -> &str {
    let names = [&run.address, &run.peer, &run.mac, &run.machine];
    names
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or("?", |name| name)
}

pub(crate) fn table(runs: &[Run], caption: &str, of_all: bool) -> Markup {
    html! {
        table {
            caption class="unseen" { (caption) }
            thead {
                tr {
                    th scope="col" { "Began" }
                    @if of_all { th scope="col" { "Machine" } }
                    th scope="col" { "Action" }
                    th scope="col" { "Result" }
                    th scope="col" class="number" { "Bytes" }
                    th scope="col" class="number" { "Took" }
                }
            }
            tbody {
                @for run in runs {
                    tr id={ "r-" (run.run) } {
                        th scope="row" {
                            a href={ "/runs/" (run.run) } {
                                @if let Some(began) = run.began { (words::time(began)) } @else { (run.run) }
                            }
                        }
                        @if of_all { td { a href=(machine_path(asked_by(run))) { (shown(run)) } } }
                        td { (run.action) }
                        td {
                            (words::run_state(run.state).show())
                            @if !run.reason.is_empty() { span class="why" { (run.reason) } }
                            @if run.read_errors > 0 { span class="why" { (run.read_errors) " places could not be read" } }
                        }
                        td class="number" { @if run.bytes > 0 { (size(run.bytes)) } }
                        td class="number" { @if run.ended.is_some() { (lasted(run.elapsed_ms)) } }
                    }
                }
            }
        }
    }
}

/// One run, with its log.
pub fn one(run: &Run, log: &Log) -> Markup {
    html! {
        nav class="crumb" aria-label="Where you are" { a href="/runs" { "Runs" } " › " (run.run) }
        div id="state" class="head" data-part="" {
            h1 { (run.action) " of " (shown(run)) }
            (words::run_state(run.state).show())
        }
        div id="now" data-part="" {
            @if !run.reason.is_empty() { p class="note bad" { (run.reason) } }
            @if let Some(progress) = &run.progress {
                div class="panel big" { div class="in" { (words::progress(shown(run), progress)) } }
            }
        }
        div class="columns" {
            section id="log-part" class="panel" aria-labelledby="log-title" data-part="" {
                h2 id="log-title" { "Log" }
                (log_text(log, "log tall"))
            }
            div {
                section class="panel" aria-labelledby="what" {
                    h2 id="what" { "This run" }
                    div id="facts" class="in" data-part="" { (facts(run)) }
                }
                section class="panel" aria-labelledby="plan" {
                    h2 id="plan" { "Plan" }
                    div id="planned" class="in" data-part="" { (plan(&run.disks)) }
                }
            }
        }
    }
}

fn facts(run: &Run) -> Markup {
    html! {
        dl class="facts" {
            dt { "Machine" } dd { a href=(machine_path(asked_by(run))) { (shown(run)) } }
            @if !run.mac.is_empty() { dt { "MAC" } dd { (run.mac) } }
            @if let Some(began) = run.began { dt { "Began" } dd { (words::time(began)) } }
            @if let Some(ended) = run.ended { dt { "Ended" } dd { (words::time(ended)) } }
            @if run.ended.is_some() { dt { "Took" } dd { (lasted(run.elapsed_ms)) } }
            @if run.bytes > 0 { dt { "Bytes" } dd { (size(run.bytes)) } }
            @if run.read_errors > 0 { dt { "Unreadable" } dd { (run.read_errors) " places" } }
            @if let Some(job) = &run.job { dt { "Job" } dd { (job) } }
            @if !run.pitstop.is_empty() { dt { "Pitstop" } dd { (run.pitstop) } }
        }
    }
}

fn plan(disks: &[PlannedDisk]) -> Markup {
    html! {
        @if disks.is_empty() { p class="dim" { "It has not told one." } }
        ul class="list" {
            @for planned in disks {
                li {
                    (words::act(planned.will)) " " strong { (planned.disk) } ", " (size(planned.size))
                    div class="dim" { (disk::named(&identity(planned))) }
                    @if !planned.image.is_empty() {
                        a href=(path_below("/images", &planned.image)) { (planned.image) }
                    }
                }
            }
        }
    }
}

fn identity(planned: &PlannedDisk) -> Disk {
    Disk {
        device: planned.disk.clone(),
        model: planned.model.clone(),
        serial: planned.serial.clone(),
        size: planned.size,
        source: Source::Run,
        ..Disk::default()
    }
}
