//! The page at `/`: what failed, what goes on, machines with jobs, and what was asked lately.

use crate::list;
use crate::listing::{component, escape};
use crate::runs::{Filter, Run, State};
use crate::site::Site;
use crate::view;
use pitstop_imaging::render;
use pitstop_imaging::units;
use pitstop_protocol::host_name::printable;
use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

/// The newest runs, of which the page tells those that go on or failed.
const LOOKED_AT: usize = 300;

pub fn page(site: &Site) -> String {
    let mut page = String::from(
        "<!DOCTYPE html><meta charset=utf-8><meta http-equiv=refresh content=10>\
         <title>Pitstop</title><h1>Pitstop</h1>\n\
         <p><a href=/share/>share</a> · <a href=/hosts/>host files</a>\n",
    );
    runs(site, &mut page);
    page.push_str("<h2>Machines with jobs</h2>\n");
    // Writing to a String cannot fail.
    match list::jobs(&site.hosts) {
        Err(error) => {
            let _ = writeln!(page, "<p>{}", escape(&format!("{error:#}")));
        }
        Ok(jobs) if jobs.is_empty() => {
            page.push_str("<p>None: every machine boots from its disk.\n");
        }
        Ok(jobs) => {
            page.push_str("<table><tr><th>machine<th>action<th>image\n");
            for job in jobs {
                let shown = |text: Option<String>| escape(&printable(&text.unwrap_or_default()));
                let _ = write!(
                    page,
                    "<tr><td><a href=\"/hosts/{}\">{}</a><td>{}<td>{}",
                    component(&job.file),
                    escape(&job.machine),
                    job.action.as_deref().unwrap_or("wrong"),
                    shown(job.image.or(job.error)),
                );
                if let Some(note) = job.note {
                    let _ = write!(page, "<br>{}: {}", shown(Some(job.file)), escape(&note));
                }
                page.push('\n');
            }
            page.push_str("</table>\n");
        }
    }
    if let Some(wrong) = site.fleet.wrong() {
        let _ = write!(
            page,
            "<h2>fleet.toml is wrong</h2>\n<p>Meanwhile: {}.\n<pre>{}</pre>\n",
            wrong.meanwhile,
            escape(&printable_lines(&wrong.why))
        );
    }
    page.push_str("<h2>Lately</h2>\n<pre>");
    for line in site.journal.last().iter().rev() {
        let _ = writeln!(page, "{}", escape(line));
    }
    page.push_str("</pre>\n");
    page
}

/// Lines of which each may name what a stranger wrote into a file.
fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}

/// What failed last, its reason first, and who is at work. A machine whose later run went well has not failed.
fn runs(site: &Site, page: &mut String) {
    let newest = Filter {
        last: Some(LOOKED_AT),
        ..Filter::default()
    };
    let runs = match view::runs(site, &newest) {
        Ok(runs) => runs,
        Err(error) => {
            let why = escape(&format!("the runs cannot be read: {error}"));
            let _ = writeln!(page, "<p>{why}");
            return;
        }
    };
    let mut seen = HashSet::new();
    let last: Vec<&Run> = runs
        .iter()
        .filter(|run| seen.insert(run.summary.place()))
        .collect();
    let of = |states: &[State]| -> Vec<&&Run> {
        last.iter()
            .filter(|run| states.contains(&run.state))
            .collect()
    };
    let (failed, working) = (of(&[State::Failed, State::Silent]), of(&[State::Running]));
    if !failed.is_empty() {
        page.push_str("<h2>Failed</h2>\n<table><tr><th>why<th>machine<th>action<th>when\n");
        for run in failed {
            let when = run.summary.ended.as_ref().unwrap_or(&run.summary.began);
            let why = match run.state {
                State::Silent => "it has not reported for minutes, and has not ended",
                _ => &run.summary.reason,
            };
            row(page, [why, run.summary.name(), &run.summary.action, when]);
        }
        page.push_str("</table>\n");
    }
    if !working.is_empty() {
        page.push_str(
            "<h2>At work</h2>\n<table><tr><th>machine<th>action<th>disk<th>done<th>rate<th>left\n",
        );
        for run in working {
            let [disk, done, rate, left] = progress(run);
            let summary = &run.summary;
            row(
                page,
                [summary.name(), &summary.action, &disk, &done, &rate, &left],
            );
        }
        page.push_str("</table>\n");
    }
}

fn row<const N: usize>(page: &mut String, cells: [&str; N]) {
    page.push_str("<tr>");
    for cell in cells {
        let _ = write!(page, "<td>{}", escape(&printable(cell)));
    }
    page.push('\n');
}

/// Disk, percent, rate and time left; empty where they are not known.
fn progress(run: &Run) -> [String; 4] {
    let Some(live) = &run.progress else {
        return Default::default();
    };
    let done = match live.percent {
        Some(percent) => format!("{percent} %"),
        None => units::bytes(live.moved.done),
    };
    let left = live.seconds_left.map(Duration::from_secs);
    [
        format!("{} {}", render::doing(live.act()), live.about.disk),
        done,
        render::rate(live.rate),
        left.map(units::duration).unwrap_or_default(),
    ]
}
