//! What can be done with a machine, by forms. What loses data says what, and asks for the machine's name.

use crate::disk::named;
use crate::layout::Viewer;
use crate::machine::act_path;
use crate::words::size;
use maud::{Markup, html};
use pitstop_api::{Machine, MachineDetail, MachineState};
use pitstop_protocol::job::{ActionName, Method};

/// The actions that a page sets: those that need nothing beside the machine. `partition` wants a layout.
const HARMLESS: [(ActionName, &str); 4] = [
    (ActionName::Backup, "Back up"),
    (ActionName::BackupAgain, "Back up again"),
    (ActionName::RefreshInfo, "Refresh info"),
    (ActionName::Rescue, "Rescue"),
];
const LOSING: [(ActionName, &str); 2] = [
    (ActionName::Restore, "Restore…"),
    (ActionName::Wipe, "Wipe…"),
];

/// Why a machine of which nothing is known is not wiped.
pub const NO_DISK: &str = "No disk of it is known: boot it once into refresh-info";

/// Whether the page has a form for `action`.
pub fn offers(action: ActionName) -> bool {
    let all = HARMLESS.iter().chain(&LOSING);
    all.into_iter().any(|(offered, _)| *offered == action)
}

/// What a person types before something is lost.
pub fn must_type(machine: &Machine) -> &str {
    machine.shown()
}

/// The disks that a wipe is about, as its form names them: another one that comes meanwhile makes another text.
pub fn disks(detail: &MachineDetail) -> String {
    let disks = detail
        .disks
        .iter()
        .map(|disk| format!("{} {} {} {}", disk.device, disk.serial, disk.wwn, disk.size));
    disks.collect::<Vec<_>>().join(", ")
}

/// Whether switching it off would break something off.
pub fn is_at_work(machine: &Machine) -> bool {
    machine.state == MachineState::Running
}

pub(crate) fn panel(detail: &MachineDetail, viewer: &Viewer) -> Markup {
    let machine = &detail.machine;
    html! {
        section class="panel" aria-labelledby="acts" {
            h2 id="acts" { "Do something" }
            div class="in acts" {
                @for (action, word) in HARMLESS {
                    (set(machine, action, word, viewer))
                }
                @for (action, word) in LOSING { (losing(detail, action, word, viewer)) }
                div id="job-now" data-part="" { (cancel(machine, viewer)) }
                (power(machine, viewer))
            }
        }
    }
}

/// A button that sets a job which loses nothing.
fn set(machine: &Machine, action: ActionName, word: &str, viewer: &Viewer) -> Markup {
    html! {
        form method="post" action=(act_path(machine, "job")) {
            (viewer.token())
            input type="hidden" name="action" value=(action.as_str());
            button { (word) }
        }
    }
}

/// Only a job that is not over can be taken back.
fn cancel(machine: &Machine, viewer: &Viewer) -> Markup {
    let job = machine.job.as_ref().filter(|job| !job.state.is_over());
    html! {
        @if let Some(job) = job {
            form method="post" action="/queue/cancel" {
                (viewer.token())
                input type="hidden" name="job" value=(job.id);
                input type="hidden" name="back" value=(machine.id);
                button class="danger" { "Cancel the job: " (job.action) }
            }
        }
    }
}

fn losing(detail: &MachineDetail, action: ActionName, word: &str, viewer: &Viewer) -> Markup {
    let machine = &detail.machine;
    let name = must_type(machine);
    let field = format!("confirm-{action}");
    // A wipe takes the disks that are named here, and no other.
    if action == ActionName::Wipe && detail.disks.is_empty() {
        return html! {
            details class="ask" {
                summary { (word) }
                p { (NO_DISK) "." }
                (set(machine, ActionName::RefreshInfo, "Set refresh-info", viewer))
            }
        };
    }
    html! {
        details class="ask" {
            summary { (word) }
            form method="post" action=(act_path(machine, "job")) {
                (viewer.token())
                input type="hidden" name="action" value=(action.as_str());
                @if action == ActionName::Restore {
                    div class="field" {
                        label for="image" { "Image" }
                        select id="image" name="image" {
                            option value="" { "its own" }
                            @for folder in folders(detail) { option { (folder) } }
                        }
                    }
                }
                @if action == ActionName::Wipe {
                    input type="hidden" name="disks" value=(disks(detail));
                    (methods())
                }
                (lost(detail))
                div class="field" {
                    label for=(field) { "Type " strong { (name) } " to go on" }
                    input id=(field) name="confirm" required autocomplete="off" autocapitalize="none" spellcheck="false"
                        data-must=(name);
                }
                button class="danger" { (word.trim_end_matches('…')) " " (name) }
            }
        }
    }
}

/// How a wipe erases: first what every disk can.
const METHODS: [(Method, &str); 3] = [
    (Method::Zero, "zero: write zeros, and read them back"),
    (
        Method::Discard,
        "discard: tell the disk that nothing is needed (TRIM)",
    ),
    (Method::Secure, "secure: the disk erases itself"),
];

fn methods() -> Markup {
    html! {
        div class="field" {
            label for="method" { "How" }
            select id="method" name="method" {
                @for (method, words) in METHODS { option value=(method) { (words) } }
            }
        }
    }
}

/// Other folders that its images are in.
fn folders(detail: &MachineDetail) -> Vec<&str> {
    let own = detail.folder.as_deref().unwrap_or_default();
    let mut folders: Vec<&str> = detail
        .images
        .iter()
        .map(|image| image.folder.as_str())
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders.retain(|folder| *folder != own);
    folders
}

/// Model and serial of every disk whose content goes.
fn lost(detail: &MachineDetail) -> Markup {
    html! {
        @if detail.disks.is_empty() {
            p { "Lost is what is on " strong { "every disk" } " that the image has. Which those are of it is not known: refresh-info tells." }
        } @else {
            p { "Lost is what is on:" }
            ul class="lost" {
                @for disk in &detail.disks {
                    li { b { (disk.device) ", " (size(disk.size)) } (named(disk)) }
                }
            }
        }
    }
}

fn power(machine: &Machine, viewer: &Viewer) -> Markup {
    let name = must_type(machine);
    html! {
        details class="ask plain" {
            summary { "Power…" }
            form method="post" action=(act_path(machine, "power")) {
                (viewer.token())
                @if is_at_work(machine) {
                    p { "It is at work: off or cycle breaks that off, and a disk that is being written will not boot." }
                    div class="field" {
                        label for="confirm-power" { "Type " strong { (name) } " for off and cycle" }
                        input id="confirm-power" name="confirm" autocomplete="off" autocapitalize="none" spellcheck="false";
                    }
                }
                div class="row" {
                    @for (act, word) in [("on", "On"), ("off", "Off"), ("cycle", "Cycle"), ("pxe", "Next boot by network")] {
                        button name="act" value=(act) { (word) }
                    }
                }
            }
        }
    }
}
