//! Jobs for people and programs.

use super::which::{jobs, one};
use crate::host::{Root, say};
use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pitstop_api::{Job, JobState as State};
use pitstop_protocol::host_name::printable;
use pitstop_server::jobs::{Chosen, Which, chosen, open_or_last};
use pitstop_server::set::columns;
use serde_json::Value;
use std::fmt::Write;

pub fn list(root: &Root, which: &[Which], json: bool) -> anyhow::Result<()> {
    let named = Chosen::new(&root.path, which)?;
    let found = open_or_last(chosen(jobs(root)?, &named)?, &named);
    let found: Vec<Job> = found.iter().map(Job::from).collect();
    print_list(&found, json)
}

pub fn print_list(found: &[Job], json: bool) -> anyhow::Result<()> {
    if json {
        let values = serde_json::to_value(found).context("putting jobs into JSON")?;
        return say(&text(&values)?);
    }
    if found.is_empty() {
        return say("No job is set: every machine boots from its own disk\n");
    }
    let rows: Vec<[String; 6]> = found.iter().map(row).collect();
    let head = ["JOB", "MACHINE", "ACTION", "STATE", "SINCE", "WHY"];
    say(&columns(&head, &rows))
}

fn row(job: &Job) -> [String; 6] {
    let (since, why) = match job.state {
        State::Scheduled => (
            job.at.map(|at| format!("due {}", local(at))),
            job.every
                .as_ref()
                .map(|every| format!("every {every}"))
                .or(job.reason.clone()),
        ),
        _ => (Some(local(job.changed)), job.reason.clone()),
    };
    [
        job.id.to_string(),
        printable(job.shown()),
        job.action.clone(),
        job.state.to_string(),
        since.unwrap_or_default(),
        printable(&why.unwrap_or_default()),
    ]
}

fn in_words(job: &Job) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11} {}", printable(&value));
    };
    line("job", job.id.to_string());
    line("machine", format!("{} ({})", job.shown(), job.machine));
    line("action", job.action.clone());
    line("state", job.state.to_string());
    let optional = [
        ("why", job.reason.clone()),
        ("due", job.at.map(local)),
        ("every", job.every.clone()),
        ("ended", job.ended.map(local)),
        (
            "replaced by",
            job.superseded_by.as_ref().map(ToString::to_string),
        ),
        ("follows", job.follows.as_ref().map(ToString::to_string)),
        ("set by job", job.series.as_ref().map(ToString::to_string)),
        ("slots", job.slots.map(|slots| slots.to_string())),
        ("server", job.server.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(name, value);
        }
    }
    line("set", format!("{} by {}", local(job.set), job.set_by));
    line("changed", local(job.changed));
    line("attempts", job.attempts.to_string());
    for run in &job.runs {
        line("run", run.to_string());
    }
    line("host file", job.host_file.clone());
    text
}

pub fn show(root: &Root, which: &Which, json: bool) -> anyhow::Result<()> {
    print(&Job::from(&one(root, which)?), json)
}

pub fn print(job: &Job, json: bool) -> anyhow::Result<()> {
    say(&if json {
        text(&serde_json::to_value(job).context("putting a job into JSON")?)?
    } else {
        in_words(job)
    })
}

pub fn text(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("writing JSON")? + "\n")
}

/// A time as this computer's clock shows it.
pub fn local(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
