//! What values are called on pages: states, sizes, times, links.

use crate::icon::{Shape, shape};
use jiff::Timestamp;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pitstop_api::{JobState, MachineState, Progress, RunState};
use pitstop_imaging::event::Act;
use pitstop_imaging::{render, units};
use std::fmt::Display;
use std::time::Duration;

/// RFC 3986 2.3: what need not be encoded in a path component.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as one component of a path.
pub fn component(name: &str) -> impl Display {
    utf8_percent_encode(name, COMPONENT)
}

/// Names on the share, a path below `before`.
pub fn path_below(before: &str, path: &str) -> String {
    let names: Vec<String> = path
        .split('/')
        .map(|name| component(name).to_string())
        .collect();
    format!("{before}/{}", names.join("/"))
}

/// The page of a machine.
pub fn machine_path(id: &str) -> String {
    format!("/machines/{}", component(id))
}

/// A word and a shape for it, in the colour of its kind.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    pub word: &'static str,
    pub class: &'static str,
    shape: Shape,
}

const fn tag(word: &'static str, class: &'static str, shape: Shape) -> Tag {
    Tag { word, class, shape }
}

impl Tag {
    pub fn show(self) -> Markup {
        html! { span class={ "tag " (self.class) } { (shape(self.shape)) (self.word) } }
    }
}

pub fn machine_state(state: MachineState) -> Tag {
    match state {
        MachineState::Failed => tag("Failed", "failed", Shape::Cross),
        MachineState::Silent => tag("Silent", "failed", Shape::Cross),
        MachineState::Running => tag("At work", "running", Shape::Turning),
        MachineState::Queued => tag("In the queue", "waiting", Shape::Clock),
        MachineState::Waiting => tag("Not come yet", "waiting", Shape::Clock),
        MachineState::Scheduled => tag("For later", "calm", Shape::Clock),
        MachineState::New => tag("New", "waiting", Shape::Dash),
        MachineState::Done => tag("Done", "good", Shape::Tick),
        MachineState::Idle => tag("Idle", "calm", Shape::Dash),
    }
}

pub fn run_state(state: RunState) -> Tag {
    match state {
        RunState::Running => tag("At work", "running", Shape::Turning),
        RunState::Ok => tag("Done", "good", Shape::Tick),
        RunState::Failed => tag("Failed", "failed", Shape::Cross),
        RunState::Cancelled => tag("Cancelled", "calm", Shape::Dash),
        RunState::Silent => tag("Silent", "failed", Shape::Cross),
    }
}

pub fn job_state(state: JobState) -> Tag {
    match state {
        JobState::Scheduled => tag("For later", "calm", Shape::Clock),
        JobState::Waiting => tag("Not come yet", "waiting", Shape::Clock),
        JobState::Queued => tag("In the queue", "waiting", Shape::Clock),
        JobState::Running => tag("At work", "running", Shape::Turning),
        JobState::Done => tag("Done", "good", Shape::Tick),
        JobState::Failed => tag("Failed", "failed", Shape::Cross),
        JobState::Cancelled => tag("Cancelled", "calm", Shape::Dash),
        JobState::Superseded => tag("Replaced", "calm", Shape::Dash),
    }
}

/// Why a silent machine is told among those that failed.
pub const SILENT: &str = "It has not reported for minutes, and has not ended.";

/// A moment: UTC in the text, which the script tells as people do.
pub fn time(at: Timestamp) -> Markup {
    html! {
        time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (at.strftime("%Y-%m-%d %H:%M UTC")) }
    }
}

pub fn maybe_time(at: Option<Timestamp>) -> Markup {
    html! { @if let Some(at) = at { (time(at)) } }
}

pub fn size(bytes: u64) -> String {
    units::bytes(bytes)
}

pub fn lasted(ms: u64) -> String {
    units::duration(Duration::from_millis(ms))
}

/// What is done, as the plan has it.
pub fn act(act: Act) -> &'static str {
    match act {
        Act::Backup => "backup",
        Act::Restore => "restore",
        Act::Verify => "verify",
        Act::Convert => "convert",
        Act::Wipe => "wipe",
        Act::Partition => "partition",
        Act::Capture => "capture",
        Act::Extract => "deploy",
    }
}

/// A bar with its percent, and a line of rate and time left.
pub fn progress(of: &str, progress: &Progress) -> Markup {
    let mut parts = vec![format!("{} {}", render::doing(progress.act), progress.disk)];
    if progress.percent.is_none() {
        parts.push(size(progress.done));
    }
    parts.push(render::rate(progress.rate));
    if let Some(left) = progress.seconds_left {
        parts.push(format!(
            "{} left",
            units::duration(Duration::from_secs(left))
        ));
    }
    html! {
        div class="work" {
            progress max="100" value=[progress.percent] aria-label={ "Progress of " (of) } {}
            span class="percent" { @if let Some(percent) = progress.percent { (percent) " %" } }
            span class="text" { (parts.join(" · ")) }
        }
    }
}

/// 1234 as `1,234`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_components_and_numbers_are_read_easily() {
        assert_eq!(
            machine_path("52:54:00/../x"),
            "/machines/52%3A54%3A00%2F..%2Fx"
        );
        assert_eq!(
            path_below("/images", "a b/sda.raw.gz"),
            "/images/a%20b/sda.raw.gz"
        );
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
