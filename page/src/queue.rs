//! `/queue`: who works, whose turn is next, and what is for later.

use crate::layout::Viewer;
use crate::words::{self, machine_path};
use maud::{Markup, html};
use pitstop_api::{Entry, Job, JobState, Queue, Schedule};

/// The content of the page.
pub fn content(queue: &Queue, schedule: &Schedule, viewer: &Viewer) -> Markup {
    html! {
        div id="state" class="head" data-part="" {
            h1 { "Queue" }
            (slots(queue))
        }
        section class="panel" aria-labelledby="working" {
            h2 id="working" { "At work" }
            div id="running" data-part="" { (running(queue, viewer)) }
        }
        section class="panel" aria-labelledby="next" {
            h2 id="next" {
                "Next"
                span class="dim" { "Who has come comes first. Move jobs by their buttons, or drag them." }
            }
            div id="waiting" data-part="" { (waiting(queue, viewer)) }
            @if viewer.operates {
                form id="move" method="post" action="/queue/move" hidden {
                    (viewer.token())
                    input type="hidden" name="job";
                    input type="hidden" name="before";
                }
            }
        }
        section class="panel" aria-labelledby="later" {
            h2 id="later" { "For later" }
            div id="scheduled" data-part="" { (later(schedule, viewer)) }
        }
    }
}

fn slots(queue: &Queue) -> Markup {
    html! {
        ul class="tiles" {
            li {
                span class="tile" {
                    b { (queue.used) }
                    @if let Some(slots) = queue.slots { " of " (slots) " slots in use" } @else { " at work, without a limit" }
                }
            }
            @for group in &queue.groups {
                li { span class="tile" { "@" (group.name) ": " b { (group.used) } " of " (group.slots) } }
            }
        }
    }
}

fn running(queue: &Queue, viewer: &Viewer) -> Markup {
    html! {
        @if queue.running.is_empty() { p class="empty" { "Nobody." } }
        @else {
            table class="cards" {
                caption class="unseen" { "Machines at work" }
                thead {
                    tr {
                        th scope="col" { "Machine" }
                        th scope="col" { "Action" }
                        th scope="col" { "Progress" }
                        @if viewer.operates { th scope="col" { "Do" } }
                    }
                }
                tbody {
                    @for entry in &queue.running {
                        tr id={ "q-" (entry.job.id) } {
                            th scope="row" { (machine(&entry.job)) }
                            td { (entry.job.action) }
                            td {
                                @if let Some(progress) = &entry.progress { (words::progress(entry.job.shown(), progress)) }
                            }
                            @if viewer.operates { td { (cancel(&entry.job, viewer)) } }
                        }
                    }
                }
            }
        }
    }
}

fn machine(job: &Job) -> Markup {
    html! { a href=(machine_path(job.shown())) { (job.shown()) } }
}

fn waiting(queue: &Queue, viewer: &Viewer) -> Markup {
    html! {
        @if queue.queued.is_empty() && queue.waiting.is_empty() { p class="empty" { "Nobody waits." } }
        @else {
            table class="cards" {
                caption class="unseen" { "Machines that wait, in the order of their turn" }
                thead {
                    tr {
                        th scope="col" { "Machine" }
                        th scope="col" { "Action" }
                        th scope="col" { "State" }
                        th scope="col" { "Set" }
                        @if viewer.operates { th scope="col" { "Order" } th scope="col" { "Do" } }
                    }
                }
                // Who has come and who has not are moved among themselves.
                @for entries in [&queue.queued, &queue.waiting] {
                    tbody { @for (at, entry) in entries.iter().enumerate() { (waits(entries, at, entry, viewer)) } }
                }
            }
        }
    }
}

/// What a machine that came waits for, where that is no slot.
pub(crate) fn waits_for(job: &Job) -> Option<&str> {
    let reason = job.reason.as_deref();
    reason.filter(|_| job.follows.is_some() && job.state == JobState::Queued)
}

fn waits(all: &[Entry], at: usize, entry: &Entry, viewer: &Viewer) -> Markup {
    let job = &entry.job;
    // Up is before the one in front, down is before the second behind, or behind the last.
    let up = at.checked_sub(1).and_then(|at| all.get(at));
    let down = all.get(at + 1);
    html! {
        tr id={ "q-" (job.id) } data-job=(job.id) data-name=(job.shown())
            draggable=[viewer.operates.then_some("true")] {
            th scope="row" {
                @if viewer.operates { span class="handle" aria-hidden="true" title="Drag to another place" { "⠿" } }
                (machine(job))
            }
            td { (job.action) }
            td {
                (words::job_state(job.state).show())
                @if let Some(place) = entry.waits_at { " number " (place) }
                @else if let Some(why) = waits_for(job) { ": " (why) }
            }
            td data-label="set" { (words::time(job.set)) " by " (job.set_by) }
            @if viewer.operates {
                td {
                    form method="post" action="/queue/move" data-quiet="" {
                        (viewer.token())
                        input type="hidden" name="job" value=(job.id);
                        input type="hidden" name="before" value=[up.map(|other| &other.job.id)];
                        button class="small" data-way="up" disabled[up.is_none()] aria-label={ "Move " (job.shown()) " up" } { "↑" }
                    }
                    " "
                    form method="post" action="/queue/move" data-quiet="" {
                        (viewer.token())
                        input type="hidden" name="job" value=(job.id);
                        input type="hidden" name="after" value=[down.map(|other| &other.job.id)];
                        button class="small" data-way="down" disabled[down.is_none()] aria-label={ "Move " (job.shown()) " down" } { "↓" }
                    }
                }
                td { (cancel(job, viewer)) }
            }
        }
    }
}

fn later(schedule: &Schedule, viewer: &Viewer) -> Markup {
    html! {
        @if schedule.schedule.is_empty() {
            p class="empty" {
                "Nothing. " code { "pitstop host set @lab3 backup-again --every '0 22 * * 5'" } " sets a job for each Friday."
            }
        } @else {
            table class="cards" {
                caption class="unseen" { "Jobs for later, the next one first" }
                thead {
                    tr {
                        th scope="col" { "Machine" }
                        th scope="col" { "Action" }
                        th scope="col" { "Next" }
                        th scope="col" { "Again" }
                        th scope="col" { "Set by" }
                        @if viewer.operates { th scope="col" { "Do" } }
                    }
                }
                tbody {
                    @for job in &schedule.schedule {
                        tr id={ "q-" (job.id) } {
                            th scope="row" { (machine(job)) }
                            td { (job.action) }
                            td data-label="next" { (words::maybe_time(job.at)) }
                            td { @if let Some(every) = &job.every { code { (every) } } @else { "once" } }
                            td data-label="set by" { (job.set_by) }
                            @if viewer.operates { td { (cancel(job, viewer)) } }
                        }
                    }
                }
            }
        }
    }
}

fn cancel(job: &Job, viewer: &Viewer) -> Markup {
    html! {
        form method="post" action="/queue/cancel" {
            (viewer.token())
            input type="hidden" name="job" value=(job.id);
            button class="small danger" aria-label={ "Cancel " (job.action) " of " (job.shown()) } { "Cancel" }
        }
    }
}
